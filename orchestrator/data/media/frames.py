"""Decoded frames on their way: turned upright, resized, cropped and handed on in chunks, so that memory never holds a
whole clip.
"""

# n T frames, H W pixels, C channels

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from orchestrator.config.media import FPS
from orchestrator.data.media.features import resize_frames
from orchestrator.errors import DataError


class FrameSink(Protocol):
    """Where decoded frames go."""

    def add(self, frame: VideoFrame, times: int) -> None:
        """Take a source frame, as stored (see `upright`), for the next `times` >= 1 ticks of 1/25 s."""


class FrameChunks:
    """A sink that turns frames upright, resizes, crops, and hands them on channel-first in chunks.

    Args:
        emit: called with uint8 `(n, 3, H, W)` RGB, n <= `chunk`, in order; the array is reused after the call.
        resolution: resize frames to this square; none keeps the source's size.
        lower_half: keep only rows `H // 2` and below of the (resized) frame.
        max_frames: refuse clips with more frames than this, as soon as they come.
        chunk: frames per call.

    Raises:
        DataError: `too_long`; `varying_size` (only without `resolution`); `unreadable` for pixels that FFmpeg cannot
            convert.
    """

    def __init__(
        self,
        emit: Callable[[NDArray[np.uint8]], None],
        *,
        resolution: int | None = None,
        lower_half: bool = False,
        max_frames: int | None = None,
        chunk: int = 256,
    ) -> None:
        self._emit, self._chunk, self._max_frames = emit, chunk, max_frames
        self._resolution, self._lower_half = resolution, lower_half
        self._frames_TCHW: NDArray[np.uint8] | None = None
        self._converter = VideoReformatter()
        self._filled = 0
        self.count = 0
        """Frames so far."""

    def add(self, frame: VideoFrame, times: int) -> None:
        """Append a source frame for the next `times` ticks."""
        self.count += times
        if self._max_frames is not None and self.count > self._max_frames:
            message = f"has more than {self._max_frames} frames at {FPS} per second"
            raise DataError(message, reason="too_long", hint="cut it into shorter clips")
        image_CHW = self._image(frame)
        for _ in range(times):
            self._append(image_CHW)

    def finish(self) -> None:
        """Hand on what is left."""
        if self._frames_TCHW is not None and self._filled:
            self._emit(self._frames_TCHW[: self._filled])
            self._filled = 0

    def _append(self, image_CHW: NDArray[np.uint8]) -> None:
        if self._frames_TCHW is None:
            self._frames_TCHW = np.empty((self._chunk, *image_CHW.shape), dtype=np.uint8)
        if image_CHW.shape != self._frames_TCHW.shape[1:]:
            message = f"the picture size changes from {self._frames_TCHW.shape[1:]} to {image_CHW.shape}"
            raise DataError(message, reason="varying_size", hint="give a resolution")
        self._frames_TCHW[self._filled] = image_CHW
        self._filled += 1
        if self._filled == self._chunk:
            self.finish()

    def _image(self, frame: VideoFrame) -> NDArray[np.uint8]:
        image = torch.from_numpy(upright(frame, self._converter).transpose(2, 0, 1).copy())
        if self._resolution is not None:
            image = resize_frames(image[None], self._resolution)[0]
        return image[:, image.shape[1] // 2 if self._lower_half else 0 :].numpy()


def upright(frame: VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
    """The pixels of a frame as a person sees them: uint8 `(H, W, 3)` RGB, turned by the file's rotation mark.

    Args:
        frame: as decoded.
        converter: one for all frames of a video: to set one up takes ten times as long as to convert a frame.

    Raises:
        DataError: `unreadable` for a pixel format that FFmpeg cannot convert.
    """
    with damage_named():
        pixels_HWC = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.rot90(pixels_HWC, round(frame.rotation / 90) % 4)


@contextmanager
def damage_named() -> Iterator[None]:
    """What FFmpeg raises, as one error without the path that its message repeats."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())
        message = f"cannot be decoded, it is no video or is damaged ({words})"
        raise DataError(message, reason="unreadable") from error
