"""The canonical directory: a `TrainState` on disk, written whole or not at all, verified when read.

Layout:
    model.safetensors       the weights, as the optimizer steps them
    ema.safetensors         their running average, which is what is judged and handed on; absent when there is none
    optimizer.safetensors   `slot/parameter` -> tensor; absent when the optimizer is fresh
    rng.safetensors         generator states; absent when there are none
    history.csv             past figures, one row per step; absent when there are none
    state.json              everything else that continues a run, plain data
    report.json             provenance and decisions, plain data; absent without a foreign origin
    manifest.json           written last: version, kind, content hash, size and digest of every file above

Promises: a directory without a whole manifest is never taken for a checkpoint; the content hash covers weights, their
average, optimizer, generators, history and `state.json` (with the model and the options), and neither time nor path nor
report, so the same input and options give the same hash everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from orchestrator.checkpoint.history import from_csv, to_csv
from orchestrator.checkpoint.manifest import (
    KIND,
    MANIFEST,
    FileEntry,
    Manifest,
    content_digest,
    digest_of,
    parse_manifest,
    written_version,
)
from orchestrator.checkpoint.migrations import Documents, migrate
from orchestrator.checkpoint.partials import disk_errors, partial_directory, publish, sync_folder
from orchestrator.checkpoint.state import AnyModelConfig, Best, OptimizerState, Provenance, TrainState
from orchestrator.checkpoint.storage import Location, fetched, is_whole, local_path, open_place, upload
from orchestrator.checkpoint.tensors import SafetensorError, read_tensors, weights_hash, write_tensors
from orchestrator.config.model import ModelConfig
from orchestrator.errors import CheckpointError, RefusalReason

_MODEL: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)
WEIGHTS, EMA, OPTIMIZER, RNG, HISTORY, STATE, REPORT = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "rng.safetensors",
    "history.csv",
    "state.json",
    "report.json",
)
TENSORS = (WEIGHTS, EMA, OPTIMIZER, RNG)
"""The files that hold tensors."""


@dataclass(frozen=True)
class WrittenParts:
    """The tensors of a state on disk, before the rest is."""

    files: dict[str, FileEntry]
    """What the manifest will say about them."""
    non_finite: tuple[str, ...]
    """Names of the weights that hold NaN or infinity."""
    optimizer_is_finite: bool = True
    """Whether all moments are numbers."""


def write_state(state: TrainState, directory: str | Path) -> Manifest:
    """Write `state` into an existing, empty directory, the manifest last, all of it flushed to disk.

    Raises:
        CheckpointError: the directory holds something (`exists`), the state holds something that is not plain data, or
            the disk is full (`storage`).
    """
    state.plain()  # refused before anything is written
    folder = Path(directory)
    with disk_errors(folder):
        return write_documents(state, folder, write_parts(state, folder))


def write_parts(
    state: TrainState, folder: Path, *, as_float32: bool = False, relax: Callable[[], None] = lambda: None
) -> WrittenParts:
    """Write the tensors of `state`: one pass over their values.

    Args:
        state: what to write.
        folder: an existing, empty directory.
        as_float32: cast floating-point weights on the way.
        relax: called now and then, so that a mapped source can give its memory back.

    Raises:
        CheckpointError: the directory holds something (`exists`).
    """
    if any(folder.iterdir()):
        raise CheckpointError(
            f"{folder} is not empty", reason=RefusalReason.EXISTS, path=str(folder), hint="write to a new directory"
        )
    weights = write_tensors(folder / WEIGHTS, state.weights, as_float32=as_float32, relax=relax)
    files = {WEIGHTS: FileEntry(weights.digest, weights.size, of_tensors=True)}
    if state.ema is not None:
        average = write_tensors(folder / EMA, state.ema, as_float32=as_float32, relax=relax)
        files[EMA] = FileEntry(average.digest, average.size, of_tensors=True)
    finite = True
    if state.optimizer is not None:
        moments = write_tensors(folder / OPTIMIZER, flatten(state.optimizer), as_float32=True, relax=relax)
        files[OPTIMIZER] = FileEntry(moments.digest, moments.size, of_tensors=True)
        finite = not moments.non_finite
    if state.rng is not None:
        generators = write_tensors(folder / RNG, state.rng)
        files[RNG] = FileEntry(generators.digest, generators.size, of_tensors=True)
    return WrittenParts(files, weights.non_finite, finite)


def drop_optimizer(folder: Path, parts: WrittenParts) -> WrittenParts:
    """Take back the moments that `write_parts` wrote: the optimizer shall start fresh."""
    (folder / OPTIMIZER).unlink()
    return replace(parts, files={name: entry for name, entry in parts.files.items() if name != OPTIMIZER})


def write_documents(state: TrainState, folder: Path, parts: WrittenParts) -> Manifest:
    """Write the rest beside the tensors, the manifest last, all of it flushed to disk.

    Raises:
        CheckpointError: the state holds something that is not plain data.
    """
    plain = state.plain()
    files = dict(parts.files)
    if state.history:
        files[HISTORY] = _write_bytes(folder / HISTORY, to_csv(state.history))
    files[STATE] = _write_json(folder / STATE, plain)
    if state.provenance is not None:
        files[REPORT] = _write_json(folder / REPORT, state.provenance.to_dict())
    content = _content({name: entry.digest for name, entry in files.items()}, plain)
    manifest = Manifest(content_digest(content), content, files, written_version(content))
    _write_json(folder / MANIFEST, manifest.to_dict())
    sync_folder(folder)
    return manifest


def save_state(state: TrainState, directory: Location) -> Manifest:
    """Write `state` as a new directory that appears whole or not at all.

    Args:
        state: what to write.
        directory: a path, or a URI of remote storage: it is then written on this machine first, and uploaded.

    Raises:
        CheckpointError: `directory` exists already and is not an empty directory (`exists`; in remote storage, unless
            it holds this state), or the disk is full or read-only, or the remote storage refuses it (`storage`).
    """
    target = local_path(directory)
    if target is None:
        return _save_remotely(state, directory)
    with partial_directory(target.parent, target.name) as partial:
        manifest = write_state(state, partial)
        publish(partial, target)
    return manifest


def read_state(directory: Location, *, verify: bool = True) -> TrainState:
    """Read a canonical directory of this or an earlier format version; large tensors are memory-mapped.

    Args:
        directory: what `write_state` or `save_state` wrote, on this machine or, as a URI, in remote storage.
        verify: compare every file with its digest in the manifest; otherwise only the sizes.

    Raises:
        CheckpointError: `missing`, `corrupt` (the damaged file is named), `unsupported` (a newer version) or `storage`.
    """
    with fetched(directory) as folder:
        return _read_local(folder, verify)


def read_manifest(directory: Location) -> Manifest:
    """The manifest of a canonical directory, on this machine or in remote storage.

    Raises:
        CheckpointError: `missing` (no such directory), `corrupt` (no or a damaged manifest), `unsupported`.
    """
    with fetched(directory, only=()) as folder:
        return _local_manifest(folder)


def read_plain(directory: Location) -> dict[str, Any]:
    """The plain data of a canonical directory (`state.json`), and its `history`, without reading any tensor.

    Raises:
        CheckpointError: `missing`, `corrupt` or `storage`.
    """
    with fetched(directory, only=(STATE, HISTORY)) as folder:
        return _read_local_plain(folder)


def read_report(directory: str | Path) -> dict[str, Any]:
    """The report of a canonical directory; empty where there is none or it is damaged."""
    try:
        return dict(json.loads((Path(directory) / REPORT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def is_complete(directory: Location) -> bool:
    """Whether the manifest is there and every file it names has its size. Reads no tensor."""
    local = local_path(directory)
    try:
        if local is None:
            return is_whole(open_place(directory))
        manifest = _local_manifest(local)
    except CheckpointError:
        return False
    return all(_size(local / name) == entry.size for name, entry in manifest.files.items())


def is_canonical(directory: Path) -> bool:
    """Whether a directory claims to be ours: it has our manifest, or the files that come before it."""
    if not directory.is_dir():
        return False
    if (directory / MANIFEST).is_file():
        return KIND.encode() in (directory / MANIFEST).read_bytes()[:4096]
    return (directory / WEIGHTS).is_file() and (directory / STATE).is_file()


def check_size(path: Path, entry: FileEntry) -> None:
    """Compare a file's length with the manifest.

    Raises:
        CheckpointError: `corrupt`.
    """
    size = _size(path)
    if size is None:
        raise _corrupt(path, "is missing, though the manifest lists it")
    if size != entry.size:
        raise _corrupt(path, f"has {size:,} bytes, but was written with {entry.size:,}")


def check_digest(path: Path, entry: FileEntry, tensors: dict[str, Tensor]) -> None:
    """Compare a file, or the tensors that were read from it, with the digest in the manifest.

    Raises:
        CheckpointError: `corrupt`.
    """
    digest = weights_hash(tensors) if entry.of_tensors else _hash_file(path)
    if digest != entry.digest:
        raise _corrupt(path, "has changed since it was written: its digest differs from the manifest")


def read_part(path: Path) -> dict[str, Tensor]:
    """The tensors of one file of a state, memory-mapped.

    Raises:
        CheckpointError: `corrupt`.
    """
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise _corrupt(path, f"is no readable safetensors file: {error}") from error


def content_of(state: TrainState) -> dict[str, str | None]:
    """The digest of each part of a state; `content_digest` of it is the state's content hash."""
    optimizer = None if state.optimizer is None else flatten(state.optimizer)
    tensors = {WEIGHTS: state.weights, EMA: state.ema, OPTIMIZER: optimizer, RNG: state.rng}
    digests = {name: weights_hash(part) for name, part in tensors.items() if part is not None}
    if state.history:
        digests[HISTORY] = hashlib.sha256(to_csv(state.history)).hexdigest()
    return _content(digests, state.plain())


def state_hash(state: TrainState) -> str:
    """The content hash of a state: the name under which `normalize` stores it."""
    return content_digest(content_of(state))


def _content(digests: Mapping[str, str], plain: dict[str, Any]) -> dict[str, str | None]:
    """Digests by part from digests by file; without an average there is no such key, as there was none in version 2."""
    parts = {"weights": WEIGHTS, "optimizer": OPTIMIZER, "rng": RNG, "history": HISTORY}
    average = {"ema": digests[EMA]} if EMA in digests else {}
    return {**{part: digests.get(name) for part, name in parts.items()}, **average, "state": digest_of(plain)}


def flatten(optimizer: OptimizerState) -> dict[str, Tensor]:
    """Moments by their names in the file: `slot/parameter`."""
    return {f"{slot}/{name}": tensor for name, slots in optimizer.items() for slot, tensor in slots.items()}


def unflatten(tensors: dict[str, Tensor]) -> OptimizerState:
    """Moments by parameter, from their names in the file."""
    optimizer: OptimizerState = {}
    for key, tensor in tensors.items():
        slot, _, name = key.partition("/")
        optimizer.setdefault(name, {})[slot] = tensor
    return optimizer


def _save_remotely(state: TrainState, uri: Location) -> Manifest:
    place = open_place(uri)  # an address that is wrong is told before the work
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="syncnet-save-") as folder:
        manifest = write_state(state, Path(folder))
        upload(Path(folder), place)
    return manifest


def _write_json(path: Path, value: Any) -> FileEntry:
    return _write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _write_bytes(path: Path, text: bytes) -> FileEntry:
    with path.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(hashlib.sha256(text).hexdigest(), len(text))


def _read_local(folder: Path, verify: bool) -> TrainState:
    manifest = _local_manifest(folder)
    for name, entry in manifest.files.items():
        check_size(folder / name, entry)
    tensors = {name: read_part(folder / name) for name in TENSORS if name in manifest.files}
    if verify:
        for name, entry in manifest.files.items():
            check_digest(folder / name, entry, tensors.get(name, {}))
    try:
        report = json.loads((folder / REPORT).read_text("utf-8")) if REPORT in manifest.files else None
        return _assemble(*_documents(folder, manifest, report), tensors)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise _corrupt(folder / STATE, f"does not hold a training state: {error}") from error


def _read_local_plain(folder: Path) -> dict[str, Any]:
    manifest = _local_manifest(folder)
    for name in (STATE, HISTORY):
        if name in manifest.files:
            check_size(folder / name, manifest.files[name])
            check_digest(folder / name, manifest.files[name], {})
    try:
        plain, _ = _documents(folder, manifest, None)
    except (ValueError, TypeError, KeyError) as error:
        raise _corrupt(folder / STATE, f"does not hold a training state: {error}") from error
    return plain


def _documents(folder: Path, manifest: Manifest, report: dict[str, Any] | None) -> Documents:
    """`state.json` with the history, and the report, as the current version has them."""
    history = from_csv((folder / HISTORY).read_bytes()) if HISTORY in manifest.files else []
    raw = json.loads((folder / STATE).read_text("utf-8"))
    return migrate(manifest.version, {"history": history, **raw}, report)


def _local_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no directory {folder}", reason=RefusalReason.MISSING, path=str(folder), hint="check the path"
        )
    path = folder / MANIFEST
    if not path.is_file():
        raise _corrupt(path, "is missing: the checkpoint was not written or copied to its end")
    return parse_manifest(path.read_bytes(), str(path))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _assemble(raw: dict[str, Any], report: dict[str, Any] | None, tensors: dict[str, dict[str, Tensor]]) -> TrainState:
    values = dict(raw)
    model = _MODEL.validate_python(values.pop("model"))
    best = values.pop("best")
    return TrainState(
        model=model,
        weights=tensors[WEIGHTS],
        optimizer=unflatten(tensors[OPTIMIZER]) if OPTIMIZER in tensors else None,
        ema=tensors.get(EMA),
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
