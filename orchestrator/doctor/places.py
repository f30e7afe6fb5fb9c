"""Checks of the places that runs use: the storage folder, the tracking store, a corpus."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from orchestrator.doctor.finding import Finding
from orchestrator.errors import OrchestratorError
from orchestrator.storage import local_path, open_folder, redacted

_LEAST_FREE_GB = 5
_PROBE_MB = 64
_SLOW_MB_S = 50
_SKEW_S = 5.0


def storage(where: str) -> Finding:
    """Whether runs can live there: atomic renames, flushing, locks; and how fast it writes."""
    from orchestrator.runtime.paths import storage_folder

    try:
        folder = storage_folder(where)
        if folder is None:
            return _object_storage(where)
        folder.mkdir(parents=True, exist_ok=True)
        speed = _write_speed(folder, f".probe-{uuid.uuid4().hex}")
    except (OSError, OrchestratorError) as error:
        return Finding("storage", f"{redacted(where)}: {error}", False, "give a folder you may write to")
    slow = f"a checkpoint of 1 GB takes {1000 / speed:.0f} s: keep checkpoint.asynchronous=true, or save less often"
    found = f"{folder}: renames, locks and flushing work, writes {speed:.0f} MB/s"
    return Finding("storage", found, hint="" if speed >= _SLOW_MB_S else slow)


def _object_storage(where: str) -> Finding:
    """Whether what is written there can be read and removed again, and how fast it is taken.

    Raises:
        StorageError: it cannot.
    """
    folder, name, block = open_folder(where), f".probe-{uuid.uuid4().hex}", os.urandom(_PROBE_MB << 20)
    begin = time.perf_counter()
    try:
        with folder.writer(name) as file:
            file.write(block)
        speed = len(block) / 1e6 / max(time.perf_counter() - begin, 1e-9)
        if folder.read(name) != block:
            return Finding("storage", f"{folder.name}: what was written came back changed", False, "use another one")
    finally:
        folder.delete(name)
    return Finding("storage", f"{folder.name}: takes {speed:.0f} MB/s, gives and removes what it took")


def space(where: str) -> Finding:
    """Room for checkpoints; where they go to object storage, for the one that is on its way."""
    folder = existing_parent(Path(where if local_path(where) is not None else tempfile.gettempdir()))
    free = shutil.disk_usage(folder).free / 1e9
    enough = free >= _LEAST_FREE_GB
    return Finding("free space", f"{free:.1f} GB", enough, "" if enough else f"at least {_LEAST_FREE_GB} GB are wise")


def clock(where: str) -> Finding:
    """Whether this machine and the storage agree on the time, by which people judge how old a report is."""
    if local_path(where) is None:
        return Finding("clock", time.strftime("%Y-%m-%d %H:%M:%S %Z"))
    folder = existing_parent(Path(where))
    probe = folder / f".probe-{uuid.uuid4().hex}"
    if not os.access(folder, os.W_OK):
        return Finding("clock", time.strftime("%Y-%m-%d %H:%M:%S %Z"))
    try:
        probe.write_bytes(b"")
        skew = probe.stat().st_mtime - time.time()
    finally:
        probe.unlink(missing_ok=True)
    agree = abs(skew) <= _SKEW_S
    found = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, the storage is {skew:+.1f} s from it"
    return Finding("clock", found, hint="" if agree else "set the clocks by NTP: ages in `status` will be wrong")


def tracking(where: str) -> Finding:
    """Whether MLflow's store answers, and, where it is a file, whether it can be written."""
    from orchestrator.tracking import redact, resolve_uri
    from orchestrator.tracking.connect import connect
    from orchestrator.tracking.store import sqlite_path

    try:
        uri = resolve_uri(None, where, os.environ)
        connect(uri)
    except OrchestratorError as error:
        return Finding("MLflow", error.message, False, error.hint)
    database = sqlite_path(uri)
    if database is None:
        return Finding("MLflow", f"{redact(uri)} answers")
    try:
        with closing(sqlite3.connect(database, timeout=5, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        hint = "is the file yours, and no other program holding it? set MLFLOW_TRACKING_URI to keep the runs elsewhere"
        return Finding("MLflow", f"{redact(uri)} cannot be written: {error}", False, hint)
    return Finding("MLflow", f"{redact(uri)} can be written")


def corpus(where: str) -> Finding:
    """Whether a prepared corpus opens, and what is in it."""
    from orchestrator.data.corpus import Corpus

    try:
        opened = Corpus.open(os.path.expanduser(where))
        clips = opened.clips()
        if clips:
            opened.stored(clips[0])
    except OrchestratorError as error:
        return Finding("data", error.message, False, error.hint)
    splits = Counter(clip.split for clip in clips)
    found = f"{opened.name}: {splits['train']} train and {splits['val']} validation clips, {opened.preparation[:12]}"
    if not splits["train"] or not splits["val"]:
        return Finding("data", found, False, "both splits need clips: prepare clips of at least two speakers")
    return Finding("data", found)


def existing_parent(folder: Path) -> Path:
    """The nearest folder above that exists."""
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _write_speed(folder: Path, name: str) -> float:
    """MB/s of writing, flushing and renaming one file, under a lock; everything is removed again.

    Raises:
        OSError: any of it is not possible.
    """
    partial, final, lock = folder / f"{name}.partial", folder / name, folder / f"{name}.lock"
    block = os.urandom(1 << 20)
    try:
        with FileLock(lock, timeout=5):
            begin = time.perf_counter()
            with partial.open("wb") as file:
                for _ in range(_PROBE_MB):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            final.write_bytes(b"older")
            partial.replace(final)
            elapsed = time.perf_counter() - begin
        if final.stat().st_size != _PROBE_MB << 20:
            raise OSError(f"a file of {_PROBE_MB} MiB came back with {final.stat().st_size} bytes")
        return (_PROBE_MB << 20) / 1e6 / max(elapsed, 1e-9)
    finally:
        for path in (partial, final, lock):
            path.unlink(missing_ok=True)
