"""Sounds from elsewhere: how well a picture fits what does not belong to it, to tell how much its own fit says.

Contract: the same sounds for every clip of a corpus, chosen by its size alone, so that it does not matter how its clips
are shared among processes; each process embeds them once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from orchestrator.evaluation.material import Material
from orchestrator.evaluation.towers import Floats, Towers

SOUNDS = 20
"""Clips whose sounds are tried under every picture; each of them in three places."""
_WINDOWS = 100
"""Windows of each of these sounds."""
T = TypeVar("T")


def spread(clips: Sequence[T], most: int = SOUNDS) -> tuple[T, ...]:
    """Up to so many of the clips, evenly; none where there is only one clip, whose own sound is not elsewhere."""
    count = min(len(clips), most)
    return tuple(clips[number * len(clips) // count] for number in range(count)) if len(clips) > 1 else ()


def sound_of(towers: Towers, key: str, clip: Callable[[], Material]) -> Floats:
    """(A, E) the embeddings of a clip's sound, from its beginning on.

    Args:
        towers: the network, which remembers them.
        key: tells the clip from all others.
        clip: gives it.
    """

    def embed() -> Floats:
        material = clip()
        starts = material.audio_starts(towers.num_frames)[:_WINDOWS]
        return towers.embed(material, starts[:0], starts).audio_AE

    return towers.remembered(key, embed)
