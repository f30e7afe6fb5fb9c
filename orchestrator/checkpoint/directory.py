"""The canonical directory: a `TrainState` on disk.

    model.safetensors       weights
    optimizer.safetensors   `slot/parameter` -> tensor; absent when the optimizer is fresh
    rng.safetensors         generator states; absent when there are none
    state.json              everything else that continues a run, plain data
    report.json             provenance and decisions, plain data; absent without a foreign origin
    manifest.json           written last: version, kind, content hash, size and sha256 of every file above

Promises: a directory without a whole manifest is never taken for a checkpoint; the content hash covers weights,
optimizer, generators and `state.json` (with the model and the options), and neither time nor path nor report, so the
same input and options give the same hash everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from orchestrator.checkpoint.manifest import (
    KIND,
    MANIFEST,
    Manifest,
    content_digest,
    digest_of,
    parse_manifest,
)
from orchestrator.checkpoint.state import AnyModelConfig, Best, OptimizerState, Provenance, TrainState
from orchestrator.checkpoint.tensors import (
    FileEntry,
    SafetensorError,
    hash_file,
    read_tensors,
    weights_hash,
    write_tensors,
)
from orchestrator.config.model import ModelConfig
from orchestrator.errors import CheckpointError, RefusalReason

_MODEL: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)
WEIGHTS, OPTIMIZER, RNG, STATE, REPORT = (
    "model.safetensors",
    "optimizer.safetensors",
    "rng.safetensors",
    "state.json",
    "report.json",
)


def write_state(state: TrainState, directory: str | Path) -> Manifest:
    """Write `state` into an existing, empty directory, the manifest last, all of it flushed to disk.

    Raises:
        CheckpointError: the directory holds something (`exists`), or the state holds something that is not plain data.
    """
    folder = Path(directory)
    if any(folder.iterdir()):
        raise CheckpointError(
            f"{folder} is not empty", reason=RefusalReason.EXISTS, path=str(folder), hint="write to a new directory"
        )
    content = content_of(state)
    files = {WEIGHTS: write_tensors(folder / WEIGHTS, state.weights)}
    if state.optimizer is not None:
        files[OPTIMIZER] = write_tensors(folder / OPTIMIZER, _flatten(state.optimizer))
    if state.rng is not None:
        files[RNG] = write_tensors(folder / RNG, state.rng)
    files[STATE] = _write_json(folder / STATE, state.plain())
    if state.provenance is not None:
        files[REPORT] = _write_json(folder / REPORT, state.provenance.to_dict())
    manifest = Manifest(content_hash=content_digest(content), content=content, files=files)
    _write_json(folder / MANIFEST, manifest.to_dict())
    _sync_folder(folder)
    return manifest


def save_state(state: TrainState, directory: str | Path) -> Manifest:
    """Write `state` as a new directory that appears whole or not at all.

    Raises:
        CheckpointError: `directory` exists already and is not an empty directory (`exists`).
    """
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".partial-{target.name[:16]}-{uuid.uuid4().hex}"
    partial.mkdir()
    try:
        manifest = write_state(state, partial)
        _rename_new(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _sync_folder(target.parent)
    return manifest


def read_state(directory: str | Path, *, verify: bool = True) -> TrainState:
    """Read a canonical directory; large tensors are memory-mapped.

    Args:
        directory: what `write_state` or `save_state` wrote.
        verify: compare size and sha256 of every file with the manifest; otherwise only the sizes.

    Raises:
        CheckpointError: `missing`, `corrupt` (the damaged file is named) or `unsupported` (a newer version).
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        _check_file(folder / name, entry, verify)
    tensors = {name: _read(folder / name) for name in (WEIGHTS, OPTIMIZER, RNG) if name in manifest.files}
    try:
        raw = json.loads((folder / STATE).read_text("utf-8"))
        report = json.loads((folder / REPORT).read_text("utf-8")) if REPORT in manifest.files else None
        return _assemble(raw, report, tensors)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise _corrupt(folder / STATE, f"does not hold a training state: {error}") from error


def read_manifest(directory: str | Path) -> Manifest:
    """The manifest of a canonical directory.

    Raises:
        CheckpointError: `missing` (no such directory), `corrupt` (no or a damaged manifest), `unsupported`.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no directory {folder}", reason=RefusalReason.MISSING, path=str(folder), hint="check the path"
        )
    path = folder / MANIFEST
    if not path.is_file():
        raise _corrupt(path, "is missing: the checkpoint was not written or copied to its end")
    return parse_manifest(path.read_bytes(), str(path))


def read_plain(directory: str | Path) -> dict[str, Any]:
    """The plain data of a canonical directory (`state.json`), without reading any tensor.

    Raises:
        CheckpointError: `missing` or `corrupt`.
    """
    folder = Path(directory)
    entry = read_manifest(folder).files[STATE]
    _check_file(folder / STATE, entry, True)
    return dict(json.loads((folder / STATE).read_text("utf-8")))


def is_complete(directory: str | Path) -> bool:
    """Whether the manifest is there and every file it names has its size. Reads no tensor."""
    try:
        manifest = read_manifest(directory)
    except CheckpointError:
        return False
    return all(_size(Path(directory) / name) == entry.size for name, entry in manifest.files.items())


def is_canonical(directory: Path) -> bool:
    """Whether a directory claims to be ours: it has our manifest, or the files that come before it."""
    if (directory / MANIFEST).is_file():
        return KIND.encode() in (directory / MANIFEST).read_bytes()[:4096]
    return (directory / WEIGHTS).is_file() and (directory / STATE).is_file()


def content_of(state: TrainState) -> dict[str, str | None]:
    """The digest of each part of a state; `content_digest` of it is the state's content hash."""
    return {
        "weights": weights_hash(state.weights),
        "optimizer": weights_hash(_flatten(state.optimizer)) if state.optimizer is not None else None,
        "rng": weights_hash(state.rng) if state.rng is not None else None,
        "state": digest_of(state.plain()),
    }


def state_hash(state: TrainState) -> str:
    """The content hash of a state: the name under which `normalize` stores it."""
    return content_digest(content_of(state))


def _flatten(optimizer: OptimizerState) -> dict[str, Tensor]:
    return {f"{slot}/{name}": tensor for name, slots in optimizer.items() for slot, tensor in slots.items()}


def _unflatten(tensors: dict[str, Tensor]) -> OptimizerState:
    optimizer: OptimizerState = {}
    for key, tensor in tensors.items():
        slot, _, name = key.partition("/")
        optimizer.setdefault(name, {})[slot] = tensor
    return optimizer


def _write_json(path: Path, value: Any) -> FileEntry:
    text = (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
    with path.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(hashlib.sha256(text).hexdigest(), len(text))


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it for folders
            os.fsync(handle)
    finally:
        os.close(handle)


def _rename_new(partial: Path, target: Path) -> None:
    """Rename, unless something is there: POSIX replaces an empty directory and refuses a full one."""
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise CheckpointError(
            f"{target} exists already", reason=RefusalReason.EXISTS, path=str(target), hint="choose a new name"
        ) from error


def _check_file(path: Path, entry: FileEntry, verify: bool) -> None:
    size = _size(path)
    if size is None:
        raise _corrupt(path, "is missing, though the manifest lists it")
    if size != entry.size:
        raise _corrupt(path, f"has {size:,} bytes, but was written with {entry.size:,}")
    if verify and hash_file(path) != entry.sha256:
        raise _corrupt(path, "has changed since it was written: its sha256 differs from the manifest")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise _corrupt(path, f"is no readable safetensors file: {error}") from error


def _assemble(raw: dict[str, Any], report: dict[str, Any] | None, tensors: dict[str, dict[str, Tensor]]) -> TrainState:
    values = dict(raw)
    model = _MODEL.validate_python(values.pop("model"))
    best = values.pop("best")
    return TrainState(
        model=model,
        weights=tensors[WEIGHTS],
        optimizer=_unflatten(tensors[OPTIMIZER]) if OPTIMIZER in tensors else None,
        rng=tensors.get(RNG),
        best=Best(**best) if best else None,
        provenance=Provenance.from_dict(report) if report else None,
        **values,
    )


def _corrupt(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {what}",
        reason=RefusalReason.CORRUPT,
        path=str(path),
        hint="copy or download the checkpoint directory again, or use an earlier one",
    )
