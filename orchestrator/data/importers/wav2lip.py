"""What Wav2Lip's preprocessing leaves: a folder per clip with `0.jpg, 1.jpg, ...` and `audio.wav`, at any depth.

The clip is the folder. Its pictures are face crops at 25 per second; whether they are all there is seen when the clip
is decoded. The speaker is told from the path as for videos when it lies as a known data set, else it is the folder
that the clip's folder lies in, as in LRS2; a clip directly in the root is a speaker of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SOUND = "audio.wav"
PICTURE = re.compile(r"\d+\.(?:jpg|jpeg|png)", re.IGNORECASE)
LIES = "<speaker>/<clip>/0.jpg, 1.jpg, ... and audio.wav"


def frame_folders(names: Iterable[str]) -> dict[str, str]:
    """The folders that hold numbered pictures and their sound: folder -> sound file, sorted. The root is none."""
    pictured: set[str] = set()
    sounding: set[str] = set()
    for name in names:
        folder, _, base = name.rpartition("/")
        if PICTURE.fullmatch(base):
            pictured.add(folder)
        elif base == SOUND:
            sounding.add(folder)
    return {folder: f"{folder}/{SOUND}" for folder in sorted((pictured & sounding) - {""})}


def is_part(name: str, folders: dict[str, str]) -> bool:
    """Whether a file is a picture or the sound of one of these folders."""
    folder, _, base = name.rpartition("/")
    return folder in folders and (base == SOUND or PICTURE.fullmatch(base) is not None)
