"""Run folders in object storage: a working copy on this machine, and a home that outlives it.

Why: the small files of a run are appended to and replaced many times a minute, which object storage cannot do, and no
two machines share a folder. So every process that takes part in a run has the run's folder for itself, and a thread
carries home what changed there and fetches what others wrote. Checkpoints and starting states do not go this way: they
are written home directly. Where runs lie in a folder that all see, that folder is everybody's, and nothing here works.

Contract: a file has one writer at a time. What a process changed is at home within seconds, and when `flush` has
returned. What cannot be carried now is tried again, ever more seldom; for how long is up to whoever calls `flush`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from orchestrator.errors import StorageError
from orchestrator.runtime.lease import Lease
from orchestrator.runtime.parts import PARTS, JournalParts, journals_of, read_if_there
from orchestrator.runtime.paths import JOURNAL, STUCK, RunPaths, writable
from orchestrator.storage import Entry, Folder, open_folder

STOP = "stop"
"""The one file that several write: whoever asks a run to stop, and who has heard it."""
_EVERY_S = 1.0
_LONGEST_PAUSE_S = 30.0
_AT_A_TIME = 16
"""Files that are fetched at the same time."""
_NOT_CARRIED = frozenset({PARTS, "ray", "tune", "drivers", "states"})
"""Folders that other ways lead to, or that nobody else needs."""
_CHECKPOINTS = ("step-", "damaged-step-")

Signature = tuple[int, int]


class Copy(Protocol):
    """A process's view of a run's folder."""

    def follow(self, *journals: str) -> None:
        """From now on fetch these journals, and no others, as others write them; names relative to the run's folder."""

    def fetch(self, *journals: str) -> None:
        """Bring what others wrote, now: these journals, or those that are followed.

        Raises:
            StorageError: the storage does not give it.
        """

    def flush(self) -> None:
        """Return when what was written here is at home.

        Raises:
            StorageError: the storage refuses it.
        """


class InPlace:
    """The run's folder itself: whoever writes there has written for all."""

    def follow(self, *journals: str) -> None:
        """They are there."""

    def fetch(self, *journals: str) -> None:
        """It is there."""

    def flush(self) -> None:
        """It is there; whoever needs it on the disk syncs it."""


class WorkingCopy:
    """A process's own copy of a run's folder that lives in object storage.

    Args:
        folder: the copy.
        home: the run's folder.
        listens: whether others may ask this process to stop.
        tell: says a line to a person: that the storage refuses, and that it does no longer.
    """

    def __init__(
        self,
        folder: Path,
        home: Folder,
        *,
        listens: bool = True,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder, self._home, self._listens, self._tell = folder, home, listens, tell
        self._lock = threading.RLock()
        self._known: dict[str, Signature] = {}
        """Files as they are at home."""
        self._journals: dict[str, JournalParts] = {}
        self._followed: tuple[str, ...] = ()
        self._stop: bytes | None = None
        """What was last said at home about stopping; none before anything is known."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="home", daemon=True)

    def bring(self) -> None:
        """Fetch everything that is at home, before anything is written here.

        Raises:
            StorageError: the storage does not give it.
        """
        found = self._home.entries()
        files = [entry for entry in found if _is_carried(entry.name) and entry.name != STOP]
        journals = journals_of(entry.name for entry in found)
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(self._bring_file, files))
            list(pool.map(lambda name: self._journal(name).fetch(), journals))

    def start(self) -> None:
        """Carry from now on."""
        self._thread.start()

    def follow(self, *journals: str) -> None:
        self._followed = journals

    def fetch(self, *journals: str) -> None:
        with self._lock:
            for name in journals or self._followed:
                self._journal(name).fetch()
            if self._listens:
                self._share_stop()

    def flush(self) -> None:
        with self._lock:
            self._push_journals()
            self._push_files()
            if self._listens:
                self._share_stop()

    def end(self) -> None:
        """Carry no longer; what is not at home by then stays here."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _carry(self) -> None:
        pause, refused = _EVERY_S, False
        while not self._ended.wait(pause):
            try:
                self.flush()
                self.fetch()
            except (StorageError, OSError) as error:
                if not refused:
                    self._tell(f"the storage refuses what the run writes, and is tried again: {_line(error)}")
                pause, refused = min(2 * pause, _LONGEST_PAUSE_S), True
            else:
                if refused:
                    self._tell("the storage takes what the run writes again; nothing of it was lost")
                pause, refused = _EVERY_S, False

    def _journal(self, name: str) -> JournalParts:
        if name not in self._journals:
            above = name.rpartition("/")[0]
            home = self._home.child(above) if above else self._home
            self._journals[name] = JournalParts(self._folder / name, home.child(PARTS))
        return self._journals[name]

    def _push_journals(self) -> None:
        own = [path.relative_to(self._folder).as_posix() for path in self._folder.glob(f"**/{JOURNAL}")]
        for name in own:
            if name not in self._followed:
                self._journal(name).push()

    def _push_files(self) -> None:
        here = dict(_files(self._folder))
        changed = [item for item in here.items() if self._known.get(item[0]) != item[1]]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(self._push_file, changed))
        for name in self._known.keys() - here.keys():
            self._home.delete(name)
            del self._known[name]

    def _push_file(self, file: tuple[str, Signature]) -> None:
        name, signature = file
        with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
            self._home.write(name, (self._folder / name).read_bytes())
            self._known[name] = signature

    def _share_stop(self) -> None:
        """What was written here goes home; what was written there comes here."""
        path = self._folder / STOP
        here = path.read_bytes() if path.exists() else self._stop
        if here is not None and here != self._stop:
            self._home.write(STOP, here)
        else:
            here = read_if_there(self._home, STOP)
            if here != self._stop:
                path.write_bytes(here)
        self._stop = here

    def _bring_file(self, entry: Entry) -> None:
        path = self._folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(self._home.read(entry.name))
        except StorageError as error:
            if error.missing:  # it has gone meanwhile
                return
            raise
        self._known[entry.name] = _signature(path)


_open: dict[Path, WorkingCopy] = {}
"""The working copies of this process, by their folders."""


def copy_of(paths: RunPaths) -> Copy:
    """This process's working copy of a run, or of the sweep that it belongs to; the folder itself where all see it."""
    for folder in (paths.folder, *paths.folder.parents):
        if folder in _open:
            return _open[folder]
    assert not paths.home, f"{paths.name} is not at home in this process"
    return InPlace()


@contextmanager
def at_home(
    paths: RunPaths,
    *,
    drives: bool = False,
    bring: bool = True,
    listens: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Copy]:
    """Work on a run while the block runs, wherever it lies; at the end everything is at home.

    Args:
        paths: the run's places.
        drives: whether this process drives it, which one at a time does.
        bring: whether this process needs what is there already.
        listens: whether others may ask this process to stop.
        tell: says a line to a person.

    Raises:
        RunError: another process drives it.
        StorageError: the storage does not answer at the beginning or at the end.
    """
    if not paths.home:
        yield InPlace()
        return
    home = open_folder(paths.where)
    copy = WorkingCopy(paths.folder, home, listens=listens, tell=tell)
    lease = Lease(home, paths.name, tell) if drives else contextlib.nullcontext()
    with lease, _copied(paths, copy, bring=bring):
        yield copy


@contextmanager
def _copied(paths: RunPaths, copy: WorkingCopy, *, bring: bool) -> Iterator[None]:
    shutil.rmtree(paths.folder, ignore_errors=True)  # of an earlier call in this process
    with writable(paths.folder):
        paths.folder.mkdir(parents=True)
    if bring:
        copy.bring()
    _open[paths.folder] = copy
    copy.start()
    try:
        try:
            yield
        except BaseException as error:
            copy.end()
            try:
                copy.flush()
            except (StorageError, OSError) as refusal:  # what ended the block is what a person has to know
                error.add_note(f"besides, not all of the run's record is at home: {_line(refusal)}")
            raise
        copy.end()
        copy.flush()
    finally:
        del _open[paths.folder]
        shutil.rmtree(paths.folder, ignore_errors=True)


def _is_carried(name: str) -> bool:
    *folders, last = name.split("/")
    hidden = any(part.startswith(".") for part in (*folders, last))
    return not hidden and last != JOURNAL and not any(_is_left(folder) for folder in folders)


def _is_left(folder: str) -> bool:
    return folder in _NOT_CARRIED or folder.startswith(_CHECKPOINTS)


def _files(root: Path) -> Iterator[tuple[str, Signature]]:
    """The files here that belong home as they are."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not _is_left(name) and not name.startswith(".")]
        for name in names:
            relative = (Path(folder) / name).relative_to(root).as_posix()
            if _is_carried(relative) and relative != STOP:
                with contextlib.suppress(FileNotFoundError):
                    signature = _signature(Path(folder) / name)
                    if signature[1] or not relative.startswith(f"{STUCK}/"):  # who is not stuck has nothing to say
                        yield relative, signature


def _signature(path: Path) -> Signature:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
