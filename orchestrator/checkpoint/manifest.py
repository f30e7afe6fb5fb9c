"""The manifest of a canonical directory: written last, so that its presence means that all the rest is there.

Contract (`manifest.json`): `kind`, `format_version`, `content_hash`, `content` (digest of each part), `files` (name ->
size and digest: `sha256` of the bytes, or for safetensors `tensors_sha256`, the digest of names, types, shapes and
values), and `manifest_hash`, the sha256 of the canonical JSON of all other keys, so that damage to the manifest itself
is noticed too. Canonical JSON: keys sorted, no spaces, UTF-8. Version 1 had the `sha256` of the bytes everywhere.
Version 3 is version 2 with a running average of the weights: only states that have one are written in it, so that older
readers refuse them instead of taking other weights than the judged ones; all other states keep their bytes and hashes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import CheckpointError, RefusalReason

KIND = "syncnet-orchestrator.train-state"
"""What every manifest of ours says it is."""
FORMAT_VERSION = 3
"""The newest that is read; raised when a reader of this version could no longer understand the directory."""
MANIFEST = "manifest.json"
"""Its file name."""
REQUIRED = frozenset({"model.safetensors", "state.json"})
"""Files without which there is no training state."""

_PLAIN_NAME = re.compile(r"[a-z_]+\.(safetensors|json|csv)")
_BYTES, _TENSORS = "sha256", "tensors_sha256"


@dataclass(frozen=True)
class FileEntry:
    """What a manifest says about one file."""

    digest: str
    """Of its bytes, or of its tensors."""
    size: int
    """Its length in bytes."""
    of_tensors: bool = False
    """Whether the digest is over the tensors in the file."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {_TENSORS if self.of_tensors else _BYTES: self.digest, "size": self.size}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FileEntry:
        """The inverse of `to_dict`."""
        of_tensors = _TENSORS in raw
        return cls(str(raw[_TENSORS if of_tensors else _BYTES]), int(raw["size"]), of_tensors)


@dataclass(frozen=True)
class Manifest:
    """What is in a canonical directory."""

    content_hash: str
    """Digest of the training state: same state, same hash, wherever and whenever it was written."""
    content: dict[str, str | None]
    """Digest of each part: `weights`, `optimizer`, `rng`, `history`, `state`; none where the part is absent. `ema` is
    among them only where there is one."""
    files: dict[str, FileEntry]
    """Every file beside the manifest."""
    version: int
    """The format version of the directory."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, signed with its own hash."""
        raw: dict[str, Any] = {
            "kind": KIND,
            "format_version": self.version,
            "content_hash": self.content_hash,
            "content": self.content,
            "files": {name: entry.to_dict() for name, entry in self.files.items()},
        }
        return {**raw, "manifest_hash": digest_of(raw)}


def canonical_json(value: Any) -> bytes:
    """The one spelling of plain data that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of plain data."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def written_version(content: Mapping[str, str | None]) -> int:
    """The format version in which a state of these parts is written: the oldest that can hold it."""
    return 3 if "ema" in content else 2


def content_digest(content: Mapping[str, str | None], version: int | None = None) -> str:
    """The content hash of a state whose parts have these digests; of today's version when none is given."""
    return digest_of({"kind": KIND, "format_version": version or written_version(content), **content})


def parse_manifest(text: bytes, path: str) -> Manifest:
    """Read and check a manifest.

    Raises:
        CheckpointError: `corrupt`, or `unsupported` when a newer version wrote it.
    """
    try:
        raw = json.loads(text)
        version = raw["format_version"] if raw["kind"] == KIND else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise _too_new(version, path)
        return _checked(raw, version)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}",
            reason=RefusalReason.CORRUPT,
            path=path,
            hint="copy or download the checkpoint directory again, or use an earlier one",
        ) from error


def _checked(raw: dict[str, Any], version: object) -> Manifest:
    signature = raw.pop("manifest_hash")
    if not isinstance(version, int) or version < 1:
        raise ValueError("it does not describe a training state")
    if digest_of(raw) != signature:
        raise ValueError("its content does not match its own hash")
    if content_digest(raw["content"], version) != raw["content_hash"]:
        raise ValueError("the content hash does not follow from its parts")
    if not set(raw["files"]) >= REQUIRED:
        raise ValueError(f"it must list {' and '.join(sorted(REQUIRED))}")
    for name in raw["files"]:
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError(f"it lists {name!r}, which is no file of a checkpoint")
    files = {name: FileEntry.from_dict(entry) for name, entry in raw["files"].items()}
    return Manifest(raw["content_hash"], raw["content"], files, version)


def _too_new(version: int, path: str) -> CheckpointError:
    return CheckpointError(
        f"{path} has format version {version}, but this program reads up to {FORMAT_VERSION}",
        reason=RefusalReason.UNSUPPORTED,
        path=path,
        hint="update the orchestrator",
    )
