"""The kinds of cases. Each takes what hypothesis drew, makes a file or folder of it, and asks what it is.

Contract: a kind answers with what came of it (`read`, or the reason of the refusal) and raises on a violation.
"""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from orchestrator.checkpoint import inspect, normalize
from orchestrator.errors import CheckpointError, OrchestratorError
from tests.fuzz import seeds
from tests.fuzz.guard import Guard
from tests.fuzz.strategies import CHANGES, PROGRAMS, STRUCTURES, changed


@dataclass(frozen=True)
class Kind:
    """A kind of case."""

    draws: st.SearchStrategy[Any]
    """What hypothesis draws."""
    make: Callable[[Path, Any], Path]
    """Writes the file or folder that is looked at."""
    share: float
    """Which part of all cases it gets."""


class Arena:
    """A folder in which cases are run, one after the other.

    Args:
        root: an existing, empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.case = root / "case"
        self.out = root / "out"
        seeds.files(), seeds.folders()  # the libraries that make them leave things among temporary files
        self.guard = Guard(root)
        for make in (lambda: _file(self._fresh(), seeds.files()["torch-zip"]), self._folder_seed):
            path = make()
            inspect(path, model_config=seeds.CONFIG)  # imports whatever is imported lazily
            normalize(path, self.out, model_config=seeds.CONFIG)
        self._folder_seed()

    def run(self, kind: Kind, drawn: Any) -> str:
        """One case.

        Raises:
            Violation: something happened that must not.
            Exception: anything but an `OrchestratorError` escaped.
        """
        path = kind.make(self._fresh(), drawn)
        with self.guard.watch():
            outcome = self._ask(path)
        left = {item.name for item in self.root.iterdir()} - {"case", "out"}
        assert not left, f"left behind: {left}"
        assert not any(item.name.startswith(".partial") for item in self.out.iterdir()), "a partial folder is left"
        return outcome

    def _ask(self, path: Path) -> str:
        try:
            inspect(path, model_config=seeds.CONFIG)
            normalize(path, self.out, model_config=seeds.CONFIG)
        except CheckpointError as error:
            assert error.hint and str(error), "a refusal without advice"
            return str(error.reason)
        except OrchestratorError as error:
            return type(error).__name__
        return "read"

    def _fresh(self) -> Path:
        shutil.rmtree(self.case, ignore_errors=True)
        self.case.mkdir()
        for item in self.out.iterdir() if self.out.is_dir() else ():
            shutil.rmtree(item)
        return self.case

    def _folder_seed(self) -> Path:
        return _folder(self._fresh(), seeds.folders()["sharded"])


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "file.pt"
    path.write_bytes(content)
    return path


def _folder(folder: Path, files: dict[str, bytes]) -> Path:
    root = folder / "folder"
    for name, content in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def _changed_file(folder: Path, drawn: Any) -> Path:
    name, other, changes = drawn
    return _file(folder, changed(seeds.files()[name], changes, seeds.files()[other]))


def _changed_folder(folder: Path, drawn: Any) -> Path:
    name, which, changes, remove = drawn
    files = dict(seeds.folders()[name])
    target = sorted(files)[which % len(files)]
    if remove:
        del files[target]
    else:
        files[target] = changed(files[target], changes, seeds.files()["torch-zip"])
    return _folder(folder, files)


def _program(folder: Path, drawn: Any) -> Path:
    stream, wrapped = drawn
    if not wrapped:
        return _file(folder, stream)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seeds.files()["torch-zip"])) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, stream if info.filename.endswith("data.pkl") else old.read(info))
    return _file(folder, buffer.getvalue())


def _structure(folder: Path, drawn: Any) -> Path:
    value, how = drawn
    path = folder / "file.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=how == "zip")
    return path


def _beside(folder: Path, drawn: Any) -> Path:
    """Good weights with anything in the other entries."""
    entries, key = drawn
    path = folder / "file.pt"
    torch.save({**seeds.everything(), **entries, key: seeds.weights()}, path)
    return path


_FILE = st.deferred(lambda: st.sampled_from(sorted(seeds.files())))
_FOLDER = st.deferred(lambda: st.sampled_from(sorted(seeds.folders())))
_ENTRIES = st.dictionaries(st.deferred(lambda: st.sampled_from(sorted(seeds.everything()))), STRUCTURES, max_size=4)
_KEYS = st.sampled_from(["state_dict", "model", "net", "ema", "weights"])

KINDS = {
    "changed files": Kind(st.tuples(_FILE, _FILE, CHANGES), _changed_file, 0.45),
    "changed folders": Kind(
        st.tuples(_FOLDER, st.integers(0, 50), CHANGES, st.sampled_from([False, False, False, True])),
        _changed_folder,
        0.2,
    ),
    "pickle programs": Kind(st.tuples(PROGRAMS, st.booleans()), _program, 0.2),
    "structures": Kind(st.tuples(STRUCTURES, st.sampled_from(["zip", "legacy", "pickle"])), _structure, 0.1),
    "beside weights": Kind(st.tuples(_ENTRIES, _KEYS), _beside, 0.05),
}
"""All kinds by name."""
