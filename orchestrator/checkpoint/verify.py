"""Is a canonical directory, or a folder of them, whole and sensible?

Promises: every byte is read, every problem is named and not only the first, and nothing is changed. Checked are the
manifest, each file's size and digest, that the digests fit each other, and that what is whole also makes sense: weights
of the network, numbers that are finite, an optimizer that can go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.directory import (
    EMA,
    HISTORY,
    OPTIMIZER,
    RNG,
    STATE,
    TENSORS,
    WEIGHTS,
    check_digest,
    check_size,
    is_canonical,
    read_manifest,
    read_part,
    read_state,
)
from orchestrator.checkpoint.manifest import FORMAT_VERSION, MANIFEST, Manifest, digest_of, written_version
from orchestrator.checkpoint.partials import PREFIX
from orchestrator.checkpoint.state import Json, TrainState
from orchestrator.checkpoint.storage import (
    Location,
    checkpoint_errors,
    fetched,
    join,
    local_path,
    open_place,
    redacted,
    state_folders,
    stored_manifest,
)
from orchestrator.checkpoint.store import entries
from orchestrator.checkpoint.tensors import non_finite
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import skeleton

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StateCheck:
    """What `verify` found in one canonical directory."""

    path: str
    """Where it is."""
    content_hash: str = ""
    """The digest of the state, as far as the manifest can be read."""
    files: int = 0
    """How many files were read."""
    size: int = 0
    """Their bytes."""
    problems: tuple[str, ...] = ()
    """All that is wrong."""
    notes: tuple[str, ...] = ()
    """What is odd, but harms nothing."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found."""

    path: str
    """What was verified."""
    states: tuple[StateCheck, ...]
    """Every canonical directory."""
    leftovers: tuple[str, ...] = field(default=())
    """What interrupted programs left there; no checkpoints."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with any of them."""
        return all(state.ok for state in self.states)

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        states = [{**asdict(state), "ok": state.ok} for state in self.states]
        return {"path": self.path, "ok": self.ok, "states": states, "leftovers": list(self.leftovers)}

    def lines(self) -> list[str]:
        """For a person, one fact per line."""
        lines = []
        for state in self.states:
            lines.append(f"{state.path}: {'ok' if state.ok else 'damaged'}, {state.files} files, {state.size:,} bytes")
            lines += [f"  problem: {problem}" for problem in state.problems]
            lines += [f"  note: {note}" for note in state.notes]
        return lines + [f"{name}: left by an interrupted program, no checkpoint" for name in self.leftovers]


def verify(path: Location) -> VerifyReport:
    """Read every byte of a canonical directory, or of all in a folder, and name all problems.

    Args:
        path: a canonical directory or a folder of them; also a URI.

    Raises:
        CheckpointError: `missing`, `storage`, or `not_a_checkpoint` when there is no canonical directory.
    """
    local = local_path(path)
    if local is None:
        return _verify_stored(path)
    if is_canonical(local):
        return VerifyReport(str(path), (_check(local),))
    found = entries(local)
    states = tuple(_check(item) for item in found if not item.name.startswith(PREFIX))
    if not states:
        raise _no_state(str(path))
    return VerifyReport(str(path), states, tuple(item.name for item in found if item.name.startswith(PREFIX)))


def _verify_stored(path: Location) -> VerifyReport:
    """Fetch one directory after the other."""
    place = open_place(path)
    names = [] if stored_manifest(place) is not None else state_folders(place)
    with checkpoint_errors():
        leftovers = tuple(name for name in names if place.child(name).read(MANIFEST) is None)
    checks = []
    for uri in [join(path, name) for name in names if name not in leftovers] or [str(path)] * (not names):
        with fetched(uri) as folder:
            shown = redacted(uri)
            check = _check(folder)
            problems = tuple(problem.replace(str(folder), shown) for problem in check.problems)
            checks.append(replace(check, path=shown, problems=problems))
    if not checks:
        raise _no_state(place.name)
    return VerifyReport(place.name, tuple(checks), leftovers)


def _check(folder: Path) -> StateCheck:
    """All that is wrong with one directory."""
    there = [item for item in folder.iterdir() if item.is_file()]
    result = StateCheck(str(folder), files=len(there), size=sum(item.stat().st_size for item in there))
    try:
        manifest = read_manifest(folder)
    except CheckpointError as error:
        return replace(result, problems=(error.message, *_unreadable(folder)))
    tensors: dict[str, dict[str, Tensor]] = {}
    problems = [problem for name in manifest.files for problem in _file_problems(folder, name, manifest, tensors)]
    problems += _inconsistencies(folder, manifest)
    if not problems:
        problems += _meaning(folder)
    extra = sorted({item.name for item in there} - set(manifest.files) - {MANIFEST})
    notes = [f"{name} is not in the manifest, and is not read" for name in extra]
    if manifest.version < written_version(manifest.content):
        notes.append(f"written in format version {manifest.version}; it is read as version {FORMAT_VERSION}")
    return replace(result, content_hash=manifest.content_hash, problems=tuple(problems), notes=tuple(notes))


def _unreadable(folder: Path) -> list[str]:
    """Without a manifest only the files themselves can tell."""
    return [problem for name in TENSORS if (folder / name).is_file() for problem in _read_problems(folder / name)]


def _file_problems(folder: Path, name: str, manifest: Manifest, tensors: dict[str, Any]) -> Iterator[str]:
    """The first problem of one file; the others follow from it."""
    path, entry = folder / name, manifest.files[name]
    with _collected() as problems:
        check_size(path, entry)
        tensors[name] = read_part(path) if name in TENSORS else {}
        check_digest(path, entry, tensors[name])
    yield from problems


def _inconsistencies(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Digests of the manifest that do not fit each other, its files, or the folder's name."""
    if _HASH.fullmatch(folder.name) and folder.name != manifest.content_hash:
        yield f"{folder} holds another state than its name says: {manifest.content_hash}"
    parts = {WEIGHTS: "weights", EMA: "ema", OPTIMIZER: "optimizer", RNG: "rng", HISTORY: "history"}
    for name, part in parts.items():
        entry = manifest.files.get(name)
        if (entry is None) != (manifest.content.get(part) is None):
            yield f"{folder / MANIFEST} disagrees with itself about whether there is {name}"
        elif entry is not None and manifest.version > 1 and entry.digest != manifest.content[part]:
            yield f"{folder / MANIFEST} disagrees with itself about the digest of {name}"
    try:
        if digest_of(json.loads((folder / STATE).read_bytes())) != manifest.content["state"]:
            yield f"{folder / STATE} is another than the content hash was made of"
    except (OSError, ValueError, KeyError):
        yield f"{folder / STATE} cannot be read"


def _meaning(folder: Path) -> list[str]:
    """Whether what is whole also makes sense; the digests were compared already."""
    with _collected() as problems:
        state = read_state(folder, verify=False)
        for kind, weights in (("weight", state.weights), ("average", state.ema)):
            if weights is not None:
                problems += _misfits(state, kind, weights)
                bad = non_finite(weights)
                if bad and not state.options.get("allow_non_finite"):
                    problems.append(f"{len(bad)} {kind}s hold NaN or infinity: {', '.join(sorted(bad)[:4])}")
        problems += _optimizer_problems(state)
    return problems


def _misfits(state: TrainState, kind: str, weights: Mapping[str, Tensor]) -> Iterator[str]:
    """Weights, or averages of them, that are not those of the network."""
    expected = {name: list(tensor.shape) for name, tensor in skeleton(state.model).state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            yield f"{kind} `{name}` has shape {found.get(name)}, but the network {expected.get(name)}"


def _optimizer_problems(state: TrainState) -> Iterator[str]:
    """Moments of no parameter, of another shape, not finite, or zero beside a step counter."""
    shapes = {name: parameter.shape for name, parameter in skeleton(state.model).named_parameters()}
    stepped, moved = False, False
    for name, slots in (state.optimizer or {}).items():
        moments = {slot: tensor for slot, tensor in slots.items() if slot != "step"}
        if any(tensor.shape != shapes.get(name) for tensor in moments.values()):
            yield f"the optimizer's moments of `{name}` fit no parameter of the network"
        if non_finite(slots):
            yield f"the optimizer's moments of `{name}` hold NaN or infinity"
        stepped = stepped or ("step" in slots and float(slots["step"].max()) > 0)
        moved = moved or any(bool(tensor.any()) for tensor in moments.values())
    if stepped and not moved:
        yield "the optimizer counts steps, but all its moments are zero: its first update would be much too large"


@contextmanager
def _collected() -> Iterator[list[str]]:
    """What is refused in the body becomes one more line."""
    problems: list[str] = []
    try:
        yield problems
    except CheckpointError as error:
        problems.append(error.message)


def _read_problems(path: Path) -> list[str]:
    with _collected() as problems:
        read_part(path)
    return problems


def _no_state(path: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is no canonical directory and holds none",
        reason=RefusalReason.NOT_A_CHECKPOINT,
        path=path,
        hint="`orchestrator inspect` tells what another file or folder is",
    )
