"""The canonical training state: everything that a run needs to continue, and where each part of it came from.

What: `TrainState` is what every foreign file is turned into, what training saves and what it resumes from.
Contract: tensors are CPU tensors with clean names (no `module.`); everything else is plain JSON data. `optimizer=None`
means a fresh optimizer: zero moments beside a non-zero step would make Adam's bias correction wrong. Where a state
has a running average of its weights, that is what is judged, exported and handed on; training continues from both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from torch import Tensor

from orchestrator.config.model import AnyModelConfig as AnyModelConfig
from orchestrator.errors import CheckpointError, RefusalReason

Json = Any
"""Plain JSON data: None, bool, int, float, str, and lists and string-keyed dicts of them."""
OptimizerState = dict[str, dict[str, Tensor]]
"""Parameter name -> slot (`exp_avg`, `exp_avg_sq`, `step`) -> tensor; `step` is a float32 scalar as in torch."""


class DecisionSource(StrEnum):
    """Where a value of the state was taken from."""

    FILE = "file"
    """The file says so."""
    DEFAULT = "default"
    """The file does not say, and this product's default was taken."""
    OPTION = "option"
    """The person said so."""
    DERIVED = "derived"
    """It follows from something that the file says."""


@dataclass(frozen=True)
class Decision:
    """One thing that normalizing had to settle."""

    field: str
    """The part of the state, e.g. `optimizer` or `model.visual_encoder.downsample_factors`."""
    source: DecisionSource
    """Where the value comes from."""
    value: Json
    """The value, or a short description of it."""
    why: str
    """One sentence for a person."""

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        return {"field": self.field, "source": str(self.source), "value": self.value, "why": self.why}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Json]) -> Decision:
        """The inverse of `to_dict`."""
        return cls(raw["field"], DecisionSource(raw["source"]), raw["value"], raw["why"])


@dataclass(frozen=True)
class Provenance:
    """Which foreign file a state was made from, and how it was read."""

    file_name: str
    """Name of the file, without its folder."""
    sha256: str
    """Digest of the whole file; of a folder, of its files' names and digests."""
    size: int
    """Bytes of all files."""
    container: str
    """How the bytes are packed: `torch-zip`, `safetensors`, `torch-zip in gzip`, `accelerate`, ..."""
    format: str
    """What is laid out in them, e.g. `latentsync.training`."""
    architecture: str
    """How the network was recognised, e.g. `stable_syncnet (16_pixel_attn layout)`."""
    placeholders: tuple[str, ...] = ()
    """Classes and functions that the file names and nobody here imported or called, dangerous ones first."""
    decisions: tuple[Decision, ...] = ()
    """Everything that had to be settled."""

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        raw = dict(self.__dict__)
        raw["placeholders"] = list(self.placeholders)
        raw["decisions"] = [decision.to_dict() for decision in self.decisions]
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Json]) -> Provenance:
        """The inverse of `to_dict`."""
        values = dict(raw)
        values["placeholders"] = tuple(raw["placeholders"])
        values["decisions"] = tuple(Decision.from_dict(decision) for decision in raw["decisions"])
        return cls(**values)


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    metric: str
    """Its name, e.g. `val/accuracy`."""
    value: float
    """The figure."""
    step: int
    """The optimizer step at which it was measured."""


@dataclass(frozen=True)
class TrainState:
    """Everything that a run needs to continue."""

    model: AnyModelConfig
    """The network that the weights belong to."""
    weights: dict[str, Tensor]
    """Parameters and buffers by name, as the optimizer steps them."""
    step: int = 0
    """Optimizer steps done."""
    samples: int = 0
    """Samples consumed over all workers: the position in the sample stream."""
    epoch: int = 0
    """Whole passes over the corpus done."""
    optimizer: OptimizerState | None = None
    """Moments by parameter name; none means fresh."""
    ema: dict[str, Tensor] | None = None
    """Running average of the weights, under all their names; none where the run keeps none."""
    scaler: dict[str, Json] | None = None
    """State of the gradient scaler."""
    schedule: dict[str, Json] | None = None
    """State of a foreign learning-rate schedule, for information: ours is a function of configuration and step."""
    rng: dict[str, Tensor] | None = None
    """Random generator states by a free name, e.g. `rank0/cpu`, each a uint8 tensor."""
    best: Best | None = None
    """The best validation so far."""
    history: list[dict[str, Json]] = field(default_factory=list)
    """Small table of past figures, one row per step: `{"step": 10, "train/loss": 0.7}`."""
    progress: dict[str, Json] = field(default_factory=dict)
    """Whatever the trainer's own detectors must remember."""
    options: dict[str, Json] = field(default_factory=dict)
    """Options under which a foreign file was normalized; part of the content hash."""
    provenance: Provenance | None = None
    """The foreign file at the beginning of it all; not part of the content hash."""

    @property
    def judged_weights(self) -> dict[str, Tensor]:
        """The weights that validation measures and others are given: the running average, where there is one."""
        return self.weights if self.ema is None else self.ema

    def judged(self) -> TrainState:
        """This state with the weights it is judged by and no others.

        Of a state with a running average the optimizer goes too: its moments belong to the weights that were stepped.
        """
        return self if self.ema is None else replace(self, weights=self.ema, ema=None, optimizer=None)

    def plain(self) -> dict[str, Json]:
        """All that is no tensor, no history and not provenance, as plain JSON data: the content of `state.json`.

        Raises:
            CheckpointError: a value that JSON cannot hold exactly.
        """
        raw = {
            "model": self.model.model_dump(mode="json"),
            "step": self.step,
            "samples": self.samples,
            "epoch": self.epoch,
            "scaler": self.scaler,
            "best": dict(self.best.__dict__) if self.best else None,
            "schedule": self.schedule,
            "progress": self.progress,
            "options": self.options,
        }
        _require_plain(raw, "state")
        return raw


def _require_plain(value: Json, where: str) -> None:
    """Refuse what would come back from JSON as something else: int keys, tensors, arrays, sets."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _not_plain(f"key {key!r} of `{where}`", key)
            _require_plain(item, f"{where}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        for i, item in enumerate(value):
            _require_plain(item, f"{where}[{i}]")
    else:
        raise _not_plain(f"`{where}`", value)


def _not_plain(what: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{what} must be plain JSON data, but is a {type(value).__name__}",
        reason=RefusalReason.UNSUPPORTED,
        hint="convert it to numbers, strings, lists and string-keyed dicts before saving",
    )
