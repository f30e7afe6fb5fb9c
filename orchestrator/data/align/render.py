"""The second pass over a video: good pieces are warped onto the template and written as clips with their sound.

Clips are H.264 at 25 frames per second with 24-bit FLAC, 16 kHz mono, in mp4: the sound is what decoding gives for the
same frames, to the sample, because FLAC neither loses anything nor shifts it as AAC does. One thread and no
versions in the file: the same video gives the same bytes on the same machine.
"""

# T frames, H W pixels

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.extra import need
from orchestrator.data.media.decode import SAMPLES_PER_FRAME
from orchestrator.data.media.frames import upright
from orchestrator.data.sources import LocalClip

_JUDGED_EVERY = 5
"""Frames from one whose sharpness is measured to the next."""
_JUDGED_SIDE = 128
"""Pixels: enlarged faces would look blurred at full size, whatever the camera did."""
_FULL_SCALE = 1 << 31


@dataclass(frozen=True)
class Job:
    """A clip to be written."""

    path: Path
    """Where to."""
    start: int
    """First frame in the video."""
    matrices_T23: NDArray[np.float64]
    """For each frame, from pixels of the clip to pixels of the video."""


def render(video: LocalClip, jobs: Sequence[Job], wave: NDArray[np.float32], config: AlignConfig) -> list[float]:
    """Write all clips of a video in one pass.

    Args:
        video: the source; only read.
        jobs: in order of time, without overlap.
        wave: the sound of the whole video, 640 samples per frame.
        config: resolution and quality.

    Returns:
        The sharpness of each clip.

    Raises:
        DataError: the video cannot be decoded.
    """
    sink = _RenderSink(jobs, wave, config)
    try:
        video.decode(sink)
    finally:
        sink.close()
    return sink.sharpness


class _RenderSink:
    """Takes the decoded frames and hands each to the clip that it belongs to."""

    def __init__(self, jobs: Sequence[Job], wave: NDArray[np.float32], config: AlignConfig) -> None:
        self._jobs, self._wave, self._config = list(reversed(jobs)), wave, config
        self._clip: _Clip | None = None
        self._converter = VideoReformatter()
        self._tick = 0
        self.sharpness: list[float] = []

    def add(self, frame: av.VideoFrame, times: int) -> None:
        """Show a source frame for some ticks."""
        image: NDArray[np.uint8] | None = None
        for tick in range(self._tick, self._tick + times):
            if self._clip is None and self._jobs and tick >= self._jobs[-1].start:
                self._clip = _Clip(self._jobs.pop(), self._wave, self._config)
            if self._clip is not None:
                image = np.ascontiguousarray(upright(frame, self._converter)) if image is None else image
                self._clip.add(image)
                if self._clip.full:
                    self.close()
        self._tick += times

    def close(self) -> None:
        """Finish the clip that is being written."""
        if self._clip is not None:
            self.sharpness.append(self._clip.finish())
            self._clip = None


class _Clip:
    """One file in the making."""

    def __init__(self, job: Job, wave: NDArray[np.float32], config: AlignConfig) -> None:
        self._job, self._side, self._count = job, config.resolution, 0
        first = job.start * SAMPLES_PER_FRAME
        self._wave = wave[first : first + len(job.matrices_T23) * SAMPLES_PER_FRAME]
        # Where the clip is smaller than the source, several source pixels make one: first warp, then average.
        steps = np.linalg.norm(job.matrices_T23[:, :, :2], axis=1)
        self._fold = int(np.clip(np.ceil(np.median(steps.max(axis=1)) - 0.25), 1, 8))
        self._sharpness: list[float] = []
        self._converter = VideoReformatter()
        self._container = av.open(str(job.path), "w", format="mp4", options={"fflags": "+bitexact"})
        options = {"preset": "fast", "crf": str(config.crf), "threads": "1"}
        self._video = self._container.add_stream("libx264", rate=FPS, options=options)
        self._video.width = self._video.height = self._side
        self._video.pix_fmt = "yuv420p"
        # Said in the file: players guess from the size what is not said.
        self._video.codec_context.colorspace = int(Colorspace.SMPTE170M)
        self._video.codec_context.color_range = int(ColorRange.MPEG)
        self._audio = self._container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        self._audio.format = "s32"

    @property
    def full(self) -> bool:
        """Whether all frames have come."""
        return self._count == len(self._job.matrices_T23)

    def add(self, image_HWC: NDArray[np.uint8]) -> None:
        """Warp and encode the next frame, and the sound that belongs to it."""
        aligned = warp(image_HWC, self._job.matrices_T23[self._count], self._side, self._fold)
        if self._count % _JUDGED_EVERY == 0:
            self._sharpness.append(sharpness(aligned))
        picture = av.VideoFrame.from_ndarray(aligned, format="rgb24")
        picture = self._converter.reformat(
            picture, format="yuv420p", dst_colorspace=Colorspace.SMPTE170M, dst_color_range=ColorRange.MPEG, threads=1
        )
        picture.pts, picture.time_base = self._count, Fraction(1, FPS)
        self._container.mux(self._video.encode(picture))
        self._container.mux(self._audio.encode(self._sound()))
        self._count += 1

    def finish(self) -> float:
        """Complete the file on disk; the median sharpness of its frames."""
        self._container.mux(self._video.encode())
        self._container.mux(self._audio.encode())
        self._container.close()
        with self._job.path.open("rb") as file:
            os.fsync(file.fileno())
        return float(np.median(self._sharpness))

    def _sound(self) -> av.AudioFrame:
        """The samples during the current frame."""
        first = self._count * SAMPLES_PER_FRAME
        part = self._wave[first : first + SAMPLES_PER_FRAME].astype(np.float64) * _FULL_SCALE
        samples = np.clip(np.round(part), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int32)
        sound = av.AudioFrame.from_ndarray(samples[None], format="s32", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, first, Fraction(1, SAMPLE_RATE)
        return sound


def warp(image_HWC: NDArray[np.uint8], matrix: NDArray[np.float64], side: int, fold: int = 1) -> NDArray[np.uint8]:
    """The square that a matrix of `template.matrices` picks from a picture; each pixel the mean of fold x fold."""
    cv2 = need("cv2")
    finer = matrix.copy()
    finer[:, :2] /= fold
    # The first of the finer pixels has its centre a little nearer to the corner.
    finer[:, 2] -= (matrix[:, :2].sum(axis=1) - finer[:, :2].sum(axis=1)) / 2
    flags = (cv2.INTER_CUBIC if fold == 1 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    # The edge is repeated: black beside a face would be the strongest edge of the picture.
    big = cv2.warpAffine(image_HWC, finer, (side * fold, side * fold), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(big if fold == 1 else cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA))


def sharpness(aligned_HWC: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of an aligned face, in 8-bit grey at 128 pixels per side."""
    cv2 = need("cv2")
    grey = cv2.cvtColor(aligned_HWC, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (_JUDGED_SIDE, _JUDGED_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
