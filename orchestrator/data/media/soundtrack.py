"""The sound of a clip on one clock: decoded audio frames in, one 16 kHz mono wave out, every part at its own time.

Contract: the parts are placed by timestamp, so late starts and gaps become zeros instead of shifting what follows;
the resampler is flushed at every part's end; two channels are averaged, so that a stereo copy of a mono voice keeps
its level, and more are mixed by their roles.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av import AudioFrame, AudioResampler
from numpy.typing import NDArray

from orchestrator.config.media import SAMPLE_RATE
from orchestrator.errors import DataError

_TOLERANCE = Fraction(1, 50)
"""Seconds by which a timestamp may stray from the sample count (containers round) before it counts as a gap."""


class Soundtrack:
    """Collects the audio frames of one stream."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []

    @property
    def end(self) -> Fraction:
        """When the sound so far ends, in seconds on the container's clock."""
        return self._parts[-1].end if self._parts else Fraction(0)

    def push(self, frame: AudioFrame) -> None:
        """Take the next decoded frame."""
        time = None
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * Fraction(frame.time_base)
        last = self._parts[-1] if self._parts else None
        if last is None or not last.continues_with(frame, time):
            if last is not None:
                last.flush()
            last = _Part(time if time is not None else Fraction(0), frame)
            self._parts.append(last)
        last.push(frame)

    def render(self, start: Fraction, length: int) -> NDArray[np.float32]:
        """The wave of `length` samples from time `start` on: trimmed, or padded with zeros.

        Raises:
            DataError: `no_audio` when not one audio frame was decoded.
        """
        if not self._parts:
            raise DataError("has an audio stream without any sound in it", reason="no_audio")
        self._parts[-1].flush()
        wave = np.zeros(length, dtype=np.float32)
        for part in self._parts:
            offset = round((part.start - start) * SAMPLE_RATE)
            for chunk in part.chunks:  # one by one: all of them in one piece would be the wave once more
                first, last = max(offset, 0), min(offset + len(chunk), length)
                if first < last:
                    wave[first:last] = chunk[first - offset : last - offset]
                offset += len(chunk)
        return wave


class _Part:
    """A run of audio frames without a gap and of one format."""

    def __init__(self, start: Fraction, frame: AudioFrame) -> None:
        self.start = start
        self._kind = _kind_of(frame)
        self.end = start
        # Of surround sound the mean would drown the centre, which has the voice: there FFmpeg's own mix is taken.
        layout = frame.layout if len(frame.layout.channels) <= 2 else "mono"
        self._resampler = AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE)
        self.chunks: list[NDArray[np.float32]] = []
        """What came out of the resampler."""

    def continues_with(self, frame: AudioFrame, time: Fraction | None) -> bool:
        """Whether the frame follows on from this part; one without a timestamp does."""
        return _kind_of(frame) == self._kind and (time is None or abs(time - self.end) <= _TOLERANCE)

    def push(self, frame: AudioFrame) -> None:
        self.end += Fraction(frame.samples, frame.sample_rate)
        self._collect(frame)

    def flush(self) -> None:
        """Take out the samples that the resampler still holds; without them the end would be lost."""
        self._collect(None)

    def _collect(self, frame: AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            if resampled is not None:  # without work to do, the resampler hands the flushing None through
                self.chunks.append(resampled.to_ndarray().mean(axis=0, dtype=np.float32))


def _kind_of(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
