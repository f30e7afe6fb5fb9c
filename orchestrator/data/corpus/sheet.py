"""Drawing a contact sheet: each sample as frames, curves and mel, one under the other on one time axis.

The time axis counts video frames: frame k is drawn from k to k + 1, and mel column j, which is centred at j / 80 s, at
j / 3.2. Sizes are in pixels, so that every frame gets the same whole number of them. matplotlib's object interface is
used: no display, no global state; it is imported when a sheet is drawn.
"""

# n T frames, H W pixels, M mel bins, L mel columns

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, HOP, SAMPLE_RATE, mel_start

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS_PER_FRAME = SAMPLE_RATE / HOP / FPS
_DPI = 100
_FRAME, _LEAST_FRAME, _WIDEST = 136, 24, 3600  # pixels of a frame's width, and of all frames together
_LEFT, _RIGHT, _HEAD = 64, 20, 62
_LEAST_PAGE = 1240  # the words above a sample need it
_TITLE, _CURVES, _MEL, _GAP = 24, 58, 96, 32
_LOUD, _MOVE, _SPEECH, _QUIET = "#9aa9bd", "#d1752a", "#3f8f4f", "#6b7280"
_MOST_LETTERS = 90


@dataclass(frozen=True)
class Shown:
    """What is drawn of one sample."""

    clip_id: str
    speaker: str
    split: str
    start: int
    """First frame."""
    av_offset_s: float
    """The clip's offset in seconds, already applied."""
    offset_columns: int
    """The same in mel columns."""
    frames_THWC: NDArray[np.uint8]
    """RGB."""
    movement_T: NDArray[np.float32]
    """How much each frame differs from the one before; NaN where there is none."""
    loudness_L: NDArray[np.float32]
    """Mean of each mel column."""
    mel_ML: NDArray[np.float32]
    """In [-4, 4]."""
    speech_T: NDArray[np.bool_]
    """Frames in which speech is heard; empty when nobody listened."""


def draw_sheet(samples: Sequence[Shown], title: str) -> bytes:
    """The sheet as the bytes of a PNG."""
    frames = max(len(sample.frames_THWC) for sample in samples)
    frame = max(min(_FRAME, _WIDEST // frames), _LEAST_FRAME)
    heights = [round(frame * sample.frames_THWC.shape[1] / sample.frames_THWC.shape[2]) for sample in samples]
    rows = [_TITLE + height + _CURVES + _MEL + _GAP for height in heights]
    page = _Page(max(_LEFT + frame * frames + _RIGHT, _LEAST_PAGE), _HEAD + sum(rows))
    _head(page, title)
    top = _HEAD
    for sample, height, row in zip(samples, heights, rows, strict=True):
        _sample(page, sample, top, frame, height)
        top += row
    return page.png()


class _Page:
    """A figure that is laid out in pixels from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure: Figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        """Axes of this size, without ticks."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes

    def text(self, left: int, top: int, text: str, size: float, color: str = "black", weight: str = "normal") -> int:
        """Write a line; returns where it ends."""
        shown = self.figure.text(
            left / self.width, 1 - top / self.height, drawable(text), size=size, color=color, weight=weight, va="top"
        )
        shown.set_parse_math(False)  # a dollar in a file's name is a dollar
        return left + round(shown.get_window_extent().width)

    def png(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=_DPI)
        return file.getvalue()


def drawable(text: str) -> str:
    """The text with everything that the font has no sign for as an escape, which a person can search for."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else ascii(c)[1:-1] for c in text)


def _head(page: _Page, title: str) -> None:
    page.text(_LEFT, 10, _shortened(title, 160), 13, weight="bold")
    left = _LEFT
    for text, color in (
        ("grey: how loud it is", _QUIET),
        ("orange: how much the mouth's part of the picture moves", _MOVE),
        ("green: speech is heard", _SPEECH),
        ("frames and mel share one time axis; A/V offsets are applied", "black"),
    ):
        left = page.text(left, 34, text, 9, color) + 24


def _sample(page: _Page, sample: Shown, top: int, frame: int, height: int) -> None:
    count = len(sample.frames_THWC)
    width = frame * count
    left = page.text(_LEFT, top + 4, _shortened(sample.clip_id, _MOST_LETTERS), 10, weight="bold")
    page.text(left + 14, top + 5, _facts(sample), 9, _QUIET)
    top += _TITLE
    strip = page.axes(_LEFT, top, width, height)
    strip.imshow(np.concatenate(list(sample.frames_THWC), axis=1), extent=(0, count, 0, 1), aspect="auto")
    strip.vlines(range(1, count), 0, 1, color="white", linewidth=1)
    _curves(page.axes(_LEFT, top + height, width, _CURVES), sample)
    _mel(page.axes(_LEFT, top + height + _CURVES, width, _MEL), sample)


def _facts(sample: Shown) -> str:
    count = len(sample.frames_THWC)
    seconds = f"{sample.start / FPS:.2f} to {(sample.start + count) / FPS:.2f} s"
    offset = "A/V offset 0"
    if sample.offset_columns:
        way = "later" if sample.av_offset_s > 0 else "earlier"
        offset = f"A/V offset {sample.av_offset_s:+.3f} s ({abs(sample.av_offset_s) * FPS:.1f} frames {way}, applied)"
    return (
        f"speaker {_shortened(sample.speaker, 40)}   {sample.split}   frames {sample.start} to "
        f"{sample.start + count - 1}   {seconds}   {offset}"
    )


def _curves(axes: Axes, sample: Shown) -> None:
    """Loudness, movement and speech, each on a scale of its own."""
    count = len(sample.frames_THWC)
    axes.set_xlim(0, count)
    axes.set_ylim(-0.16, 1.08)
    axes.vlines(range(1, count), -0.16, 1.08, color="#e5e7eb", linewidth=0.8)
    times = column_times(sample)
    axes.fill_between(times, _scaled(sample.loudness_L), color=_LOUD, alpha=0.6, linewidth=0)
    # A movement lies between two frames, at the time at which the later one appears.
    axes.plot(range(count), _scaled(sample.movement_T), color=_MOVE, linewidth=1.6, marker="o", markersize=3.5)
    for frame in np.flatnonzero(sample.speech_T):
        axes.plot([frame, frame + 1], [-0.08, -0.08], color=_SPEECH, linewidth=3, solid_capstyle="butt")


def _mel(axes: Axes, sample: Shown) -> None:
    count = len(sample.frames_THWC)
    times = column_times(sample)
    half = 0.5 / COLUMNS_PER_FRAME
    extent = (times[0] - half, times[-1] + half, 0, 1)
    axes.imshow(
        sample.mel_ML,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="magma",
        vmin=-4,
        vmax=4,
        interpolation="nearest",
    )
    axes.set_xlim(0, count)
    axes.set_ylim(0, 1)
    axes.vlines(range(1, count), 0, 1, color="white", linewidth=0.5, alpha=0.35)
    step = 1 if count <= 32 else 5
    axes.set_xticks(range(0, count, step), [str(sample.start + k) for k in range(0, count, step)])
    axes.tick_params(axis="x", labelsize=7.5, length=3, pad=1.5, colors=_QUIET)
    axes.set_ylabel("mel", size=8, color=_QUIET, rotation=0, ha="right", va="center")


def column_times(sample: Shown) -> NDArray[np.float64]:
    """Where the mel columns stand on the time axis, in frames after the sample's first one.

    The window begins with the whole column before its first frame, so the first one can lie a little outside.
    """
    columns = mel_start(sample.start) + np.arange(sample.mel_ML.shape[1])
    return np.asarray(columns / COLUMNS_PER_FRAME - sample.start)


def _scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Between 0 and 1, NaN where nothing is known; an even line stays at 0."""
    known = values[~np.isnan(values)]
    if not len(known):
        return values
    low, high = float(known.min()), float(known.max())
    return np.asarray((values - low) / max(high - low, 1e-3))


def _shortened(text: str, most: int) -> str:
    """The text without its middle when it is too long: its ends tell most."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2 - 1) :]}"
