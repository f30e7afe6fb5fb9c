"""All layouts in one place, and the choice between them.

`auto` asks in this order: a table of clips, a list of files, then what the names of all files say (`recognise`). A
new data set that is known by its names is one file and one line in `recognise.NAMED`.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from orchestrator.data.files import VIDEO_EXTENSIONS
from orchestrator.data.importers.clips import Listing
from orchestrator.data.importers.fileslist import LIST_NAME, read_fileslist
from orchestrator.data.importers.names import counted
from orchestrator.data.importers.recognise import FOLDER, NAMED, WAV2LIP, name_layout, recognise, tell_speakers
from orchestrator.data.importers.speakers import AUTO, check_rule, told_by, with_speakers
from orchestrator.data.importers.table import TABLE_NAMES, read_table
from orchestrator.data.importers.wav2lip import LIES
from orchestrator.errors import DataError
from orchestrator.storage import Folder, open_folder

TABLE, FILESLIST = "table", "fileslist"
LAYOUTS = (AUTO, TABLE, FILESLIST, WAV2LIP, *(layout.name for layout in NAMED), FOLDER)
"""Everything that `layout` may be."""
_USUAL = {TABLE: TABLE_NAMES, FILESLIST: (LIST_NAME,)}
_KINDS = {".txt": FILESLIST, **{posixpath.splitext(name)[1]: TABLE for name in TABLE_NAMES}}


def open_clips(where: str | Path, layout: str = AUTO, speaker: str = AUTO) -> tuple[Folder, Listing]:
    """Find the clips of a folder, or of a list of files (`.txt`) or a table (`.parquet`, `.csv`, `.jsonl`) itself.

    Returns:
        the folder to which the sources are relative, and its clips.

    Raises:
        DataError: as `find_clips`.
    """
    text = str(where).rstrip("/")
    kind = _KINDS.get(posixpath.splitext(text)[1].lower())
    if kind is None or Path(text).is_dir():
        root = open_folder(where)
        return root, find_clips(root, layout, speaker)
    head, _, name = text.rpartition("/")
    root = open_folder(head or ("/" if text.startswith("/") else "."))
    return root, find_clips(root, layout, speaker, list_name=name)


def find_clips(root: Folder, layout: str = AUTO, speaker: str = AUTO, *, list_name: str = "") -> Listing:
    """All clips of a root with their speakers.

    Args:
        root: the folder.
        layout: how the clips lie: one of `LAYOUTS`.
        speaker: how the speaker is told: `auto`, `folder`, `parent`, `file` or `regex:PATTERN`.
        list_name: the table or list in the root that names the clips, whatever it is called. A data set's layout says
            how the paths in a list lie.

    Raises:
        DataError: `bad_layout`, `bad_speaker_rule`; `bad_table`, `bad_list`; `missing` without such a folder, table
            or list; `no_videos` without any clip.
    """
    check_rule(speaker)
    if layout not in LAYOUTS:
        message = f"the layout must be {', '.join(LAYOUTS[:-1])} or {LAYOUTS[-1]}, but is {layout!r}"
        raise DataError(message, reason="bad_layout")
    if root.local_path is not None and not root.local_path.is_dir():
        if root.local_path.exists():
            message = f"{root.name} is a file, but no list of videos"
            hint = "give the folder that it lies in, or a list (.txt) or table (.csv, .jsonl, .parquet) of videos"
            raise DataError(message, reason="missing", path=root.name, hint=hint)
        raise DataError(f"there is no folder {root.name}", reason="missing", path=root.name)
    kind, name = _list_in(root, layout, list_name)
    if kind == TABLE:
        return _table(root, name, speaker)
    if kind == FILESLIST:
        return _fileslist(root, name, layout, speaker)
    listing = recognise([entry.name for entry in root.entries()], layout, speaker)
    if not listing.clips:
        raise _nothing(root, listing.layout)
    return listing


def _list_in(root: Folder, layout: str, list_name: str) -> tuple[str, str]:
    """The table or list that says what the clips are: (its layout, its name), or empty texts when the files say it."""
    if list_name:
        kind = _KINDS.get(posixpath.splitext(list_name)[1].lower(), FILESLIST)
        others = {FILESLIST, FOLDER, *(like.name for like in NAMED)} if kind == FILESLIST else {TABLE}
        if layout not in (AUTO, *others):
            raise DataError(f"layout {layout} does not fit {list_name}, which is a {kind}", reason="bad_layout")
        return _found_in(root, (list_name,), kind, must=True)
    for kind, usual in _USUAL.items():
        if layout in (kind, AUTO):
            found = _found_in(root, usual, kind, must=layout == kind)
            if found[0]:
                return found
    return "", ""


def _found_in(root: Folder, names: tuple[str, ...], kind: str, must: bool) -> tuple[str, str]:
    found = next((name for name in names if root.entry(name) is not None), None)
    if found is None and must:
        message = f"there is no {' or '.join(names)} in {root.name}"
        raise DataError(message, reason="missing", path=root.name, hint=f"layout {kind} reads the clips from it")
    return (kind, found) if found is not None else ("", "")


def _table(root: Folder, name: str, speaker: str) -> Listing:
    clips, notes = read_table(root, name)
    words = "what the table says"
    if speaker != AUTO:
        clips, words = with_speakers(clips, speaker), told_by(speaker)
    speakers = counted(len({clip.speaker for clip in clips if clip.speaker}), "speaker")
    taken = f"{counted(len(clips), 'clip')} from the table {name}"
    return Listing(TABLE, tuple(clips), (taken, f"the speaker of a clip is {words}: {speakers}", *notes))


def _fileslist(root: Folder, name: str, layout: str, speaker: str) -> Listing:
    clips, notes = read_fileslist(root, name)
    names = {clip.source for clip in clips}
    like, likeness = name_layout(clips, names, layout)
    told, who = tell_speakers(clips, names, like, speaker, FOLDER)
    taken = f"{counted(len(clips), 'clip')} from the list {name}"
    return Listing(FILESLIST, tuple(told), (taken, *likeness, *who, *notes))


def _nothing(root: Folder, layout: str) -> DataError:
    if layout == WAV2LIP:
        message = f"there is no folder of frames and sound ({LIES}) in {root.name} or below"
        return DataError(message, reason="no_videos", path=root.name)
    hint = f"videos are files named {', '.join(sorted(VIDEO_EXTENSIONS))}; hidden ones are left out"
    return DataError(f"there is no video in {root.name} or below", reason="no_videos", path=root.name, hint=hint)
