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

Everything is an absolute path, because drivers and workers have different working directories. In object storage it
lies the same way, but for journals, which are there in parts (see `parts`), and for `drivers/`, which says who drives a
run (see `lease`); every process then has a working copy of all but checkpoints and states (see `home`).
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from orchestrator.checkpoint import shelf
from orchestrator.checkpoint.partials import partial_name, remove_abandoned
from orchestrator.errors import ConfigError, RunError
from orchestrator.storage import Location, join, local_path, parent
from orchestrator.training.retention import checkpoint_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_JOB_FOLDER = "/runtime_resources/"
JOURNAL = "journal.jsonl"
"""The file of a run's folder with what its workers reported."""
TRIALS = "trials"
"""The folder of a sweep's folder with those of its trials."""
STUCK = "stuck"
"""The folder in a run's folder where workers write that made no step."""


@dataclass(frozen=True)
class RunPaths:
    """The places of one run."""

    storage: Path
    """The folder of its folder on this machine."""
    name: str
    home: str = ""
    """The URI of the storage, where runs live in object storage: what is on this machine is then a working copy."""

    @classmethod
    def of(cls, storage: str, name: str, cwd: Path | None = None) -> RunPaths:
        """The places of run `name` under a storage folder or URI.

        Raises:
            ConfigError: the name cannot be a folder name, or the storage would not survive the job.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                [f"the run's name must be letters, digits, `.`, `_` and `-`, but is {name!r}"], source="the name"
            )
        local = storage_folder(storage, cwd)
        return cls(local, name) if local is not None else cls.at(join(storage, name))

    @classmethod
    def at(cls, where: Location) -> RunPaths:
        """The places of the run in a folder, as `where` gives it, in this process."""
        local = local_path(where)
        if local is not None:
            return cls(local.parent, local.name)
        return cls(_scratch(parent(where)), shelf.name_of(where), parent(where))

    @property
    def where(self) -> Location:
        """The run's own folder where all see it: a path or a URI."""
        return join(self.home, self.name) if self.home else self.folder

    @property
    def folder(self) -> Path:
        """The run's own folder on this machine: itself, or a working copy."""
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
    def states(self) -> Location:
        """The store of normalized starting states."""
        return join(self.home, "states") if self.home else self.storage / "states"

    def checkpoint(self, step: int) -> Location:
        """The checkpoint of an optimizer step."""
        return checkpoint_folder(self.where, step)

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
        home = join(self.where, TRIALS) if self.home else ""
        return RunPaths(self.folder / TRIALS, trial_id, home)


def storage_folder(storage: str, cwd: Path | None = None) -> Path | None:
    """The absolute storage folder; none where it is in object storage.

    Raises:
        ConfigError: a relative path inside the temporary folder of a submitted job.
    """
    local = local_path(storage)
    if local is None:
        return None
    require_lasting("`storage`", storage, cwd)
    return ((cwd or Path.cwd()) / local.expanduser()).resolve()


def require_lasting(what: str, where: str | Path, cwd: Path | None = None) -> None:
    """Refuse to write into the copy of the working directory that Ray removes after a submitted job.

    Args:
        what: what the place is, for the message.
        where: a path or URI.
        cwd: the working directory.

    Raises:
        ConfigError: a relative path inside that copy.
    """
    local = local_path(where)
    relative = local is not None and not local.expanduser().is_absolute()
    if relative and _JOB_FOLDER in f"{cwd or Path.cwd()}/":
        raise ConfigError(
            [f"{what} is the relative path {str(where)!r}, which in a submitted job lies in a temporary copy"],
            hint="give an absolute folder that outlives the job, e.g. /shared/runs",
        )


@contextmanager
def writable(path: Path) -> Iterator[None]:
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
    with writable(path):
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


_scratches: dict[str, Path] = {}


def _scratch(storage: str) -> Path:
    """The folder on this machine for this process's working copies of runs in object storage; it goes with the
    process, or, if that was killed, with a later one."""
    if storage not in _scratches:
        above = Path(tempfile.gettempdir()) / f"syncnet-runs-{os.getuid()}"
        with writable(above):
            above.mkdir(mode=0o700, exist_ok=True)
            remove_abandoned(above)
            folder = above / partial_name("copy")
            folder.mkdir()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _scratches[storage] = folder
    return _scratches[storage]
