"""What containers and layouts agree on.

A *container* turns the bytes of a file into one Python object without running anything that the file names; a *layout*
finds weights, step and optimizer in that object. Both are chosen by content, in a fixed order, never by the extension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.state import AnyModelConfig, Decision, Json
from orchestrator.errors import CheckpointError, RefusalReason

HEAD = 4096
"""Bytes from the beginning of a file that detectors look at."""


@dataclass(frozen=True)
class SourceFile:
    """A file before it is known what it is."""

    path: Path
    """Where it is."""
    size: int
    """Its length in bytes."""
    head: bytes
    """Its first bytes, at most `HEAD`."""


@dataclass(frozen=True)
class Contents:
    """What a container held."""

    container: str
    """Name of the container."""
    data: Any
    """The object: for the formats that are known, nested dicts, lists, numbers and tensors."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Free strings beside the tensors (safetensors only)."""
    allowed_classes: tuple[str, ...] = ()
    """Classes that the file names beside tensors; inert stand-ins took their place."""


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
    optimizer: Mapping[str, Any] | None = None
    """The state dict of a torch optimizer, numbered parameters and all."""
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
    extract: Callable[[Contents], Extracted]
    """Take it apart."""


def refuse(source: SourceFile, reason: RefusalReason, what: str, hint: str) -> CheckpointError:
    """The error for a file that is not read; `what` goes on after the file name."""
    return CheckpointError(f"{source.path.name} {what}", reason=reason, path=str(source.path), hint=hint)


def readable_size(count: int) -> str:
    """A number of bytes for a person."""
    for unit, bytes_in_it in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= bytes_in_it:
            return f"{count / bytes_in_it:.1f} {unit}"
    return f"{count} bytes"
