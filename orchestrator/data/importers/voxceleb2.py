"""VoxCeleb2: `idXXXXX/<video>/00001.mp4`, with or without `dev/mp4` or `test/mp4` in front.

Base names repeat in every folder. The sound is in the mp4 files: the `aac` and `txt` trees beside them are left aside.
"""

from __future__ import annotations

import re
from collections.abc import Set

from orchestrator.data.importers.clips import NameLayout

_CLIP = re.compile(r"(?:.*/)?(id\d{5})/[^/]+/\d{5}", re.DOTALL)


def speaker(clip: str, names: Set[str]) -> str | None:
    """The idXXXXX folder."""
    match = _CLIP.fullmatch(clip)
    return match[1] if match else None


VOXCELEB2 = NameLayout("voxceleb2", "VoxCeleb2", "idXXXXX/<video>/00001.mp4", "the idXXXXX folder", speaker)
