"""The first of two passes over a video: its shots and its face in every frame, kept as numbers only.

Memory holds a dozen reduced pictures, 100 bytes per frame, and the sound (64 kB per second).
"""

# T frames, H W pixels

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from orchestrator.data.align.cascade import FaceModel
from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.shots import ShotSplitter
from orchestrator.data.align.tracker import ShotTracker, Sighting
from orchestrator.data.media.frames import damage_named
from orchestrator.data.sources import LocalClip
from orchestrator.errors import DataError

_LONGEST_SIDE = 960
"""Pixels of the copies that are searched; the last network sees faces at 48 pixels anyway."""
_FACE_SIDE = 48
"""Pixels that the smallest good face should have in the copies."""
_NOTHING = [0.0, 0.0, *[float("nan")] * 10]
"""Score, size and landmarks where there is no face."""


@dataclass(frozen=True)
class Survey:
    """A video in numbers, at 25 frames per second."""

    width: int
    """Of the upright picture."""
    height: int
    """Of the upright picture."""
    shot_T: NDArray[np.int32]
    """Number of the shot, from 0."""
    count_T: NDArray[np.int32]
    """Faces that count."""
    score_T: NDArray[np.float32]
    """Of the main face; 0 without one."""
    size_T: NDArray[np.float32]
    """Smaller side of the main face's box in pixels of the source; 0 without one."""
    points_T52: NDArray[np.float32]
    """Its landmarks in pixels of the source; NaN without one."""
    wave: NDArray[np.float32]
    """`(T * 640,)` the sound, mono at 16 kHz."""

    def __len__(self) -> int:
        return len(self.shot_T)


def survey(video: LocalClip, model: FaceModel, config: AlignConfig) -> Survey:
    """Go through a video once.

    Raises:
        DataError: it cannot be decoded; `varying_size`.
    """
    sink = _SurveySink(model, config)
    wave = video.decode(sink)
    return sink.result(wave)


class _SurveySink:
    """Takes the decoded frames."""

    def __init__(self, model: FaceModel, config: AlignConfig) -> None:
        self._model, self._config = model, config
        self._size: tuple[int, int] | None = None
        self._scale, self._factors = 1.0, np.ones(2, np.float32)
        self._converter = VideoReformatter()
        self._splitter = ShotSplitter(config.cut_ratio, config.cut_change)
        self._tracker: ShotTracker
        self._times: list[int] = []
        self._shots: list[int] = []
        # Plain numbers in one block: a small array per frame would pin the memory that pictures leave free.
        self._numbers = array("f")

    def add(self, frame: av.VideoFrame, times: int) -> None:
        """Look at a source frame once, however often it is shown."""
        self._check_size(frame)
        self._times.append(times)
        for image, begins in self._splitter.push(self._copy(frame)):
            self._track(image, begins)

    def result(self, wave: NDArray[np.float32]) -> Survey:
        """Everything, once the video is over."""
        for image, begins in self._splitter.finish():
            self._track(image, begins)
        self._note(self._tracker.end_shot())
        width, height = self._size or (0, 0)
        numbers_TK = np.repeat(np.array(self._numbers, np.float32).reshape(-1, 1 + len(_NOTHING)), self._times, axis=0)
        return Survey(
            width=width,
            height=height,
            shot_T=np.repeat(np.array(self._shots, np.int32), self._times),
            count_T=numbers_TK[:, 0].astype(np.int32),
            score_T=numbers_TK[:, 1],
            size_T=numbers_TK[:, 2],
            points_T52=numbers_TK[:, 3:].reshape(-1, 5, 2),
            wave=wave,
        )

    def _track(self, image: NDArray[np.uint8], begins: bool) -> None:
        if begins and self._shots:
            self._note(self._tracker.end_shot())
        self._shots.append(self._shots[-1] + begins if self._shots else 0)
        self._note(self._tracker.push(image))

    def _note(self, sightings: Iterable[Sighting]) -> None:
        """Keep what was seen as numbers: how many faces, then score, size and landmarks of the main one."""
        for sighting in sightings:
            face = sighting.face.scaled(self._factors)
            self._numbers.append(sighting.count)
            if len(face):
                self._numbers.extend([face.scores[0], face.sizes()[0], *face.points[0].ravel()])
            else:
                self._numbers.extend(_NOTHING)

    def _check_size(self, frame: av.VideoFrame) -> None:
        turned = round(frame.rotation / 90) % 2
        size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        if self._size is None:
            self._size = size
            self._scale = min(_FACE_SIDE / self._config.min_face, _LONGEST_SIDE / max(size), 1)
            # Back to the source, per axis, because the copies' sides are rounded to whole pixels.
            small = _reduced(*size, self._scale)
            self._factors = np.array([size[0] / small[0], size[1] / small[1]], np.float32)
            self._tracker = ShotTracker(self._model, self._config, self._scale)
        elif size != self._size:
            message = f"the picture size changes from {self._size[0]}x{self._size[1]} to {size[0]}x{size[1]}"
            raise DataError(message, reason="varying_size", hint="split it into files of one size each")

    def _copy(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The reduced picture, upright."""
        width, height = _reduced(frame.width, frame.height, self._scale)
        with damage_named():
            small = self._converter.reformat(
                frame, width, height, format="rgb24", interpolation=Interpolation.AREA, threads=1
            )
            return np.ascontiguousarray(np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4))


def _reduced(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(round(width * scale), 1), max(round(height * scale), 1)
