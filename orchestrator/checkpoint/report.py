"""What `inspect` and `normalize` tell about a checkpoint: found, missing, settled.

Contract: `to_dict` is plain JSON data; `lines` is the same for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from orchestrator.checkpoint.formats.pickles import runs_code
from orchestrator.checkpoint.state import AnyModelConfig, Decision, Json, TrainState
from orchestrator.checkpoint.tensors import DTYPE_NAMES

CANONICAL = "canonical"
"""Format and container of this product's own directories."""

_PARTS = ("optimizer", "scaler", "schedule", "rng", "best")


@dataclass(frozen=True)
class InspectReport:
    """Everything about a readable checkpoint except its tensors."""

    path: str
    """The file or directory."""
    container: str
    """How the bytes are packed."""
    format: str
    """What is laid out in them."""
    architecture: str
    """How the network was recognised."""
    model: AnyModelConfig
    """The network."""
    parameters: int
    """Numbers in the weights, buffers not counted where they are integers."""
    dtypes: dict[str, int]
    """Element type in the file -> number of tensors."""
    step: int
    """Optimizer steps done; 0 when the file does not say."""
    samples: int
    """Position in the sample stream; 0 when the file does not say."""
    present: tuple[str, ...]
    """Parts of a training state that are there."""
    missing: tuple[str, ...]
    """Parts that are not, and start fresh."""
    decisions: tuple[Decision, ...]
    """What had to be settled."""
    placeholders: tuple[str, ...]
    """Classes and functions that the file names and nobody here imported or called, dangerous ones first."""
    ignored: tuple[str, ...] = ()
    """Entries of the file that are not carried over."""
    sha256: str = ""
    """Digest of the file; empty for a directory."""
    size: int = 0
    """Bytes of the file; 0 for a directory."""
    values_checked: bool = True
    """Whether every value was read: checksums, NaN and infinity."""

    @property
    def resumable(self) -> bool:
        """Whether training would continue exactly: optimizer and data position are both there."""
        return "optimizer" in self.present and "samples" in self.present

    @property
    def averaged(self) -> bool:
        """Whether it is judged, exported and handed on by the running average of its weights."""
        return "ema" in self.present

    @property
    def weights_line(self) -> str:
        """Which weights count; empty where there are no others."""
        if not self.averaged:
            return ""
        return "the running average is what is evaluated, exported and started from; resume and fork take both"

    @property
    def dangerous(self) -> tuple[str, ...]:
        """Names in the file that would run code in a reader that follows them."""
        return tuple(name for name in self.placeholders if runs_code(name))

    @property
    def values_line(self) -> str:
        """What is known about the values of the tensors."""
        if self.values_checked:
            return "every value was read: checksums hold, and what is not finite is told above"
        return "values were not read: checksums, NaN and infinity are not settled (--deep reads them)"

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        raw = asdict(self)
        raw["model"] = self.model.model_dump(mode="json")
        raw["decisions"] = [decision.to_dict() for decision in self.decisions]
        for key in ("present", "missing", "placeholders", "ignored"):
            raw[key] = list(raw[key])
        dangerous = list(self.dangerous)
        return {**raw, "resumable": self.resumable, "dangerous": dangerous, "safe": not dangerous}

    def lines(self) -> list[str]:
        """For a person, one fact per line."""
        facts = [
            f"{self.path}: {self.format} in {self.container}",
            f"network: {self.architecture}, {self.parameters:,} parameters",
            f"step {self.step}, data position {self.samples}",
            f"present: {', '.join(self.present)}",
            f"missing: {', '.join(self.missing) or 'nothing'}",
        ]
        facts += [f"weights: {self.weights_line}"] * self.averaged
        facts += [f"{d.field} = {d.value} ({d.source}): {d.why}" for d in self.decisions]
        facts += [f"not carried over: {', '.join(self.ignored)}"] * bool(self.ignored)
        return [*facts, f"safety: {self._safety_line()}", f"values: {self.values_line}"]

    def _safety_line(self) -> str:
        if self.dangerous:
            return (
                f"DANGER, it names code that a careless reader would run: {', '.join(self.dangerous)}; nothing was run"
            )
        if self.placeholders:
            return f"classes that became placeholders: {', '.join(self.placeholders)}; none was imported or called"
        return "it names nothing but tensors and plain data"


def parts(state: TrainState) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(present, missing) parts of a state."""
    there = {name: getattr(state, name) is not None for name in _PARTS}
    there = {"weights": True, "step": state.step > 0, "samples": state.samples > 0, **there}
    there["history"] = bool(state.history)
    there |= {"ema": True} if state.ema is not None else {}  # a file without one lacks nothing
    return tuple(name for name, is_there in there.items() if is_there), tuple(
        name for name, is_there in there.items() if not is_there
    )


def count_parameters(state: TrainState) -> int:
    """Numbers in the floating-point tensors."""
    return sum(tensor.numel() for tensor in state.weights.values() if tensor.is_floating_point())


def count_dtypes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Element type -> number of tensors."""
    counts: dict[str, int] = {}
    for tensor in weights.values():
        name = DTYPE_NAMES[tensor.dtype]
        counts[name] = counts.get(name, 0) + 1
    return counts
