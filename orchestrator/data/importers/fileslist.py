"""LatentSync's `fileslist.txt`: one path per line, absolute, a URI, or relative to the folder of the list.

Blank lines and lines that begin with `#` are left aside, a file that is listed twice is one clip, and one that is not
there is a rejected clip, so that it is seen. Names that are not UTF-8 survive.
"""

from __future__ import annotations

import codecs
import posixpath

from orchestrator.data.files import printable
from orchestrator.data.importers.clips import REJECTED, SourceClip
from orchestrator.data.importers.names import counted
from orchestrator.data.importers.places import missing, place
from orchestrator.errors import DataError
from orchestrator.storage import Folder

LIST_NAME = "fileslist.txt"


def read_fileslist(root: Folder, list_name: str = LIST_NAME) -> tuple[list[SourceClip], list[str]]:
    """The listed clips, sorted and without speakers, and notes.

    Args:
        root: the folder of the list.
        list_name: the list in it.

    Raises:
        DataError: `bad_list` when it is no text, lists nothing, or nothing of what it lists is there.
    """
    name = posixpath.join(root.name, list_name)
    lines = listed_paths(_text(root.read(list_name), name))
    if not lines:
        raise DataError(f"{name} lists no file", reason="bad_list", path=name)
    sources = sorted({place(root, line) for line in lines})
    absent = missing(root, sources)
    if len(absent) == len(sources):
        first = printable(lines[0])
        message = f"none of the {counted(len(sources), 'file')} that {name} lists is there, the first is {first}"
        hint = "a list holds one path per line, absolute or relative to the folder of the list"
        raise DataError(message, reason="bad_list", path=name, hint=hint)
    notes = []
    if len(sources) < len(lines):
        notes.append(f"{list_name} repeats {counted(len(lines) - len(sources), 'file')}")
    if absent:
        first = printable(min(absent))
        notes.append(f"{list_name} names {counted(len(absent), 'file')} not there (`missing`), the first is {first}")
    return [_clip(source, source in absent) for source in sources], notes


def listed_paths(text: str) -> list[str]:
    """The paths in a list's text, in order and with repetitions."""
    lines = (line.strip() for line in text.replace("\r", "\n").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _text(content: bytes, name: str) -> str:
    if b"\0" in content:
        message = f"{name} is no list of files: it is not text (zero bytes in it)"
        raise DataError(message, reason="bad_list", path=name)
    return content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _clip(source: str, absent: bool) -> SourceClip:
    if absent:
        return SourceClip(source, "", status=REJECTED, reason="missing", detail="listed, but there is no such file")
    return SourceClip(source, "")
