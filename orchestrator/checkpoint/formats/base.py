"""What containers, folders and layouts agree on.

A *container* turns the bytes of one file into one Python object without running anything that the file names; a
*folder* format does the same for a directory; a *layout* finds weights, step and optimizer in that object. All are
chosen by content, in a fixed order, never by the extension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.pickles import runs_code
from orchestrator.checkpoint.state import AnyModelConfig, Best, Decision, Json
from orchestrator.errors import CheckpointError, RefusalReason


@dataclass(frozen=True)
class SourceFile:
    """A file before it is known what it is."""

    path: Path
    """Where it is, or the archive that it is in."""
    blob: Blob
    """Its bytes."""
    depth: int = 0
    """How many archives it was unpacked from."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.blob.size

    @property
    def head(self) -> bytes:
        """Its first bytes."""
        return self.blob.head

    @property
    def name(self) -> str:
        """For messages."""
        return self.blob.name


@dataclass(frozen=True)
class Record:
    """A stretch of a file whose checksum was recorded."""

    name: str
    """For messages."""
    start: int
    """Its first byte."""
    size: int
    """Its length."""
    crc: int
    """CRC-32 of its bytes."""


@dataclass(frozen=True)
class Part:
    """One of the files that a checkpoint was read from."""

    blob: Blob
    """Its bytes; the name is relative to the checkpoint."""
    records: tuple[Record, ...] = ()
    """Checksums that were not compared yet, in the order of their places."""
    outer: bool = True
    """Whether it is a file that a person holds; otherwise it was unpacked from one."""


@dataclass(frozen=True)
class Contents:
    """What a container or a folder held."""

    container: str
    """Name of the kind, e.g. `torch-zip`."""
    data: Any
    """The object: nested dicts, lists, numbers, tensors that look into the parts, and `Inert` objects."""
    parts: tuple[Part, ...]
    """The files that it came from."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Free strings beside the tensors (safetensors only)."""
    placeholders: tuple[str, ...] = ()
    """Names that stayed inert, dangerous ones first."""
    notes: tuple[Decision, ...] = ()
    """What reading had to settle."""

    def release(self) -> None:
        """Give back the memory of what was read so far; tensors read it again when they are used."""
        for part in self.parts:
            part.blob.release()


@dataclass(frozen=True)
class Container:
    """A kind of file."""

    name: str
    """As it is reported, e.g. `torch-zip`."""
    detect: Callable[[SourceFile], bool]
    """Whether a file is of this kind."""
    read: Callable[[SourceFile], Contents]
    """Read it, or raise a CheckpointError that says why not."""


@dataclass(frozen=True)
class FolderFormat:
    """A kind of directory."""

    name: str
    """As it is reported, e.g. `accelerate`."""
    detect: Callable[[Path], bool]
    """Whether a directory is of this kind, by the files in it."""
    read: Callable[[Path], Contents]
    """Read it, or raise a CheckpointError that says why not."""


@dataclass(frozen=True)
class Extracted:
    """What a layout found, still with the names and types of the file."""

    format: str
    """Name of the layout, e.g. `latentsync.training`."""
    weights: dict[str, Tensor]
    """Tensors by the names in the file."""
    step: int | None = None
    """Optimizer steps done; none when the file does not say."""
    epoch: int | None = None
    """Epochs done; none when the file does not say."""
    history: list[dict[str, Json]] = field(default_factory=list)
    """Past figures, one row per step."""
    best: Best | None = None
    """The best validation so far."""
    optimizer: Mapping[str, Any] | list[Any] | None = None
    """The state dict of a torch optimizer, numbered parameters and all; a list where the file has several."""
    no_optimizer: str = "the file holds none"
    """Why there is no optimizer."""
    schedule: dict[str, Json] | None = None
    """The state of a learning-rate schedule, as plain data."""
    scaler: dict[str, Json] | None = None
    """The state of a gradient scaler, as plain data."""
    model_config: AnyModelConfig | None = None
    """The network, where the file itself describes it."""
    decisions: tuple[Decision, ...] = ()
    """What the layout had to settle."""
    ignored: tuple[str, ...] = ()
    """Top-level entries that are not carried over."""


@dataclass(frozen=True)
class Layout:
    """A way to lay out a training state in one object."""

    name: str
    """Family of formats, e.g. `latentsync`."""
    detect: Callable[[Contents], bool]
    """Whether the object is laid out so."""
    extract: Callable[[Contents, str, Path], Extracted]
    """Take it apart; with the weights that are wanted, `raw` or `ema`, and the path for messages."""


def refuse(source: SourceFile | Path, reason: RefusalReason, what: str, hint: str) -> CheckpointError:
    """The error for a file or folder that is not read; `what` goes on after its name."""
    path = source if isinstance(source, Path) else source.path
    name = (source.name or source.resolve().name) if isinstance(source, Path) else source.blob.name
    return CheckpointError(f"{name} {what}", reason=reason, path=str(path), hint=hint)


def damaged(source: SourceFile | Path, how: str) -> CheckpointError:
    """The refusal of a file that is cut short or changed."""
    return refuse(source, RefusalReason.CORRUPT, f"is damaged: {how}", "download or copy it again and compare sizes")


def no_weights(source: SourceFile | Path, holds: str, placeholders: tuple[str, ...]) -> CheckpointError:
    """The refusal of what has no weights: as unsafe, when all that it holds would run code."""
    dangerous = [name for name in placeholders if runs_code(name)]
    if dangerous:
        what = f"holds no model weights, but code that a careless reader would run: {', '.join(dangerous[:8])}"
        hint = "delete it and ask where it came from: it is made to attack whoever loads it; nothing of it was run"
        return refuse(source, RefusalReason.UNSAFE, what, hint)
    if "torch.distributed.checkpoint" in holds:
        what = "is the description of a folder of torch.distributed.checkpoint, and holds no weights itself"
        return refuse(source, RefusalReason.NO_WEIGHTS, what, "give the folder that it lies in")
    if "__torch__." in holds:
        what = "is a TorchScript program without parameters, as after `torch.jit.freeze`, which takes their names away"
        return refuse(source, RefusalReason.NO_WEIGHTS, what, "give the program as it was before, or the weights")
    hint = "known are a `state_dict` entry, many other names for it, a bare dict of tensors, and whole modules"
    named = f"; it names {', '.join(placeholders[:6])}, of which nothing was imported" if placeholders else ""
    return refuse(source, RefusalReason.NO_WEIGHTS, f"holds no model weights, but {holds}{named}", hint)


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(object_pairs_hook=)`: an object in which no name stands twice.

    Raises:
        ValueError: one does.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def readable_size(count: int) -> str:
    """A number of bytes for a person."""
    for unit, bytes_in_it in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= bytes_in_it:
            return f"{count / bytes_in_it:.1f} {unit}"
    return f"{count} bytes"
