"""What an importer finds: clips with their speakers, and a few sentences for the person who reads along."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

OK, REJECTED = "ok", "rejected"
LONGEST_OFFSET_S = 60.0
"""More between sound and picture is a number in milliseconds or frames."""


@dataclass(frozen=True, slots=True)
class SourceClip:
    """One clip as it lies in the sources, before anything is decoded."""

    source: str
    """POSIX path relative to the root: a video file, or the folder of a clip that is stored as numbered pictures. A
    listed file outside of the root has its absolute path or its URI."""
    speaker: str
    """Who speaks; whole speakers go to one split."""
    audio: str = ""
    """Sound file of a folder of pictures, named as `source` is; empty when the sound is in the video."""
    av_offset_s: float = 0.0
    """How much later the sound comes than the picture, in seconds: the sound of picture time t is at t + this."""
    split: str = ""
    """`train` or `val` when the list fixes it, else empty."""
    status: str = OK
    """`ok` or `rejected`."""
    reason: str = ""
    """Short code of the rejection, e.g. `missing`; empty when ok."""
    detail: str = ""
    """The rejection in a sentence."""
    origin: str = ""
    """The raw video that an aligned clip was cut from; empty for others."""
    language: str = ""
    """What is spoken, e.g. `en`; empty when nobody said."""
    tag: str = ""
    """The data set or site that it comes from; empty when nobody said."""


@dataclass(frozen=True)
class Listing:
    """All clips of a root, in the order of their sources."""

    layout: str
    """The layout that the root was read as; never `auto`."""
    clips: tuple[SourceClip, ...]
    """Every clip, rejected ones included; each source once."""
    notes: tuple[str, ...]
    """What the root was taken for and why, how the speaker is told, and what was left aside: one sentence each."""


@dataclass(frozen=True)
class NameLayout:
    """A data set that is known by the names of its videos."""

    name: str
    """What a person types."""
    title: str
    """What the data set is called."""
    lies: str
    """How its files lie, as a pattern for people."""
    told: str
    """How the speaker is told."""
    speaker: Callable[[str, Set[str]], str | None]
    """(a clip's path without its extension, all names of the root) -> the speaker; none when it does not fit."""
