"""What preparation has already done: JSON records beside the shards, and the settings of the folder.

File contract: `shards/<name>.json` lists a record for every clip of the unit, rejected ones included; where it stands,
its shard is whole. `parts/<key>.json` is the record of a single finished clip whose unit is not finished yet, and
`parts/<key>.arrow` a shard with that clip alone. A record that cannot be read counts as absent, so that its clip is
simply prepared again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.data.claim import write_json
from orchestrator.data.importers import SourceClip
from orchestrator.data.manifest import ManifestRow
from orchestrator.data.sources import Sources, SourceState
from orchestrator.errors import StorageError
from orchestrator.storage import Entry, Folder

SHARD_FOLDER = "shards"
PART_FOLDER = "parts"
_READERS = 16  # object storage answers slowly, but many at once


@dataclass(frozen=True)
class Record:
    """One clip as it was when it was prepared."""

    row: ManifestRow
    """Its manifest row as far as its content decides it; `source` is the raw name."""
    size: int
    """Bytes of the source; -1 when it could not be read, which no source matches."""
    mtime_ns: int
    """When the source was changed last."""
    shard_size: int = 0
    """Bytes of the shard that the clip is in: one that was cut short is not whole. 0 when it is rejected."""

    def stands(self, shard: Entry | None) -> bool:
        """Whether what was prepared of it is there, given the shard as it is now; of a rejected clip nothing is."""
        return not self.row.ok or (shard is not None and shard.size == self.shard_size)

    def describes(self, clip: SourceClip, sources: Sources) -> bool:
        """Whether the source still has the prepared content. Only a changed time costs reading it."""
        return sources.unchanged(clip, SourceState(self.size, self.mtime_ns), self.row.fingerprint)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        plain = asdict(self)
        plain["row"]["speech"] = self.row.speech.hex()
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Record:
        """The inverse of `to_json`."""
        row = {**plain["row"], "speech": bytes.fromhex(plain["row"]["speech"])}
        return cls(ManifestRow(**row), plain["size"], plain["mtime_ns"], plain["shard_size"])


def write_records(out: Folder, name: str, records: Iterable[Record]) -> None:
    """Write records under a name without extension, as a whole."""
    write_json(out, f"{name}.json", [record.to_json() for record in records])


def read_records(out: Folder, name: str) -> list[Record]:
    """The records under a name; none when they are not there or damaged."""
    try:
        return [Record.from_json(entry) for entry in json.loads(out.read(f"{name}.json"))]
    except StorageError as error:
        if error.missing:
            return []
        raise
    except (ValueError, KeyError, TypeError):
        return []


def current_records(sources: Sources, out: Folder, clips: Iterable[SourceClip], preparation: str) -> dict[str, Record]:
    """The record of every clip that is already in a shard, as it stands now and with these settings, by source."""
    files = {entry.name: entry for entry in out.entries(SHARD_FOLDER)}
    known: dict[str, list[Record]] = defaultdict(list)
    sidecars = sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))
    with ThreadPoolExecutor(_READERS) as pool:
        for records in pool.map(lambda name: read_records(out, name), sidecars):
            for record in records:
                if record.row.preparation == preparation:  # others stay behind when the folder's settings are lost
                    known[record.row.source].append(record)
    found: dict[str, Record] = {}
    for clip in clips:
        for record in known.get(clip.source, ()):
            if record.stands(files.get(record.row.shard)) and record.describes(clip, sources):
                found[clip.source] = record
                break
    return found
