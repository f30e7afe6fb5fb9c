"""One video file as aligned picture and sound: 25 frames a second and 16 kHz mono, both placed by their timestamps.

Contract: frame k of the result is the source frame nearest to k / 25 s after the first one; wave sample 0 is at the
time of frame 0, and the wave has exactly 640 samples per frame, zeros where the source has no sound. Nothing is ever
relabelled: other and variable rates are resampled by time. Frames go to a sink one by one, so that memory need not
hold a clip. Every failure of a file is one `DataError` with a reason code; what a sink raises comes through as it is.
"""

# T frames, H W pixels, C channels

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.media.frames import FrameChunks, FrameSink, damage_named
from orchestrator.data.media.soundtrack import Soundtrack
from orchestrator.errors import DataError

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
_LONGEST_LOSS = Fraction(1, 2)  # seconds of declared video that may be missing before a file counts as cut off


@dataclass(frozen=True)
class DecodedClip:
    """Aligned picture and sound of a clip."""

    frames_THWC: NDArray[np.uint8]
    """RGB at 25 frames per second. A view of channel-first memory: transposing it to TCHW costs nothing."""
    wave: NDArray[np.float32]
    """`(T * 640,)` mono at 16 kHz, in [-1, 1]."""


def decode_clip(
    path: str | Path, resolution: int | None = None, *, lower_half: bool = False, max_frames: int | None = None
) -> DecodedClip:
    """Decode a video file into memory.

    Args:
        path: the file; it is only read.
        resolution, lower_half, max_frames: as `FrameChunks`.

    Raises:
        DataError: as `decode_into` and `FrameChunks`.
    """
    chunks: list[NDArray[np.uint8]] = []
    sink = FrameChunks(
        lambda chunk: chunks.append(chunk.copy()), resolution=resolution, lower_half=lower_half, max_frames=max_frames
    )
    wave = decode_into(path, sink)
    sink.finish()
    return DecodedClip(np.concatenate(chunks).transpose(0, 2, 3, 1), wave)


def decode_into(path: str | Path, sink: FrameSink) -> NDArray[np.float32]:
    """Decode a video file: its frames at 25 per second into `sink`, its sound as the result.

    Args:
        path: the file; it is only read.
        sink: takes the frames in order.

    Returns:
        The wave, float32 `(T * 640,)` mono at 16 kHz in [-1, 1], T being the frames that went to the sink.

    Raises:
        DataError: `missing`, `empty_file`, `unreadable` (not a video, or damaged), `no_video`, `no_audio`,
            `truncated`.
    """
    path = Path(path)
    _check_file(path)
    try:
        with damage_named():
            container = av.open(str(path), metadata_errors="ignore")
        with container:
            return _decode(container, sink)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", reason=error.reason, path=str(path), hint=error.hint) from error


class _Ticker:
    """Hands each source frame to the sink as often as it is the one nearest to a tick of 1/25 s."""

    def __init__(self, sink: FrameSink, stream: VideoStream) -> None:
        self._sink = sink
        self._interval = 1 / (stream.guessed_rate or Fraction(FPS))
        self._last: tuple[VideoFrame, Fraction] | None = None
        self.count = 0
        """Ticks that have been shown."""
        self.start: Fraction | None = None
        """Time of the first frame in seconds, on the container's clock."""
        self.end = Fraction(0)
        """When the last frame ends, in seconds after the first one."""

    def push(self, frame: VideoFrame) -> None:
        """Take the next source frame."""
        time = self._time_of(frame)
        if self.start is None:
            self.start = time
        relative, step = time - self.start, self._interval
        if self._last is not None:
            previous, since = self._last
            if relative <= since:  # a repeated timestamp shows nothing new at any tick
                return
            # Ticks up to the midpoint are nearer to the previous frame.
            self._show(previous, until=int((since + relative) / 2 * FPS) + 1)
            step = relative - since
        self._last = frame, relative
        # Some containers give no duration or a nonsensical one: the last step stands in, up to one tick.
        self.end = relative + max(_duration_of(frame), min(step, Fraction(1, FPS)))

    def finish(self) -> None:
        """Show the last frame until its end, rounded to a whole tick."""
        if self._last is None:
            raise DataError("has a video stream without a single frame", reason="no_video")
        self._show(self._last[0], until=max(round(self.end * FPS), 1))

    def _show(self, frame: VideoFrame, until: int) -> None:
        if until > self.count:
            self._sink.add(frame, until - self.count)
            self.count = until

    def _time_of(self, frame: VideoFrame) -> Fraction:
        if frame.pts is not None and frame.time_base is not None:
            return frame.pts * Fraction(frame.time_base)
        if self.start is None or self._last is None:
            return Fraction(0)
        return self.start + self._last[1] + self._interval


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file", reason="missing", path=str(path))
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)", reason="empty_file", path=str(path))


def _decode(container: InputContainer, sink: FrameSink) -> NDArray[np.float32]:
    video, audio = _streams(container)
    ticker, soundtrack = _Ticker(sink, video), Soundtrack()
    packets = container.demux(video, audio)
    while True:
        # What FFmpeg raises is the file's fault, what the sink raises is not: only the former is translated.
        with damage_named():
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else []
            for frame in frames:
                if isinstance(frame, av.AudioFrame):
                    soundtrack.push(frame)
        for frame in frames:
            if isinstance(frame, VideoFrame):
                ticker.push(frame)
        if packet is None:
            break
    ticker.finish()
    _check_whole(container, video, ticker, soundtrack)
    with damage_named():
        return soundtrack.render(ticker.start or Fraction(0), ticker.count * SAMPLES_PER_FRAME)


def _streams(container: InputContainer) -> tuple[VideoStream, AudioStream]:
    """The picture and the sound to use. A cover image is not a video."""
    video = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
    if video is None:
        raise DataError("has no video stream", reason="no_video")
    sounds = container.streams.audio
    audio = next((s for s in sounds if s.disposition & Disposition.default), next(iter(sounds), None))
    if audio is None:
        raise DataError("has no audio stream", reason="no_audio")
    video.codec_context.thread_count = 1  # clips are decoded in parallel, one per core
    return video, audio


def _check_whole(container: InputContainer, video: VideoStream, ticker: _Ticker, soundtrack: Soundtrack) -> None:
    """Refuse a file whose header promises much more than it holds: it is half a download."""
    if video.duration is not None and video.time_base is not None:
        declared, seen = video.duration * Fraction(video.time_base), ticker.end
    elif container.duration is not None:  # Matroska declares only when the longest stream ends, counted from 0
        declared = Fraction(container.duration, av.time_base)
        seen = max((ticker.start or Fraction(0)) + ticker.end, soundtrack.end)
    else:
        return
    if seen < declared - max(_LONGEST_LOSS, declared / 10):
        message = f"the file is cut off: {float(seen):.2f} s of the {float(declared):.2f} s that it declares"
        raise DataError(message, reason="truncated")


def _duration_of(frame: VideoFrame) -> Fraction:
    """How long the frame says that it is shown, in seconds; 0 when it does not say."""
    return frame.duration * Fraction(frame.time_base) if frame.duration and frame.time_base else Fraction(0)
