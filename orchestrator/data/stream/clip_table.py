"""What the sample stream knows of a split: per clip where its windows may lie, who speaks, and when.

Contract: plain numpy arrays, 24 bytes a clip and one bit a frame, so that a million clips of five seconds take some
40 MB; clip indices are those of the `CorpusSplit` it was made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpeechBits:
    """In which frames of which clip speech is heard: one bit each, the clips' bytes one after another."""

    bits: NDArray[np.uint8]
    """The packed bits of all clips, as `np.packbits` packs them; each clip begins with a new byte."""
    offsets: Ints
    """`(clips + 1,)`: where each clip's bytes begin, and the end. A clip that nobody listened to has none."""

    @classmethod
    def of(cls, clips: Iterable[bytes]) -> Self:
        """From every clip's packed bits."""
        parts = list(clips)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)])
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), offsets)

    def clip(self, clip: int, first: int, count: int) -> NDArray[np.uint8]:
        """`(count,)` of 0 and 1 for the frames from `first` on."""
        start, end = self.offsets[clip : clip + 2]
        return np.unpackbits(self.bits[start:end])[first : first + count]


@dataclass(frozen=True, eq=False)
class ClipTable:
    """The clips of one split as the stream draws from them."""

    firsts: Ints
    """The first usable frame: before it the picture has no sound, or the sound no picture."""
    lengths: Ints
    """How many frames are usable from there on."""
    speakers: NDArray[np.int32]
    """A number per speaker."""
    speech: SpeechBits | None = None
    """In which frames of the picture speech is heard, the clip's A/V offset applied; none when it is not known."""

    @classmethod
    def of(
        cls,
        lengths: ArrayLike,
        *,
        firsts: ArrayLike | None = None,
        speakers: Sequence[str | int] | None = None,
        speech: Iterable[bytes] | None = None,
    ) -> Self:
        """A table from plain values: by default every frame is usable and every clip has its own speaker.

        Args:
            lengths: usable frames of every clip.
            firsts: the first usable frame; 0 when left out.
            speakers: who speaks, under any names.
            speech: every clip's frames with speech, packed by `np.packbits`.
        """
        count = np.asarray(lengths, dtype=np.int64).reshape(-1)
        start = np.zeros_like(count) if firsts is None else np.asarray(firsts, dtype=np.int64)
        who = np.arange(len(count)) if speakers is None else np.unique(np.asarray(speakers), return_inverse=True)[1]
        return cls(start, count, who.astype(np.int32), None if speech is None else SpeechBits.of(speech))

    def __len__(self) -> int:
        return len(self.lengths)

    def same_windows(self, other: ClipTable) -> bool:
        """Whether the windows of one table are those of the other, whoever speaks in them."""
        return np.array_equal(self.firsts, other.firsts) and np.array_equal(self.lengths, other.lengths)
