"""One video file as aligned picture and sound: 25 frames a second and 16 kHz mono, both placed by their timestamps.

Contract: frame k of the result is the source frame nearest to k / 25 s after the first one; wave sample 0 is at the
time of frame 0, and the wave has exactly 640 samples per frame, zeros where the source has no sound. Nothing is ever
relabelled: other and variable rates are resampled by time. Frames are resized and cropped as they come, so memory
holds the result, never the full-size clip. Every failure is one `DataError` with a reason code.
"""

# T frames, H W pixels, C channels

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.features import resize_frames
from orchestrator.data.soundtrack import Soundtrack
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
    """Decode a video file.

    Args:
        path: the file; it is only read.
        resolution: resize frames to this square; none keeps the source's size.
        lower_half: keep only rows `H // 2` and below of the (resized) frame.
        max_frames: refuse clips with more frames than this, before their frames fill the memory.

    Raises:
        DataError: `missing`, `empty_file`, `unreadable` (not a video, or damaged), `no_video`, `no_audio`,
            `truncated`, `too_long`, `varying_size` (only without `resolution`).
    """
    path = Path(path)
    _check_file(path)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return _decode(container, _FrameSink(resolution, lower_half, max_frames))
    except DataError as error:
        raise DataError(f"{path}: {error.message}", reason=error.reason, path=str(path), hint=error.hint) from error
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        message = f"{path}: cannot be decoded, it is no video or is damaged ({_one_line(error)})"
        raise DataError(message, reason="unreadable", path=str(path)) from error


class _FrameSink:
    """Collects the output frames: each is turned upright, resized, cropped and appended channel-first."""

    def __init__(self, resolution: int | None, lower_half: bool, max_frames: int | None) -> None:
        self._resolution, self._lower_half, self._max_frames = resolution, lower_half, max_frames
        self._bytes = bytearray()
        self._shape: tuple[int, ...] | None = None
        self.count = 0

    def add(self, frame: VideoFrame, times: int) -> None:
        """Append a source frame for the next `times` ticks."""
        if times <= 0:
            return
        self.count += times
        if self._max_frames is not None and self.count > self._max_frames:
            message = f"has more than {self._max_frames} frames at {FPS} per second"
            raise DataError(message, reason="too_long", hint="cut it into shorter clips")
        image = self._image(frame)
        if self._shape not in (None, image.shape):
            message = f"the picture size changes from {self._shape} to {image.shape}"
            raise DataError(message, reason="varying_size", hint="give a resolution")
        self._shape = image.shape
        self._bytes += image.tobytes() * times

    def frames_THWC(self) -> NDArray[np.uint8]:
        """All frames, as a view of the collected bytes."""
        if self._shape is None:
            raise DataError("has a video stream without a single frame", reason="no_video")
        frames_TCHW = np.frombuffer(self._bytes, dtype=np.uint8).reshape(self.count, *self._shape)
        return frames_TCHW.transpose(0, 2, 3, 1)

    def _image(self, frame: VideoFrame) -> NDArray[np.uint8]:
        pixels_HWC = frame.to_ndarray(format="rgb24")
        upright_HWC = np.rot90(pixels_HWC, round(frame.rotation / 90) % 4)
        image = torch.from_numpy(upright_HWC.transpose(2, 0, 1).copy())
        if self._resolution is not None:
            image = resize_frames(image[None], self._resolution)[0]
        return image[:, image.shape[1] // 2 if self._lower_half else 0 :].numpy()


class _Ticker:
    """Hands each source frame to the sink as often as it is the one nearest to a tick of 1/25 s."""

    def __init__(self, sink: _FrameSink, stream: VideoStream) -> None:
        self._sink = sink
        self._interval = 1 / (stream.guessed_rate or Fraction(FPS))
        self._last: tuple[VideoFrame, Fraction] | None = None
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
            self._sink.add(previous, int((since + relative) / 2 * FPS) + 1 - self._sink.count)
            step = relative - since
        self._last = frame, relative
        # Some containers give no duration or a nonsensical one: the last step stands in, up to one tick.
        self.end = relative + max(_duration_of(frame), min(step, Fraction(1, FPS)))

    def finish(self) -> None:
        """Show the last frame until its end, rounded to a whole tick."""
        if self._last is not None:
            self._sink.add(self._last[0], max(round(self.end * FPS), 1) - self._sink.count)

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


def _decode(container: InputContainer, sink: _FrameSink) -> DecodedClip:
    video, audio = _streams(container)
    ticker, soundtrack = _Ticker(sink, video), Soundtrack()
    for packet in container.demux(video, audio):
        for frame in packet.decode():
            if isinstance(frame, VideoFrame):
                ticker.push(frame)
            elif isinstance(frame, av.AudioFrame):
                soundtrack.push(frame)
    ticker.finish()
    _check_whole(container, video, ticker, soundtrack)
    frames_THWC = sink.frames_THWC()
    wave = soundtrack.render(ticker.start or Fraction(0), sink.count * SAMPLES_PER_FRAME)
    return DecodedClip(frames_THWC, wave)


def _streams(container: InputContainer) -> tuple[VideoStream, AudioStream]:
    """The picture and the sound to use. A cover image is not a video."""
    video = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
    if video is None:
        raise DataError("has no video stream", reason="no_video")
    audio = next(iter(container.streams.audio), None)
    if audio is None:
        raise DataError("has no audio stream", reason="no_audio")
    video.codec_context.thread_count = 1  # clips are decoded in parallel, one per core
    return video, audio


def _check_whole(container: InputContainer, video: VideoStream, ticker: _Ticker, soundtrack: Soundtrack) -> None:
    """Refuse a file whose header promises much more than it holds: it is half a download."""
    if video.duration is not None and video.time_base is not None:
        declared, seen = video.duration * Fraction(video.time_base), ticker.end
    elif container.duration is not None:  # Matroska declares only the longest stream's length
        declared = Fraction(container.duration, av.time_base)
        seen = max(ticker.end, soundtrack.end - (ticker.start or Fraction(0)))
    else:
        return
    if seen < declared - max(_LONGEST_LOSS, declared / 10):
        message = f"the file is cut off: {float(seen):.2f} s of the {float(declared):.2f} s that it declares"
        raise DataError(message, reason="truncated")


def _duration_of(frame: VideoFrame) -> Fraction:
    """How long the frame says that it is shown, in seconds; 0 when it does not say."""
    return frame.duration * Fraction(frame.time_base) if frame.duration and frame.time_base else Fraction(0)


def _one_line(error: Exception) -> str:
    """The reason in FFmpeg's words, without the path that its message repeats."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
