"""From a foreign file or folder to a `TrainState`: the one path that `inspect`, `normalize` and `load_model` share.

Order: bytes -> object -> layout -> clean names -> network -> optimizer. Each stage refuses in its own words and leaves
its decisions. No value of a tensor is read on the way, so that looking at a large file costs nothing; whether the
values are whole and finite is settled by whoever reads them, with `settle`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.architecture import recognise
from orchestrator.checkpoint.formats import Contents, Extracted, Identity, read_checkpoint, take_apart
from orchestrator.checkpoint.formats.scan import size_of
from orchestrator.checkpoint.names import clean_names
from orchestrator.checkpoint.optimizer import carry_over, fresh, steps_done
from orchestrator.checkpoint.report import InspectReport, count_dtypes, count_parameters, parts
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource, Json, Provenance, TrainState
from orchestrator.checkpoint.weights import cast_decisions, finite_decisions, require_plain
from orchestrator.config import load_model_config
from orchestrator.errors import ConfigError

ModelOption = AnyModelConfig | Mapping[str, Any] | str | Path | None
"""A network as a person gives it: a config, the same as a mapping, or a YAML file (also LatentSync's own)."""

_CHOICES = {"dtype": ("float32", "keep"), "weights": ("raw", "ema")}


@dataclass(frozen=True)
class Options:
    """How to normalize. Everything here is part of the content hash."""

    dtype: str = "float32"
    """`float32`: cast floating-point weights; `keep`: leave them as they are."""
    allow_non_finite: bool = False
    """Take weights with NaN or infinity."""
    weights: str = "raw"
    """`raw`: the weights that the optimizer steps; `ema`: their running average, where the file has one."""

    def __post_init__(self) -> None:
        problems = [
            f"`{name}` must be {' or '.join(f'`{choice}`' for choice in choices)}, but is `{getattr(self, name)}`"
            for name, choices in _CHOICES.items()
            if getattr(self, name) not in choices
        ]
        if problems:
            raise ConfigError(problems, source="the normalize call")

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Converted:
    """A foreign file, understood."""

    path: Path
    """The file or folder."""
    contents: Contents
    """What was read."""
    state: TrainState
    """Its state, resumable as far as the file goes; weights still have the file's types."""
    format: str
    """What is laid out in the file."""
    architecture: str
    """How the network was recognised."""
    decisions: tuple[Decision, ...]
    """What had to be settled."""
    ignored: tuple[str, ...]
    """Entries that are not carried over."""
    options: Options
    """How it was converted."""

    @property
    def as_float32(self) -> bool:
        """Whether weights are cast when they are read."""
        return self.options.dtype == "float32"

    def settle(self, non_finite: Sequence[str], optimizer_is_finite: bool) -> Converted:
        """The same, once the values of its tensors were looked at.

        Raises:
            CheckpointError: `corrupt`, when weights are not finite and that is not allowed.
        """
        decisions = list(self.decisions)
        decisions += finite_decisions(non_finite, len(self.state.weights), self.path, self.options.allow_non_finite)
        state = self.state
        if not optimizer_is_finite:
            decisions = [decision for decision in decisions if decision.field != "optimizer"]
            decisions.append(fresh("the file's moments hold NaN or infinity"))
            state = replace(state, optimizer=None)
        return replace(self, state=state, decisions=tuple(decisions))

    def with_provenance(self, identity: Identity) -> TrainState:
        """The state, which remembers where it came from."""
        provenance = Provenance(
            file_name=self.path.name,
            sha256=identity.sha256,
            size=identity.size,
            container=self.contents.container,
            format=self.format,
            architecture=self.architecture,
            placeholders=self.contents.placeholders,
            decisions=self.decisions,
        )
        return replace(self.state, provenance=provenance)

    def report(self, identity: Identity | None) -> InspectReport:
        """What was found and settled; without an identity the values of the tensors were not looked at."""
        present, missing = parts(self.state)
        return InspectReport(
            path=str(self.path),
            container=self.contents.container,
            format=self.format,
            architecture=self.architecture,
            model=self.state.model,
            parameters=count_parameters(self.state),
            dtypes=count_dtypes(self.state.weights),
            step=self.state.step,
            samples=self.state.samples,
            present=present,
            missing=missing,
            decisions=self.decisions,
            placeholders=self.contents.placeholders,
            ignored=self.ignored,
            sha256=identity.sha256 if identity else "",
            size=size_of(self.contents.parts),
            values_checked=identity is not None,
        )


def convert(path: Path, model_config: ModelOption, options: Options) -> Converted:
    """Understand a foreign file or folder without reading the values of its tensors.

    Raises:
        CheckpointError: it is refused; `reason` says why.
        ConfigError: `model_config` is no working network.
    """
    contents = read_checkpoint(path)
    found = take_apart(path, contents, options.weights)
    weights, renamed = clean_names(found.weights, str(path))
    require_plain(weights, path, size_of(contents.parts))
    given, given_by = _given(path, found, model_config)
    network = recognise(weights, str(path), given=given, source=given_by)
    optimizer, carried = carry_over(found.optimizer, network.config, found.no_optimizer)
    if optimizer is not None:
        found = _with_steps(found, steps_done(optimizer))
    state = TrainState(
        model=network.config,
        weights={name: tensor.detach() for name, tensor in weights.items()},
        step=found.step or 0,
        epoch=found.epoch or 0,
        optimizer=optimizer,
        scaler=found.scaler,
        schedule=found.schedule,
        best=found.best,
        history=found.history,
        options=options.to_dict(),
    )
    casts = cast_decisions(weights, options.dtype)
    decisions = (
        *network.decisions, *renamed, *casts, *found.decisions, *contents.notes, *carried, *_defaults(found)
    )  # fmt: skip
    return Converted(path, contents, state, found.format, network.how, decisions, found.ignored, options)


def _given(path: Path, found: Extracted, option: ModelOption) -> tuple[AnyModelConfig | None, DecisionSource]:
    """The network where somebody says it: the caller, a YAML file of the same name beside the file, or the file."""
    if option is not None:
        if isinstance(option, (str, Path, Mapping)):
            return load_model_config(option), DecisionSource.OPTION
        return option, DecisionSource.OPTION
    beside = next((path.with_suffix(s) for s in (".yaml", ".yml") if path.with_suffix(s).is_file()), None)
    if beside is not None and beside != path:
        return load_model_config(beside), DecisionSource.OPTION
    return found.model_config, DecisionSource.FILE


def _with_steps(found: Extracted, done: int) -> Extracted:
    """The step by the optimizer's own counters, where the file has no other; otherwise whether they agree."""
    if found.step == done:
        return found
    if found.step is not None:
        why = f"the file's optimizer has done {done} steps, its counter says {found.step}; each is kept as it is"
        told = Decision("optimizer.steps", DecisionSource.FILE, done, why)
        return replace(found, decisions=(*found.decisions, told))
    why = "; ".join(
        [*(decision.why for decision in found.decisions if decision.field == "step"), "its optimizer says so"]
    )
    rest = [decision for decision in found.decisions if decision.field != "step"]
    best = replace(found.best, step=found.best.step or done) if found.best else None
    told = Decision("step", DecisionSource.DERIVED, done, why)
    return replace(found, step=done, best=best, decisions=(told, *rest))


def _defaults(found: Extracted) -> tuple[Decision, ...]:
    """What the file does not say."""
    position = "the file does not say how many samples were consumed; the sample stream starts at its beginning"
    missing = "the file holds none; it starts fresh"
    decisions = [Decision("samples", DecisionSource.DEFAULT, 0, position)]
    absent = [name for name in ("scaler", "schedule", "best") if getattr(found, name) is None]
    told = {decision.field for decision in found.decisions}
    absent = [name for name in (*absent, "rng") if name not in told]
    decisions += [Decision(name, DecisionSource.DEFAULT, None, missing) for name in absent]
    if found.ignored:
        why = "entries of the file that are not part of a training state"
        decisions.append(Decision("ignored", DecisionSource.FILE, list(found.ignored), why))
    return tuple(decisions)
