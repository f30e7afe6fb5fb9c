"""From a foreign file to a `TrainState`: the one path that `inspect`, `normalize` and `load_model` share.

Order: bytes -> object -> layout -> clean names -> network -> types -> optimizer. Each stage refuses in its own words
and leaves its decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.architecture import Recognition, recognise
from orchestrator.checkpoint.formats import Contents, Extracted, SourceFile, open_source, read_file
from orchestrator.checkpoint.names import strip_prefixes
from orchestrator.checkpoint.optimizer import carry_over
from orchestrator.checkpoint.report import InspectReport, count_dtypes, count_parameters, parts
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource, Json, Provenance, TrainState
from orchestrator.checkpoint.tensors import hash_file
from orchestrator.checkpoint.weights import cast, require_finite, require_plain
from orchestrator.config import load_model_config
from orchestrator.errors import ConfigError

ModelOption = AnyModelConfig | Mapping[str, Any] | str | Path | None
"""A network as a person gives it: a config, the same as a mapping, or a YAML file (also LatentSync's own)."""


@dataclass(frozen=True)
class Options:
    """How to normalize. Everything here is part of the content hash."""

    dtype: str = "float32"
    """`float32`: cast floating-point weights; `keep`: leave them as they are."""
    allow_non_finite: bool = False
    """Take weights with NaN or infinity."""

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "keep"):
            raise ConfigError(
                [f"`dtype` must be `float32` or `keep`, but is `{self.dtype}`"], source="the normalize call"
            )

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Converted:
    """A foreign file, understood."""

    state: TrainState
    """Its state, resumable as far as the file goes."""
    report: InspectReport
    """What was found and settled."""


def convert(path: str | Path, model_config: ModelOption, options: Options) -> Converted:
    """Read a foreign file into a state.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
        ConfigError: `model_config` is no working network.
    """
    source = open_source(path)
    contents, found = read_file(source)
    weights, renamed = strip_prefixes(found.weights, str(path))
    require_plain(weights, source)
    given, given_by = _given(source, found, model_config)
    network = recognise(weights, str(path), given=given, source=given_by)
    dtypes = count_dtypes(weights)
    weights, casts = cast(weights, options.dtype)
    finite = require_finite(weights, source, options.allow_non_finite)
    optimizer, carried = carry_over(found.optimizer, network.config)
    state = TrainState(
        model=network.config,
        weights=weights,
        step=found.step or 0,
        epoch=found.epoch or 0,
        optimizer=optimizer,
        history=found.history,
        options=options.to_dict(),
    )
    decisions = (*network.decisions, *renamed, *casts, *finite, *found.decisions, *carried, *_defaults(found))
    return _with_report(state, source, contents, found, network, decisions, dtypes)


def _given(source: SourceFile, found: Extracted, option: ModelOption) -> tuple[AnyModelConfig | None, DecisionSource]:
    """The network where somebody says it: the caller, a YAML file of the same name beside the file, or the file."""
    if option is not None:
        if isinstance(option, (str, Path, Mapping)):
            return load_model_config(option), DecisionSource.OPTION
        return option, DecisionSource.OPTION
    beside = next((path for s in (".yaml", ".yml") if (path := source.path.with_suffix(s)).is_file()), None)
    if beside is not None and beside != source.path:
        return load_model_config(beside), DecisionSource.OPTION
    return found.model_config, DecisionSource.FILE


def _defaults(found: Extracted) -> tuple[Decision, ...]:
    """What no foreign file says."""
    position = "the file does not say how many samples were consumed; the sample stream starts at its beginning"
    missing = "the file holds none; it starts fresh"
    decisions = [Decision("samples", DecisionSource.DEFAULT, 0, position)]
    decisions += [Decision(field, DecisionSource.DEFAULT, None, missing) for field in ("scaler", "rng", "best")]
    if found.ignored:
        why = "entries of the file that are not part of a training state"
        decisions.append(Decision("ignored", DecisionSource.FILE, list(found.ignored), why))
    return tuple(decisions)


def _with_report(
    state: TrainState,
    source: SourceFile,
    contents: Contents,
    found: Extracted,
    network: Recognition,
    decisions: tuple[Decision, ...],
    dtypes: dict[str, int],
) -> Converted:
    provenance = Provenance(
        file_name=source.path.name,
        sha256=hash_file(source.path),
        size=source.size,
        container=contents.container,
        format=found.format,
        architecture=network.how,
        allowed_classes=contents.allowed_classes,
        decisions=decisions,
    )
    state = replace(state, provenance=provenance)
    present, missing = parts(state)
    report = InspectReport(
        path=str(source.path),
        container=contents.container,
        format=found.format,
        architecture=network.how,
        model=network.config,
        parameters=count_parameters(state),
        dtypes=dtypes,
        step=state.step,
        samples=state.samples,
        present=present,
        missing=missing,
        decisions=decisions,
        allowed_classes=contents.allowed_classes,
        ignored=found.ignored,
        sha256=provenance.sha256,
        size=source.size,
    )
    return Converted(state, report)
