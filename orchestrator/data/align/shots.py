"""Where one shot ends and the next begins, frame by frame as they come, by PySceneDetect's adaptive detector.

A cut is a frame that changes much more than the frames around it, so moving cameras do not count as cuts. It is known
two frames late; the frames wait here for so long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS
from orchestrator.data.align.extra import need

_LOOK_AHEAD = 2
_WIDTH = 256
"""Pixels per row of the copies that are compared: cuts show in small pictures too."""


class ShotSplitter:
    """Passes pictures through, saying of each whether a shot begins with it.

    Args:
        ratio: how many times as much as its neighbours a frame must change.
        change: how much it must change at least.
    """

    def __init__(self, ratio: float, change: float) -> None:
        detectors = need("scenedetect.detectors")
        # Two frames may be a shot: the gates for length come later and name their reason.
        self._detector = detectors.AdaptiveDetector(
            adaptive_threshold=ratio,
            min_content_val=change,
            window_width=_LOOK_AHEAD,
            min_scene_len=_LOOK_AHEAD,
        )
        self._waiting: deque[NDArray[np.uint8]] = deque()
        self._cuts: set[int] = set()
        self._count = 0
        self._passed = 0

    def push(self, image_HWC: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], bool]]:
        """Take the next RGB picture; give those about which is known whether a shot begins there."""
        time = need("scenedetect").FrameTimecode(self._count, fps=float(FPS))
        self._cuts |= {cut.frame_num for cut in self._detector.process_frame(time, _small(image_HWC))}
        self._count += 1
        self._waiting.append(image_HWC)
        while len(self._waiting) > _LOOK_AHEAD:
            yield self._next()

    def finish(self) -> Iterator[tuple[NDArray[np.uint8], bool]]:
        """Give the pictures that still wait."""
        while self._waiting:
            yield self._next()

    def _next(self) -> tuple[NDArray[np.uint8], bool]:
        begins = self._passed == 0 or self._passed in self._cuts
        self._passed += 1
        return self._waiting.popleft(), begins


def _small(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy for comparing, blue first as the detector wants it."""
    cv2 = need("cv2")
    height, width = image_HWC.shape[:2]
    size = (min(_WIDTH, width), max(round(height * min(_WIDTH / width, 1)), 1))
    return np.asarray(cv2.cvtColor(cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR))
