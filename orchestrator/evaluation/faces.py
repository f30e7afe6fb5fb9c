"""Where the face is in a video: the whole picture, or to be found by the product's own aligner.

Contract: `auto` looks at three frames and decides the same way every time; with the optional libraries a square picture
counts as aligned only if no face is seen elsewhere in it than the template puts it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from orchestrator.config.media import FPS
from orchestrator.data.align.cascade import face_model
from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.extra import INSTALL, check_extra, need
from orchestrator.data.align.records import ClipRow
from orchestrator.data.align.template import CANVAS, TEMPLATE
from orchestrator.data.align.unit import AlignUnit, align_unit
from orchestrator.data.media.frames import upright
from orchestrator.data.sources import LocalClip
from orchestrator.errors import DataError, RunError
from orchestrator.evaluation.videos import PIECE_FRAMES, Video

Face = Literal["auto", "aligned", "align"]
"""How a face is found in a video."""
_LOOKS = (0, FPS, 2 * FPS)
"""Frames that `auto` looks at."""
_NEAR = 0.18
"""Share of the picture's side by which eyes and nose may stand beside their places in the template: other ways to
align a tight crop stay within it, a head with hair and shoulders does not."""
_PLACES = TEMPLATE / CANVAS
ALIGN = AlignConfig(
    faces="largest",  # a second person in the picture must not hide the one that speaks
    max_seconds=PIECE_FRAMES / FPS,
    min_sharpness=0,  # generated mouths are soft; that is not what is asked here
)
"""How videos are aligned for scoring."""
_ELSE = "or `--face aligned`, where the whole picture is the aligned face"


class Choice(NamedTuple):
    """How the face of a video is found."""

    face: Literal["aligned", "align"]
    """Taken as it is, or aligned."""
    why: str
    """In a few words."""


class Aligned(NamedTuple):
    """A piece that the aligner made of a video, or a stretch that it refused."""

    row: ClipRow
    """What it says of it."""
    content: LocalClip | None
    """The clip; none for what was refused."""


def check_aligner() -> None:
    """See that the optional libraries are there.

    Raises:
        RunError: they are not.
    """
    try:
        check_extra()
    except RunError as error:
        raise RunError(error.message, hint=f"{INSTALL}, {_ELSE}") from error


def choose(face: Face, content: LocalClip) -> Choice:
    """How the face of this video is found.

    Raises:
        DataError: the video cannot be decoded; `needs_align` where the optional libraries are missing.
    """
    if face != "auto":
        return Choice(face, "as asked")
    pictures = _looks(content)
    height, width = pictures[0].shape[:2]
    if not _has_extra():
        if height == width:
            return Choice("aligned", f"the picture is square, {width}x{height}; faces were not looked for")
        what = f"the picture is {width}x{height}, so the face must be found, which needs optional packages"
        raise DataError(what, reason="needs_align", hint=f"{INSTALL}, {_ELSE}")
    if height != width:
        return Choice("align", f"the picture is {width}x{height}")
    if 2 * sum(map(_is_elsewhere, pictures)) > len(pictures):
        return Choice("align", "the picture is square, but the face is not where an aligned one is")
    return Choice("aligned", f"the picture is square, {width}x{height}, and shows no face elsewhere")


@contextmanager
def aligned_pieces(video: Video) -> Iterator[list[Aligned]]:
    """The pieces of a video with one aligned face each, in order, for as long as the block lasts.

    Raises:
        OrchestratorError: the storage fails or the optional libraries are missing.
    """
    check_aligner()
    with tempfile.TemporaryDirectory(prefix="syncnet-faces-") as out:
        rows = align_unit(AlignUnit(video.root.uri, out, video.clip, ALIGN)).record.rows
        yield [Aligned(row, LocalClip(Path(out) / row.source, None) if row.ok else None) for row in rows]


class _Enough(Exception):
    """All pictures are there."""


class _Looker:
    """A sink that keeps a few pictures and then ends the decoding."""

    def __init__(self) -> None:
        self.pictures: list[NDArray[np.uint8]] = []
        self._converter, self._tick = VideoReformatter(), 0

    def add(self, frame: VideoFrame, times: int) -> None:
        if any(self._tick <= look < self._tick + times for look in _LOOKS):
            self.pictures.append(np.ascontiguousarray(upright(frame, self._converter)))
        self._tick += times
        if self._tick > _LOOKS[-1]:
            raise _Enough


def _looks(content: LocalClip) -> list[NDArray[np.uint8]]:
    looker = _Looker()
    with suppress(_Enough):  # how the decoding is meant to end
        content.decode(looker)
    return looker.pictures


def _has_extra() -> bool:
    try:
        check_extra()
    except RunError:
        return False
    return True


def _is_elsewhere(picture_HWC: NDArray[np.uint8]) -> bool:
    """Whether there is a face, and none whose eyes and nose are where the template has them."""
    need("cv2").setNumThreads(1)
    side = len(picture_HWC)
    faces = face_model().find(picture_HWC, side / 8, ALIGN.min_confidence)
    if not len(faces):
        return False
    beside = np.abs(faces.points[:, :3] / side - _PLACES).max(axis=(1, 2))
    return bool(beside.min() > _NEAR)
