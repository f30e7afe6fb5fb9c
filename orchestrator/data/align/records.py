"""What became of each video: a JSON record per source, written after its clips, and the table of all of them.

File contract: `records/<key>.json` stands where a video is finished, with a row for every piece of it; the clips that
its rows name are whole then. `records/preparation.json` holds the settings. `clips.parquet` is made of the records; it
is the list of clips that `prepare` reads. A record that cannot be read counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.claim import write_json
from orchestrator.data.files import printable
from orchestrator.data.importers import SourceClip
from orchestrator.data.sources import Sources, SourceState
from orchestrator.errors import StorageError
from orchestrator.storage import Folder

RECORD_FOLDER = "records"
TABLE_NAME = "clips.parquet"


@dataclass(frozen=True)
class ClipRow:
    """One piece of a video, as it stands in the table."""

    source: str
    """The clip, relative to the table; of a rejected piece the name that it would have had."""
    speaker: str
    """Who speaks."""
    status: str = "ok"
    """`ok` or `rejected`."""
    reason: str = ""
    """Short code of the rejection."""
    detail: str = ""
    """The rejection in a sentence."""
    origin: str = ""
    """The raw video."""
    start_s: float = 0.0
    """Where the piece begins in it, in seconds after its first frame."""
    end_s: float = 0.0
    """Where the piece ends in it."""
    av_offset_s: float = 0.0
    """How much later the sound comes than the picture, as the list of raw videos says."""
    split: str = ""
    """`train` or `val` when the list of raw videos fixes it."""
    face_px: float | None = None
    """Median size of the face in the raw video, in pixels; none where no face was seen."""
    confidence: float | None = None
    """Mean score of the face detector."""
    turn: float | None = None
    """Median turn of the head, see `AlignConfig.max_turn`."""
    outside: float | None = None
    """Largest share of an aligned frame that lies outside of the raw picture."""
    sharpness: float | None = None
    """Of the median frame, see `AlignConfig.min_sharpness`; none where nothing was aligned."""
    bridged: int | None = None
    """Frames without a good view of the face whose place was filled in."""
    language: str = ""
    """What is spoken, as the list of raw videos says when the table is written."""
    tag: str = ""
    """Where it comes from, as that list says."""

    @property
    def ok(self) -> bool:
        """Whether there is a clip."""
        return self.status == "ok"

    @property
    def seconds(self) -> float:
        """How long the piece is."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class SourceRecord:
    """One raw video as it was when it was aligned."""

    source: str
    """As it is listed."""
    fingerprint: str
    """SHA-256 of its content; empty when it could not be read."""
    size: int
    """Bytes; -1 when it could not be read, which no file matches."""
    mtime_ns: int
    """When it was changed last."""
    rows: tuple[ClipRow, ...]
    """Its pieces, in order."""

    def describes(self, clip: SourceClip, sources: Sources) -> bool:
        """Whether the video still has this content. Only a changed time costs reading it."""
        return sources.unchanged(clip, SourceState(self.size, self.mtime_ns), self.fingerprint)

    def listed_as(self, clip: SourceClip) -> bool:
        """Whether what the list says of the video is what the clips were named by and say."""
        return all(
            (row.speaker, row.av_offset_s, row.split) == (clip.speaker, clip.av_offset_s, clip.split)
            for row in self.rows
        )


def key_of(source: str) -> str:
    """A name for a source that is short, safe in every file system, and its own."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def write_record(out: Folder, record: SourceRecord) -> None:
    """Say that a video is finished."""
    write_json(out, f"{RECORD_FOLDER}/{key_of(record.source)}.json", asdict(record))


def read_record(out: Folder, source: str) -> SourceRecord | None:
    """The record of a video; none when there is none."""
    try:
        plain = json.loads(out.read(f"{RECORD_FOLDER}/{key_of(source)}.json"))
        rows = tuple(ClipRow(**row) for row in plain.pop("rows"))
        return SourceRecord(**plain, rows=rows)
    except StorageError as error:
        if error.missing:
            return None
        raise
    except (ValueError, KeyError, TypeError):
        return None


def current_record(clip: SourceClip, sources: Sources, out: Folder) -> SourceRecord | None:
    """The record of a video if it is finished as it stands now, with all its clips there."""
    record = read_record(out, clip.source)
    if record is None or not record.listed_as(clip) or not record.describes(clip, sources):
        return None
    whole = all(out.entry(row.source) is not None for row in record.rows if row.ok)
    return record if whole else None


def write_table(out: Folder, rows: Iterable[ClipRow]) -> None:
    """Write `clips.parquet`, with names that are valid Unicode, as Parquet wants them."""
    plain = [asdict(_printable(row)) for row in rows]
    with out.writer(TABLE_NAME) as file:
        pq.write_table(pa.Table.from_pylist(plain, schema=_SCHEMA), file)


def _printable(row: ClipRow) -> ClipRow:
    speaker, origin, language, tag = map(printable, (row.speaker, row.origin, row.language, row.tag))
    return replace(row, speaker=speaker, origin=origin, language=language, tag=tag)


_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("source", "speaker", "status", "reason", "detail", "origin")]
    + [(name, pa.float64()) for name in ("start_s", "end_s", "av_offset_s")]
    + [("split", pa.string())]
    + [(name, pa.float32()) for name in ("face_px", "confidence", "turn", "outside", "sharpness")]
    + [("bridged", pa.int32())]
    + [(name, pa.string()) for name in ("language", "tag")]
)
