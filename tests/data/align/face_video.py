"""Videos with a real face whose movement is known: the public-domain portrait that matplotlib ships, set in motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

WIDTH, HEIGHT = 480, 360
EYES_AND_NOSE = np.array([[223.0, 190.0], [305.0, 186.0], [266.0, 236.0]])
"""Where they are in the portrait, as a person sees them."""
FACE = 178.0
"""Pixels of the face's box in the portrait."""


@dataclass(frozen=True)
class Placement:
    """Where the portrait's nose is, and how large and tilted the portrait is, at a frame of its scene."""

    x: float = 240.0
    y: float = 200.0
    scale: float = 0.6
    tilt: float = 0.0
    """Degrees."""

    def matrix(self) -> NDArray[np.float64]:
        """`(2, 3)`: from pixels of the portrait to pixels of the video."""
        matrix = cv2.getRotationMatrix2D(tuple(EYES_AND_NOSE[2]), self.tilt, self.scale)
        matrix[:, 2] += np.array([self.x, self.y]) - EYES_AND_NOSE[2]
        return np.asarray(matrix)


Path_ = Callable[[int], Placement]


def still(**values: float) -> Path_:
    """A face that does not move."""
    return lambda _: Placement(**values)


@dataclass(frozen=True)
class Scene:
    """A stretch of a video without a cut."""

    frames: int
    faces: tuple[Path_, ...] = (still(),)
    background: int = 0
    """A seed."""
    blur: float = 0.0
    """Standard deviation in pixels."""
    flash: int | None = None
    """The frame in which a patch of the cheek is bright."""


@cache
def portrait() -> NDArray[np.uint8]:
    """RGB `(600, 512, 3)`."""
    return np.ascontiguousarray(cv2.imread(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))[..., ::-1])


def draw(scene: Scene, frame: int) -> NDArray[np.uint8]:
    """One picture of a scene."""
    picture = _background(scene.background).copy()
    image = portrait()
    if scene.flash == frame:
        image = image.copy()
        image[225:260, 215:245] = 255
    for place in scene.faces:
        matrix = place(frame).matrix()
        there = cv2.warpAffine(np.ones(image.shape[:2], np.uint8), matrix, (WIDTH, HEIGHT)) > 0
        shrunk = cv2.GaussianBlur(image, (0, 0), 0.4 / place(frame).scale)
        picture[there] = cv2.warpAffine(shrunk, matrix, (WIDTH, HEIGHT))[there]
    return picture if not scene.blur else np.asarray(cv2.GaussianBlur(picture, (0, 0), scene.blur))


def write_face_video(
    path: Path,
    scenes: Sequence[Scene],
    *,
    clicks: Sequence[int] = (),
    rate: int = 16_000,
    seed: int = 0,
    ticks: int = 1,
    turns: int = 0,
) -> Path:
    """Write scenes one after the other, with noise as sound and a click in the middle of some frames.

    Every picture is shown for `ticks` of 1/25 s, and is stored turned by `turns` quarters against the clock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    total = sum(scene.frames for scene in scenes) * ticks
    wave = np.random.default_rng(seed).normal(0, 0.005, total * rate // 25).astype(np.float32)
    for frame in clicks:
        middle = round((frame + 0.5) * rate / 25)
        wave[middle - rate // 1000 : middle + rate // 1000] = 0.9
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(25, ticks), options={"crf": "14", "preset": "ultrafast"})
        video.width, video.height = (HEIGHT, WIDTH) if turns % 2 else (WIDTH, HEIGHT)
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono", bit_rate=96_000)
        pictures = (draw(scene, frame) for scene in scenes for frame in range(scene.frames))
        for number, picture in enumerate(pictures):
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture, turns)), format="rgb24")
            shown.pts, shown.time_base = number, Fraction(ticks, 25)
            container.mux(video.encode(shown))
        container.mux(video.encode())
        for first in range(0, len(wave), 1024):
            sound = av.AudioFrame.from_ndarray(wave[None, first : first + 1024].copy(), "fltp", "mono")
            sound.sample_rate, sound.pts, sound.time_base = rate, first, Fraction(1, rate)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


def read_frames(path: Path) -> NDArray[np.uint8]:
    """`(T, H, W, 3)` RGB."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def registered(aligned_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Where the portrait's eyes and nose are in an aligned picture, found by matching both, not by any face model."""
    sift, grey = cv2.SIFT_create(1500), cv2.COLOR_RGB2GRAY
    here, there = (sift.detectAndCompute(cv2.cvtColor(image, grey), None) for image in (portrait(), aligned_HWC))
    pairs = [a for a, b in cv2.BFMatcher().knnMatch(here[1], there[1], k=2) if a.distance < 0.8 * b.distance]
    ours = np.float64([here[0][pair.queryIdx].pt for pair in pairs])
    theirs = np.float64([there[0][pair.trainIdx].pt for pair in pairs])
    matrix, inliers = cv2.estimateAffine2D(ours, theirs, ransacReprojThreshold=1.5)
    assert inliers.sum() >= 15, "the pictures do not match"
    return np.asarray(EYES_AND_NOSE @ matrix[:, :2].T + matrix[:, 2])


@cache
def _background(seed: int) -> NDArray[np.uint8]:
    """Blurred noise of some colour."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, WIDTH, 3)), (0, 0), 8)
    spread = (noise - noise.mean()) * 4 + rng.uniform(40, 200, 3)
    return np.asarray(spread.clip(0, 255), np.uint8)
