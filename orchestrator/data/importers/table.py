"""A table of clips: `clips.parquet`, `clips.csv` or `clips.jsonl` with the columns of `SourceClip`.

This is the contract between the stages: aligning writes such a table beside its clips, and anyone may write one by
hand to say who speaks, in which language, how far sound and picture are apart, or which clips validate. `source` and
`speaker` must be there; what is not known is left aside with a note; a bad value is one error with its line and column.
"""

from __future__ import annotations

import csv
import io
import json
import math
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.files import printable
from orchestrator.data.importers.clips import LONGEST_OFFSET_S, OK, REJECTED, SourceClip
from orchestrator.data.importers.names import counted
from orchestrator.data.importers.places import missing, place
from orchestrator.errors import DataError
from orchestrator.storage import Folder

TABLE_NAMES = ("clips.parquet", "clips.csv", "clips.jsonl")
REQUIRED = ("source", "speaker")
_OF_ALIGN = frozenset({"start_s", "end_s", "face_px", "confidence", "turn", "outside", "sharpness", "bridged"})
"""What aligning says of a clip besides; for people who read the table."""
_ASIDE = "give layout folder (or another) to leave the table aside"

Row = tuple[str, dict[str, Any]]
"""Where it stands (`line 3`) and its values."""


def read_table(root: Folder, table_name: str) -> tuple[list[SourceClip], list[str]]:
    """The clips of a table, sorted by source, and notes.

    Raises:
        DataError: `bad_table`, naming line and column.
    """
    name = posixpath.join(root.name, table_name)
    columns, rows = _READERS[posixpath.splitext(table_name)[1].lower()](root.read(table_name), name)
    absent = [column for column in REQUIRED if column not in columns]
    if absent:
        message = f"{name} has no column {' and no '.join(absent)}; it has {', '.join(columns) or 'none'}"
        raise DataError(message, reason="bad_table", path=name, hint=f"add it, or {_ASIDE}")
    unknown = [column for column in columns if column not in _COLUMNS and column not in _OF_ALIGN]
    notes = [f"columns that mean nothing here were left aside: {', '.join(unknown)}"] if unknown else []
    clips, absent_notes = _seen(root, table_name, _clips(root, name, rows))
    return clips, notes + absent_notes


def _seen(root: Folder, table_name: str, clips: list[SourceClip]) -> tuple[list[SourceClip], list[str]]:
    """The clips with those that are not there rejected, as a list of files has them, so that none disappears."""
    # a folder of pictures is there with its sound
    files = {clip.source: clip.audio or clip.source for clip in clips if clip.status == OK}
    absent = missing(root, list(files.values()))
    if not absent:
        return clips, []
    gone = {source for source, file in files.items() if file in absent}
    if len(gone) == len(files):
        message = f"none of the {counted(len(gone), 'clip')} of {posixpath.join(root.name, table_name)} is there"
        hint = "a source is absolute, or relative to the folder of the table"
        raise DataError(f"{message}, the first is {printable(min(gone))}", reason="bad_table", hint=hint)
    told = f"{table_name} names {counted(len(gone), 'clip')} not there (`missing`), the first is {printable(min(gone))}"
    return [_not_there(clip) if clip.source in gone else clip for clip in clips], [told]


def _not_there(clip: SourceClip) -> SourceClip:
    return replace(clip, status=REJECTED, reason="missing", detail="listed, but there is no such file")


def _clips(root: Folder, name: str, rows: Iterable[Row]) -> list[SourceClip]:
    clips: dict[str, SourceClip] = {}
    lines: dict[str, str] = {}
    for where, values in rows:
        clip = _clip(root, f"{name}, {where}", values)
        if clip.source in clips:
            message = f"{name}, {where}: source {clip.source!r} stands in {lines[clip.source]} already"
            raise DataError(message, reason="bad_table", path=name, hint="a clip has one row")
        clips[clip.source], lines[clip.source] = clip, where
    if not clips:
        raise DataError(f"{name} has no rows", reason="bad_table", path=name)
    return [clips[source] for source in sorted(clips)]


def _clip(root: Folder, where: str, values: dict[str, Any]) -> SourceClip:
    """One row as a clip; every value is checked."""
    checked: dict[str, Any] = {}
    for column, check in _COLUMNS.items():
        value = values.get(column)
        if value is None or value == "":
            continue
        try:
            checked[column] = check(value)
        except ValueError as error:
            raise _bad_value(where, column, str(error)) from error
    rejected = checked.get("status") == REJECTED
    for column in REQUIRED[:1] if rejected else REQUIRED:
        if column not in checked:
            raise _bad_value(where, column, "must not be empty")
    for column in ("source", "audio"):
        if column in checked:
            checked[column] = place(root, checked[column])
            if not checked[column]:
                raise _bad_value(where, column, "must be a clip, but is the folder of the table itself")
    return SourceClip(**{"speaker": "", **({"reason": "rejected"} if rejected else {}), **checked})


def _bad_value(where: str, column: str, found: str) -> DataError:
    return DataError(f"{where}, column {column}: {found}", reason="bad_table", path=where.rpartition(", ")[0])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, but is {value!r}")
    if "\0" in value:
        raise ValueError(f"must be text, but has a zero byte: {value!r}")
    return value


def _speaker(value: Any) -> str:
    """Numbers are common names of speakers; JSON and Parquet keep them as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _seconds(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= LONGEST_OFFSET_S:  # this way round, because of NaN
        raise ValueError(f"must be seconds between -{LONGEST_OFFSET_S:g} and {LONGEST_OFFSET_S:g}, but is {value!r}")
    return number


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)} (or empty), but is {value!r}")
        return str(value)

    return check


_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "source": _text,
    "speaker": _speaker,
    "audio": _text,
    "av_offset_s": _seconds,
    "split": _one_of("train", "val"),
    "status": _one_of(OK, REJECTED),
    "reason": _text,
    "detail": _text,
    "origin": _text,
    "language": _text,
    "tag": _text,
}


def _parquet(content: bytes, name: str) -> tuple[list[str], Iterator[Row]]:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is no Parquet file: {error}", reason="bad_table", path=name) from error
    kept = table.select([column for column in dict.fromkeys(table.column_names) if column in _COLUMNS])
    return table.column_names, ((f"row {number}", row) for number, row in enumerate(kept.to_pylist(), 1))


def _csv(content: bytes, name: str) -> tuple[list[str], Iterator[Row]]:
    reader = csv.reader(io.StringIO(_decoded(content), newline=""), strict=True)
    try:
        columns = next((line for line in reader if line), [])
    except csv.Error as error:
        raise _bad_line(name, reader.line_num, str(error)) from error
    return columns, _csv_rows(reader, columns, name)


def _csv_rows(reader: Any, columns: list[str], name: str) -> Iterator[Row]:
    try:
        for line in reader:
            if line and len(line) != len(columns):
                found = f"has {len(line)} values, but there are {len(columns)} columns"
                raise _bad_line(name, reader.line_num, found)
            if line:
                yield f"line {reader.line_num}", dict(zip(columns, line, strict=True))
    except csv.Error as error:
        raise _bad_line(name, reader.line_num, str(error)) from error


def _jsonl(content: bytes, name: str) -> tuple[list[str], Iterator[Row]]:
    rows: list[Row] = []
    for number, line in enumerate(_decoded(content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _bad_line(name, number, f"is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise _bad_line(name, number, "is no JSON object")
        rows.append((f"line {number}", row))
    # Rows may leave out what they do not know, but not what is required: that is seen row by row.
    return list(dict.fromkeys([*(REQUIRED if rows else ()), *(key for _, row in rows for key in row)])), iter(rows)


def _decoded(content: bytes) -> str:
    return content.decode("utf-8-sig", "surrogateescape")


def _bad_line(name: str, number: int, found: str) -> DataError:
    return DataError(f"{name}, line {number}: {found}", reason="bad_table", path=name, hint=f"correct it, or {_ASIDE}")


_READERS: dict[str, Callable[[bytes, str], tuple[list[str], Iterator[Row]]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
}
