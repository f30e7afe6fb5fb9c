"""Who belongs to validation: whole speakers, never single clips, so that no face is seen on both sides.

Pure functions of the names: the same speakers and fraction give the same split on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "val"]


def split_speakers(speakers: Iterable[str], val_fraction: float) -> dict[str, Split]:
    """Assign every speaker to `train` or `val`.

    Speakers are ranked by the hash of their name and the first `val_fraction` of them validate. With two or more
    speakers both splits get at least one; a single speaker trains.
    """
    ranked = sorted(set(speakers), key=_rank)
    count = 0
    if len(ranked) > 1:
        count = min(max(round(val_fraction * len(ranked)), 1), len(ranked) - 1)
    return {speaker: "val" if place < count else "train" for place, speaker in enumerate(ranked)}


def _rank(speaker: str) -> bytes:
    return hashlib.sha256(speaker.encode("utf-8", "surrogateescape")).digest()
