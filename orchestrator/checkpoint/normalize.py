"""The verbs on checkpoints: `inspect`, `normalize`, `load_model`.

Promises: `normalize` writes one directory named by its content hash below `out` and nothing else; doing it again
verifies and returns that directory; two processes at once end with one good directory; a canonical directory is
returned as it is. Every byte of the source is read once for its digest and checksums while every value is read once
for its digest, finiteness, cast and copy, a few megabytes at a time.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.checkpoint.convert import Converted, ModelOption, Options, convert
from orchestrator.checkpoint.directory import (
    REPORT,
    drop_optimizer,
    is_canonical,
    is_complete,
    read_manifest,
    read_plain,
    read_report,
    read_state,
    write_documents,
    write_parts,
)
from orchestrator.checkpoint.formats import Identity, scan
from orchestrator.checkpoint.formats.scan import size_of
from orchestrator.checkpoint.partials import partial_directory, publish
from orchestrator.checkpoint.report import CANONICAL, InspectReport, count_dtypes, count_parameters, parts
from orchestrator.checkpoint.state import TrainState
from orchestrator.checkpoint.storage import Location, fetched, join, local_path, open_place, redacted, upload
from orchestrator.checkpoint.tensors import non_finite, widened
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import SyncNet, build_meta

_SMALL = 256 << 20


@dataclass(frozen=True)
class NormalizedCheckpoint:
    """The result of `normalize`."""

    path: Path
    """The canonical directory; one in remote storage as every function here takes it."""
    report: InspectReport
    """What was found and settled."""
    state_hash: str
    """Content hash of the state."""
    written: bool
    """Whether this call wrote it; otherwise it was there already."""
    location: str = ""
    """The same as text: a path, or a URI in remote storage."""


def inspect(
    path: Location, *, model_config: ModelOption = None, weights: str = "raw", deep: bool | None = None
) -> InspectReport:
    """Say what a checkpoint is and what `normalize` would make of it. Writes nothing.

    Args:
        path: a file or folder in any readable format, or a canonical directory; also a URI of remote storage.
        model_config: the network, where weights alone do not tell it.
        weights: `raw`, or `ema` for the running average.
        deep: read every value too: checksums, the digest of the file, NaN and infinity. When left out, files up to
            256 MB are read whole and larger ones are not; `values_checked` of the report tells.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    with fetched(path) as where:
        return replace(_look(where, model_config, Options(weights=weights), deep), path=redacted(path))


def normalize(
    path: Location,
    out: Location,
    *,
    model_config: ModelOption = None,
    dtype: str = "float32",
    allow_non_finite: bool = False,
    weights: str = "raw",
) -> NormalizedCheckpoint:
    """Turn a foreign checkpoint into a resumable state at `out/<content hash>`.

    Args:
        path: a file or folder in any readable format; a canonical directory is verified and returned as it is. A URI
            of remote storage is fetched first.
        out: folder of normalized checkpoints; made when missing. In remote storage the manifest is written last.
        model_config: the network, where weights alone do not tell it.
        dtype: `float32` casts floating-point weights, `keep` leaves them.
        allow_non_finite: take weights with NaN or infinity.
        weights: `raw` takes the weights that the optimizer stepped, `ema` their running average in the file.

    Raises:
        CheckpointError: the file is refused, what is stored at that hash is damaged, or `storage`: the disk is full or
            read-only, the remote storage does not answer.
        ConfigError: an option is wrong.
    """
    options = Options(dtype, allow_non_finite, weights)
    with fetched(path) as where:
        if is_canonical(where):
            result = _as_it_is(where, path)
        elif (folder := local_path(out)) is not None:
            result = _normalize(where, folder, model_config, options)
        else:
            result = _normalize_to(where, out, model_config, options)
        return replace(
            result, report=replace(result.report, path=redacted(path)), location=result.location or str(result.path)
        )


def load_state(path: Location, *, model_config: ModelOption = None, weights: str = "raw") -> TrainState:
    """The state in a canonical directory, or in any readable file or folder.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    with fetched(path) as where:
        if is_canonical(where):
            return read_state(where)
        converted = convert(where, model_config, Options(weights=weights))
        identity = scan(where, converted.contents.parts)
        state = _settled(converted).with_provenance(identity)
        moments = state.optimizer and {name: _widened(slots) for name, slots in state.optimizer.items()}
        return replace(state, weights=_widened(state.weights), optimizer=moments)


def load_model(
    path: Location,
    *,
    device: str | torch.device = "cpu",
    model_config: ModelOption = None,
    weights: str = "raw",
) -> SyncNet:
    """The network of a checkpoint with its weights, in eval mode.

    Args:
        path: a file or folder in any readable format, or a canonical directory, of which the weights that it is judged
            by are taken: the running average, where the run kept one.
        device: where to put it.
        model_config: the network, where weights alone do not tell it.
        weights: `raw`, or `ema` for the running average in a foreign file.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    return model_of(load_state(path, model_config=model_config, weights=weights), device=device)


def model_of(state: TrainState, *, device: str | torch.device = "cpu") -> SyncNet:
    """The network of a state with its judged weights in float32, in eval mode.

    Copies: a file may change under its map.
    """
    model = build_meta(state.model)
    weights = {
        name: tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in state.judged_weights.items()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _look(where: Path, model_config: ModelOption, options: Options, deep: bool | None) -> InspectReport:
    if is_canonical(where):
        return _canonical_report(where, read_state(where))
    converted = convert(where, model_config, options)
    if deep is None:
        deep = size_of(converted.contents.parts) <= _SMALL
    if not deep:
        return converted.report(None)
    identity = scan(where, converted.contents.parts)
    return _settled(converted).report(identity)


def _as_it_is(where: Path, path: Location) -> NormalizedCheckpoint:
    report = _canonical_report(where, read_state(where))
    return NormalizedCheckpoint(Path(path), report, read_manifest(where).content_hash, False, str(path))


def _normalize_to(where: Path, out: Location, model_config: ModelOption, options: Options) -> NormalizedCheckpoint:
    """Make it on this machine, then upload what is not there yet."""
    place = open_place(out)  # an address that is wrong is told before the work
    with tempfile.TemporaryDirectory(prefix="syncnet-normalize-") as folder:
        result = _normalize(where, Path(folder), model_config, options)
        written = upload(result.path, place.child(result.state_hash))
    location = join(out, result.state_hash)
    return replace(result, path=Path(location), location=location, written=written)


def _normalize(where: Path, folder: Path, model_config: ModelOption, options: Options) -> NormalizedCheckpoint:
    converted = convert(where, model_config, options)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(
            f"{folder} is a file", reason=RefusalReason.EXISTS, path=str(folder), hint="give a folder to write to"
        )
    return _find(converted, folder) or _make(converted, folder)


def _settled(converted: Converted) -> Converted:
    """Look at every value; what is cast is looked at as cast."""
    weights = converted.state.weights.items()
    bad = [name for name, t in weights if non_finite({name: widened(t) if converted.as_float32 else t})]
    moments = converted.state.optimizer or {}
    return converted.settle(bad, not any(non_finite(slots) for slots in moments.values()))


def _widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: widened(tensor) for name, tensor in tensors.items()}


def _find(converted: Converted, out: Path) -> NormalizedCheckpoint | None:
    """What an earlier call made of the same bytes and options, verified; so that doing it again copies nothing."""
    size, plain = size_of(converted.contents.parts), converted.state.plain()
    candidates = [target for target in _stored(out) if read_report(target).get("size") == size]
    if not candidates:
        return None
    identity = scan(converted.path, converted.contents.parts)
    for target in candidates:
        stored = read_plain(target)
        stored.pop("history")
        if read_report(target).get("sha256") == identity.sha256 and stored == plain:
            return _stored_result(converted, identity, target, read_manifest(target).content_hash)
    return None


def _make(converted: Converted, out: Path) -> NormalizedCheckpoint:
    """Write the state once, whoever comes first."""
    contents = converted.contents
    with partial_directory(out, "normalize") as partial, ThreadPoolExecutor(1) as pool:
        scanning = pool.submit(scan, converted.path, contents.parts)
        written = write_parts(converted.state, partial, as_float32=converted.as_float32, relax=contents.release)
        identity = scanning.result()
        settled = converted.settle(written.non_finite, written.optimizer_is_finite)
        if not written.optimizer_is_finite:
            written = drop_optimizer(partial, written)
        manifest = write_documents(settled.with_provenance(identity), partial, written)
        target = out / manifest.content_hash
        try:
            publish(partial, target)
        except CheckpointError as error:
            if error.reason is not RefusalReason.EXISTS:
                raise
            return _stored_result(settled, identity, target, manifest.content_hash)
    return NormalizedCheckpoint(target, settled.report(identity), manifest.content_hash, True)


def _stored_result(converted: Converted, identity: Identity, target: Path, name: str) -> NormalizedCheckpoint:
    """A directory that is there already, verified."""
    hint = f"remove {target} and normalize again"
    if not is_complete(target):
        raise CheckpointError(f"{target} is incomplete", reason=RefusalReason.CORRUPT, path=str(target), hint=hint)
    if read_manifest(target).content_hash != name or target.name != name:
        what = f"{target} holds another state than its name says"
        raise CheckpointError(what, reason=RefusalReason.CORRUPT, path=str(target), hint=hint)
    state = read_state(target)
    settled = converted.settle(
        non_finite(state.weights), converted.state.optimizer is None or state.optimizer is not None
    )
    return NormalizedCheckpoint(target, settled.report(identity), name, False)


def _stored(out: Path) -> list[Path]:
    """Complete directories of normalized checkpoints; what others are just writing begins with a dot."""
    folders = sorted(out.iterdir()) if out.is_dir() else []
    visible = [folder for folder in folders if not folder.name.startswith(".")]
    return [folder for folder in visible if (folder / REPORT).is_file() and is_complete(folder)]


def _canonical_report(where: Path, state: TrainState) -> InspectReport:
    present, missing = parts(state)
    origin = state.provenance
    return InspectReport(
        path=str(where),
        container=CANONICAL,
        format=CANONICAL,
        architecture=origin.architecture if origin else state.model.name,
        model=state.model,
        parameters=count_parameters(state),
        dtypes=count_dtypes(state.weights),
        step=state.step,
        samples=state.samples,
        present=present,
        missing=missing,
        decisions=origin.decisions if origin else (),
        placeholders=origin.placeholders if origin else (),
    )
