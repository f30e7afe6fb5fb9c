"""What all folder formats share: the files of a folder, read one by one and put together.

Contract: only plain files inside of the folder are read, links followed; every file that was read is a `Part`, so that
hashing and checksums cover it; names that stayed inert anywhere are reported together; whatever a file holds ends in
a value or in a CheckpointError that names the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.base import (
    Container,
    Contents,
    Part,
    Record,
    SourceFile,
    damaged,
    no_repeats,
    readable_size,
)
from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.containers import read_source
from orchestrator.checkpoint.formats.layouts.values import describe, is_tensor
from orchestrator.checkpoint.formats.paths import member_of
from orchestrator.checkpoint.formats.pickles import NumpyArray, report_names
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.errors import CheckpointError

_MOST_FILES = 100_000
_LONGEST_TEXT = 64 << 20
_LONGEST_NAME = 1000
_DEEPEST = 3
_depth: ContextVar[int] = ContextVar("folders within archives", default=0)


def files_in(folder: Path) -> list[str]:
    """Names of the plain files directly in a folder, in order; never of pipes, sockets and devices."""
    return _names_in(folder, Path.is_file)


def folders_in(folder: Path) -> list[str]:
    """Names of the folders directly in a folder, in order; not of links, which could lead anywhere."""
    return _names_in(folder, lambda path: path.is_dir() and not path.is_symlink())


def peek(folder: Path) -> list[str]:
    """Names of the plain files in an inner folder; none where it cannot be read."""
    try:
        return files_in(folder)
    except OSError:
        return []


def by_number(names: list[str]) -> list[str]:
    """In the order in which a trainer counts: `step_9` before `step_10`."""
    return sorted(names, key=lambda name: [int(digits) for digits in re.findall(r"[0-9]+", name)])


class FolderReader:
    """Reads files of one folder and remembers what it read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}
        self.names: set[str] = set()
        self.metadata: dict[str, str] = {}

    def blob(self, name: object) -> Blob:
        """The bytes of a file.

        Raises:
            CheckpointError: `corrupt` when it is missing or `name` is no name, `unsafe` when it lies elsewhere.
        """
        if not isinstance(name, str) or not 0 < len(name) < _LONGEST_NAME or not name.isprintable():
            raise damaged(self.folder, f"where it should name a file, it has {ascii(name)[:80]}")
        if name not in self.parts:
            self.parts[name] = Part(Blob.of_file(member_of(self.folder, name), name))
        return self.parts[name].blob

    def text(self, name: str) -> str:
        """A text file; what is no UTF-8 is replaced.

        Raises:
            CheckpointError: also when it is too long to be text.
        """
        blob = self.blob(name)
        if blob.size > _LONGEST_TEXT:
            raise self.damaged(name, f"it has {readable_size(blob.size)}, but should be a short text")
        return bytes(blob.view).decode("utf-8", "replace")

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file.

        Raises:
            CheckpointError: it is none.
        """
        try:
            value = json.loads(self.text(name), object_pairs_hook=no_repeats)
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, f"it is no whole JSON file ({str(error)[:80]})") from error
        if not isinstance(value, dict):
            raise self.damaged(name, "it holds no JSON object")
        return value

    def object(self, name: str) -> Any:
        """The object in a torch, safetensors or pickle file; tensors look into the file.

        Raises:
            CheckpointError: the file is refused.
        """
        contents = self._read(name, self.blob(name), read_source)
        for part in contents.parts:
            self.parts[part.blob.name] = part
        self.metadata |= contents.metadata
        return contents.data

    def tensors(self, name: str) -> dict[str, Any]:
        """The tensors by name in a file; what else lies in the same dict is left.

        Raises:
            CheckpointError: it holds no tensors by name, or the file is refused.
        """
        data = self.object(name)
        found = {key: value for key, value in data.items() if is_tensor(value)} if isinstance(data, dict) else {}
        if not found and data != {}:
            raise self.damaged(name, f"it should hold tensors by name, but holds {describe(data)}")
        return found

    def mapping(self, name: str) -> dict[Any, Any]:
        """The dict in a file.

        Raises:
            CheckpointError: it holds something else, or the file is refused.
        """
        data = self.object(name)
        if not isinstance(data, dict):
            raise self.damaged(name, f"it should hold a dict, but holds {describe(data)}")
        return data

    def slice(self, name: str, start: int, length: int, read: Callable[[SourceFile], Contents]) -> Any:
        """The object in a stretch of a file.

        Raises:
            CheckpointError: the stretch is not whole, or is refused.
        """
        blob = self.blob(name)
        if not 0 <= start <= start + length <= blob.size:
            missing = f"it has {blob.size:,} bytes, but one of its items ends at {start + length:,}"
            raise self.damaged(name, missing)
        contents = self._read(name, Blob(name, blob.view[start : start + length]), read)
        found = [record for part in contents.parts for record in part.records]
        moved = [Record(r.name, start + r.start, r.size, r.crc) for r in found]
        records = sorted((*self.parts[name].records, *moved), key=lambda record: record.start)
        self.parts[name] = Part(blob, tuple(records))
        blob.release(start, start + length)  # numbers at odd addresses were copied
        return contents.data

    def damaged(self, name: str, how: str) -> CheckpointError:
        """The refusal of one of the files."""
        return damaged(SourceFile(self.folder, self.blob(name)), how)

    def left_out(self, names: list[str]) -> tuple[Decision, ...]:
        """That some files were not read."""
        if not (unread := [name for name in names if name not in self.parts]):
            return ()
        more = [f"and {len(unread) - 20} more"] if len(unread) > 20 else []
        why = "files of the folder that are no part of a training state; they were not read"
        return (Decision("files", DecisionSource.FILE, unread[:20] + more, why),)

    def contents(self, container: str, data: Any, **more: Any) -> Contents:
        """Everything that was read, as one."""
        ordered = tuple(self.parts[name] for name in sorted(self.parts))
        return Contents(container, data, ordered, self.metadata, report_names(self.names), **more)

    def _read(self, name: str, blob: Blob, read: Callable[[SourceFile], Contents]) -> Contents:
        before = _depth.get()
        if before >= _DEEPEST:  # an archive may hold a folder with an archive, and even itself
            raise self.damaged(name, f"folders and archives are in one another, more than {_DEEPEST} deep")
        token = _depth.set(before + 1)
        try:
            contents = read(SourceFile(self.folder / name, blob))
        finally:
            _depth.reset(token)
        self.names |= set(contents.placeholders)
        return contents


def one_of(*containers: Container) -> Callable[[SourceFile], Contents]:
    """Reads what these containers detect and nothing else."""

    def read(source: SourceFile) -> Contents:
        for container in containers:
            if container.detect(source):
                return container.read(source)
        begins = source.head[:8].hex(" ") or "nothing"
        raise damaged(source, f"an item in it is no torch file, but begins with {begins}")

    return read


def is_count(value: object, most: int = 1 << 48) -> TypeGuard[int]:
    """Whether it is a whole number that can count something."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < most


def is_shape(value: object) -> TypeGuard[Sequence[int]]:
    """Whether it is the shape of a tensor."""
    return isinstance(value, (tuple, list)) and len(value) <= 64 and all(map(is_count, value))


def a_tensor(value: object) -> Tensor | None:
    """A tensor, also where numpy wrote it; none for all else."""
    if isinstance(value, NumpyArray):
        return value.tensor()
    return value if isinstance(value, Tensor) else None


def steps_of(optimizer: object) -> int | None:
    """Steps that an optimizer has done, where it counts them and all its parameters agree."""
    states = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    if not isinstance(states, Mapping):
        return None
    found = {_step(state.get("step")) for state in states.values() if isinstance(state, Mapping)}
    return next(iter(found)) if len(found) == 1 else None


def step_decision(step: int) -> Decision:
    """That the step was taken from the optimizer."""
    why = "the folder does not say the step; its optimizer has done so many for every parameter"
    return Decision("step", DecisionSource.DERIVED, step, why)


def _step(value: object) -> int | None:
    if isinstance(value, Tensor):
        if value.numel() != 1 or not bool(torch.isfinite(value).all()):
            return None
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if is_count(value) else None


def _names_in(folder: Path, matters: Callable[[Path], bool]) -> list[str]:
    return sorted(path.name for path in _first(folder.iterdir()) if matters(path))


def _first(paths: Iterator[Path]) -> Iterator[Path]:
    return islice(paths, _MOST_FILES)
