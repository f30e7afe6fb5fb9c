"""What a list of file names is: which layout the clips lie in, and who speaks in each. Pure functions of the names.

A layout is taken only when nearly all clips fit it, because a wrong one puts one face into both splits. What fits
nothing is a plain folder; what was nearly taken for something is said.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from orchestrator.data.files import printable
from orchestrator.data.importers.clips import Listing, NameLayout, SourceClip
from orchestrator.data.importers.hdtf import HDTF
from orchestrator.data.importers.lrs import LRS
from orchestrator.data.importers.names import (
    counted,
    is_video,
    kinds_of,
    relative_to_each_other,
    without_extension,
)
from orchestrator.data.importers.speakers import (
    AUTO,
    NO_SPEAKER,
    told_by,
    with_speakers,
    without_speaker,
)
from orchestrator.data.importers.voxceleb2 import VOXCELEB2
from orchestrator.data.importers.wav2lip import LIES, frame_folders, is_part

NAMED: tuple[NameLayout, ...] = (VOXCELEB2, HDTF, LRS)
"""Data sets that are known by the names of their videos, in the order in which they are asked."""
WAV2LIP, FOLDER = "wav2lip", "folder"
_MOST = 0.9


def recognise(names: Sequence[str], layout: str = AUTO, speaker: str = AUTO) -> Listing:
    """The clips among the relative names of all files of a root.

    Args:
        names: POSIX paths.
        layout: `auto`, `wav2lip`, the name of one of `NAMED`, or `folder`.
        speaker: the speaker rule.
    """
    folders = frame_folders(names)
    videos = sorted(name for name in names if is_video(name))
    if layout == WAV2LIP or (layout == AUTO and len(folders) > _MOST * (len(folders) + len(videos))):
        clips, rest = [SourceClip(folder, "", audio) for folder, audio in folders.items()], []
        taken = [f"taken for what Wav2Lip's preprocessing leaves: {LIES}"]
    else:
        clips, rest = [SourceClip(name, "") for name in videos], list(folders)
        taken = []
    like, likeness = name_layout(clips, set(names), layout)
    used = {clip.source for clip in clips}
    aside = [name for name in names if name not in used and not is_part(name, folders)]
    spoken, who = tell_speakers(clips, set(names), like, speaker, "parent" if taken else FOLDER)
    name = WAV2LIP if taken else like.name if like else FOLDER
    return Listing(name, tuple(spoken), (*taken, *likeness, *who, *_left_aside(aside, rest)))


def name_layout(clips: Sequence[SourceClip], names: Set[str], layout: str) -> tuple[NameLayout | None, list[str]]:
    """The data set that the clips' names belong to, if any, and what there is to say about it."""
    paths = _paths(clips)
    fits = {like: sum(like.speaker(path, names) is not None for path in paths) for like in NAMED}
    asked = next((like for like in NAMED if like.name == layout), None)
    if asked is None and (layout == FOLDER or not clips):
        return None, []
    best = asked or max(NAMED, key=lambda like: fits[like])
    share = f"{fits[best]:,} of {counted(len(clips), 'clip')} lie as {best.lies}"
    if asked or fits[best] >= _MOST * len(clips):
        return best, [f"taken for {best.title}: {share}"]
    return None, [f"not taken for {best.title}, although {share}"] if fits[best] else []


def tell_speakers(
    clips: Sequence[SourceClip], names: Set[str], like: NameLayout | None, rule: str, otherwise: str
) -> tuple[list[SourceClip], list[str]]:
    """The clips with their speakers and with the data set that they belong to as their tag, and notes.

    Args:
        clips: clips without speakers.
        names: all names of the root.
        like: the data set that the clips belong to, which tells the speaker when the rule is `auto`.
        rule: the person's rule, or `auto`.
        otherwise: the rule in place of `auto` when the clips belong to no known data set.
    """
    if like is not None:
        clips = [_of_set(clip, like, path, names) for clip, path in zip(clips, _paths(clips), strict=True)]
    if rule == AUTO and like is not None:
        told = [clip if clip.tag else without_speaker(clip, _strange(like)) for clip in clips]
        words = like.told
    else:
        rule = otherwise if rule == AUTO else rule
        told, words = with_speakers(clips, rule), told_by(rule)
    speakers = {clip.speaker for clip in told if clip.speaker}
    notes = [f"the speaker of a clip is {words}: {counted(len(speakers), 'speaker')}"]
    lost = [clip.source for clip in told if clip.reason == NO_SPEAKER]
    if lost:
        notes.append(f"{counted(len(lost), 'clip')} rejected as `{NO_SPEAKER}`, the first is {printable(lost[0])}")
    return told, notes


def _of_set(clip: SourceClip, like: NameLayout, path: str, names: Set[str]) -> SourceClip:
    speaker = like.speaker(path, names)
    return clip if speaker is None else replace(clip, speaker=speaker, tag=like.name)


def _strange(like: NameLayout) -> str:
    return f"its path does not fit {like.title}: {like.lies}"


def _paths(clips: Sequence[SourceClip]) -> list[str]:
    return [without_extension(path) for path in relative_to_each_other([clip.source for clip in clips])]


def _left_aside(files: Sequence[str], folders: Sequence[str]) -> list[str]:
    notes = []
    if folders:
        what = counted(len(folders), "folder")
        notes.append(f"left aside: {what} of frames and sound, which layout {WAV2LIP} would take")
    if files:
        notes.append(
            f"left aside: {counted(len(files), 'file')} that {'is' if len(files) == 1 else 'are'} no clip "
            f"({kinds_of(files)})"
        )
    return notes
