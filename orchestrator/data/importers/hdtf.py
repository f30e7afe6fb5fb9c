"""HDTF: `RD_Radio10_000.mp4`, `WDA_BarackObama_000.mp4`, `WRA_LamarAlexander0_000.mp4`, flat or in folders.

The last number counts the clips of a video, and the one right after a person's name counts that person's videos: both
are dropped. The radio programmes have no other name than their number. What a cropping step appends
(`..._crop_256_000`, `..._000_0003`) changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Set

from orchestrator.data.importers.clips import NameLayout

_CLIP = re.compile(r"(?P<kind>RD|WDA|WRA)_(?P<who>[^_/\d]+)(?P<number>\d*)_(?:[^/]*_)?\d{3}(?:_[^/]*)?")


def speaker(clip: str, names: Set[str]) -> str | None:
    """The person, or the programme with its number."""
    match = _CLIP.fullmatch(clip.rpartition("/")[2])
    if match is None:
        return None
    return match["who"] + (match["number"] if match["kind"] == "RD" else "")


HDTF = NameLayout(
    "hdtf", "HDTF", "RD_|WDA_|WRA_<name>_000.mp4", "the person or the radio programme in the file's name", speaker
)
