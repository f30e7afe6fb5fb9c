"""Where a run keeps its things.

    <storage>/<name>/run.json          what the run is: its configuration, written once
    <storage>/<name>/status.json       how far it is, rewritten at every report
    <storage>/<name>/journal.jsonl     what its workers reported, a line per report, decision and note
    <storage>/<name>/failures.jsonl    what Ray Train's controller noted about workers that failed
    <storage>/<name>/stop              empty; anything in it asks the run to save and stop
    <storage>/<name>/stuck/            where workers stood that made no step
    <storage>/<name>/ray/              what Ray Train keeps for itself
    <storage>/<name>/pairs/val.parquet  the validation pairs, as `evaluate --pair-list` reads them
    <storage>/<name>/pairs/best.parquet  the same pairs, with their cosines at the run's best validation
    <storage>/<name>/step-000000100/   checkpoints, each whole or absent
    <storage>/<name>/trials.jsonl      the ledger of a sweep: which trials were drawn, and how they ended
    <storage>/<name>/trials/<id>/      the same again, for each trial of a sweep
    <storage>/<name>/tune/             what Ray Tune keeps for itself while a sweep runs
    <storage>/<name>/report.html       the answer of a sweep
    <storage>/states/<hash>/           normalized starting states, shared by all runs

Everything is an absolute path, because drivers and workers have different working directories.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.errors import ConfigError, RunError
from orchestrator.storage import redacted
from orchestrator.training.retention import checkpoint_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LOCK = ".driver.lock"
_JOB_FOLDER = "/runtime_resources/"
JOURNAL = "journal.jsonl"
"""The file of a run's folder with what its workers reported."""
STUCK = "stuck"
"""The folder in a run's folder where workers write that made no step."""


@dataclass(frozen=True)
class RunPaths:
    """The places of one run."""

    storage: Path
    name: str

    @classmethod
    def of(cls, storage: str, name: str, cwd: Path | None = None) -> RunPaths:
        """The places of run `name` under a storage folder.

        Raises:
            ConfigError: the name cannot be a folder name, or the storage is remote or would not survive the job.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                [f"the run's name must be letters, digits, `.`, `_` and `-`, but is {name!r}"], source="the name"
            )
        return cls(storage_folder(storage, cwd), name)

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.storage / self.name

    @property
    def identity(self) -> Path:
        """What the run is."""
        return self.folder / "run.json"

    @property
    def status(self) -> Path:
        """How far the run is."""
        return self.folder / "status.json"

    @property
    def journal(self) -> Path:
        """What its workers reported."""
        return self.folder / JOURNAL

    @property
    def failures(self) -> Path:
        """What was noted about workers that failed."""
        return self.folder / "failures.jsonl"

    @property
    def pairs(self) -> Path:
        """The list of validation pairs."""
        return self.folder / "pairs" / "val.parquet"

    @property
    def scores(self) -> Path:
        """The validation pairs with their cosines at the best validation."""
        return self.folder / "pairs" / "best.parquet"

    @property
    def states(self) -> Path:
        """The store of normalized starting states."""
        return self.storage / "states"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of an optimizer step."""
        return checkpoint_folder(self.folder, step)

    @property
    def ledger(self) -> Path:
        """The trials of a sweep."""
        return self.folder / "trials.jsonl"

    @property
    def tune(self) -> Path:
        """What Ray Tune keeps for itself."""
        return self.folder / "tune"

    def trial(self, trial_id: str) -> RunPaths:
        """The places of one trial of this sweep."""
        return RunPaths(self.folder / "trials", trial_id)


@contextmanager
def driving(paths: RunPaths) -> Iterator[None]:
    """Be the only driver of a run while the block runs; the lock goes with the process, however it ends.

    Raises:
        RunError: another process drives this run, or its folder cannot be written.
    """
    lock = FileLock(paths.folder / _LOCK, timeout=0)
    try:
        with _writable(paths.folder):
            paths.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise RunError(
            f"another process is driving the run {paths.name!r}",
            hint=f"`orchestrator status {paths.name}` shows how far it is; give another --name for another run",
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_driven(folder: Path) -> bool:
    """Whether some process drives the run in a folder now."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def storage_folder(storage: str, cwd: Path | None = None) -> Path:
    """The absolute storage folder.

    Raises:
        ConfigError: it is an address, or a relative path inside the temporary folder of a submitted job.
    """
    if "://" in storage:
        raise ConfigError(
            [f"`storage` must be a folder that all workers see, but is {redacted(storage)!r}"],
            hint="mount it, or give a shared folder",
        )
    require_lasting("`storage`", storage, cwd)
    return ((cwd or Path.cwd()) / Path(storage).expanduser()).resolve()


def require_lasting(what: str, where: str | Path, cwd: Path | None = None) -> None:
    """Refuse to write into the copy of the working directory that Ray removes after a submitted job.

    Args:
        what: what the place is, for the message.
        where: a path or URI.
        cwd: the working directory.

    Raises:
        ConfigError: a relative path inside that copy.
    """
    relative = "://" not in str(where) and not Path(where).expanduser().is_absolute()
    if relative and _JOB_FOLDER in f"{cwd or Path.cwd()}/":
        raise ConfigError(
            [f"{what} is the relative path {str(where)!r}, which in a submitted job lies in a temporary copy"],
            hint="give an absolute folder that outlives the job, e.g. /shared/runs",
        )


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """What the storage refuses while the block runs becomes one clear error."""
    try:
        yield
    except Timeout:  # an OSError too, but somebody holds the lock
        raise
    except OSError as error:
        hint = "make room or allow writing there, and give the same command again: it continues"
        raise RunError(f"{path} cannot be written: {error.strerror or error}", hint=hint) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a small file atomically, so that a reader never sees half of it."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a small file atomically.

    Raises:
        RunError: the storage refuses it.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def read_json(path: Path) -> dict[str, Any] | None:
    """A small file that `write_json` wrote; none when there is none.

    Raises:
        RunError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it must hold a mapping, but holds a {type(content).__name__}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        hint = "remove this file: it only describes the run, which goes on from its checkpoints without it"
        raise RunError(f"{path} is damaged: {error}", hint=hint) from None
    return content
