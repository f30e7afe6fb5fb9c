"""Drawn faces: a look per speaker, and the frames of a clip in which the mouth follows given tracks.

Why: prepared corpora hold aligned faces, eyes above and mouth in the lower half of a square; these look like that, so
that nothing has to be detected. Everything still is painted once per clip as a layer; per frame that layer is only
moved and stretched at the jaw, and eyes and mouth are painted on it in small patches, which is what makes it quick.
Contract: uint8 RGB (size, size, 3) frames, all drawn from the given generator. Lengths are shares of the side.

Shapes: H W pixels, T video frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS
from orchestrator.data.synthetic.voice import Mouth

Floats = NDArray[np.floating]
"""float32 in fact: everything that is painted on pictures is cast to it."""
Colour = tuple[float, float, float]

MARGIN = 0.08
"""How far the head layer reaches past the picture, so that a moved head has no edge."""
EYES, NOSE, MOUTH, CHIN = -0.10, 0.075, 0.225, 0.42
"""Heights on the face, from the centre of the picture down."""

_SKINS: tuple[Colour, ...] = (
    (0.98, 0.84, 0.74), (0.94, 0.76, 0.63), (0.88, 0.68, 0.53),
    (0.78, 0.57, 0.42), (0.66, 0.46, 0.34), (0.54, 0.37, 0.27),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (0.10, 0.08, 0.08), (0.24, 0.15, 0.10), (0.42, 0.26, 0.15),
    (0.63, 0.33, 0.16), (0.82, 0.65, 0.38), (0.62, 0.61, 0.62),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = ((0.30, 0.19, 0.10), (0.25, 0.42, 0.55), (0.30, 0.45, 0.28), (0.16, 0.10, 0.07))
_HAIRCUTS = ("short", "long", "curly", "bun", "shaved")


@dataclass(frozen=True)
class Look:
    """How one speaker looks."""

    skin: Colour
    hair: Colour
    lips: Colour
    iris: Colour
    shirt: Colour
    haircut: str
    scale: float
    """Size of the face."""
    jaw: float
    """How much the face narrows towards the chin."""
    brow: float
    """Thickness of the eyebrows."""
    lip: float
    """Thickness of the lips."""
    mouth: float
    """Half width of the mouth at rest."""
    nose: float
    """Half width of the nose."""
    stubble: float
    """How dark the shaved beard is."""
    glasses: bool


def invent_look(rng: np.random.Generator, tone: float) -> Look:
    """One speaker's look; `tone` from 0 (light skin) to 1 (dark), so that the caller can cover the whole range."""
    at = tone * (len(_SKINS) - 1)
    red, green, blue = (float(np.interp(at, range(len(_SKINS)), c)) for c in zip(*_SKINS, strict=True))
    skin = _vary((red, green, blue), 0.015, rng)
    dark = 1 - sum(skin) / 3
    lips = (
        min(1.0, skin[0] * rng.uniform(0.84, 0.97)),
        skin[1] * rng.uniform(0.5, 0.68),
        skin[2] * rng.uniform(0.6, 0.8),
    )
    bearded = rng.random() < 0.4
    return Look(
        skin=skin,
        hair=_vary(_HAIRS[rng.integers(2 if dark > 0.5 else len(_HAIRS))], 0.03, rng),
        lips=lips,
        iris=_IRISES[0 if dark > 0.45 else rng.integers(len(_IRISES))],
        shirt=_vary((0.45, 0.45, 0.5), 0.35, rng),
        haircut="short" if bearded and rng.random() < 0.5 else _HAIRCUTS[rng.integers(len(_HAIRCUTS))],
        scale=rng.uniform(1.16, 1.24),
        jaw=rng.uniform(0.1, 0.3),
        brow=rng.uniform(0.008, 0.016),
        lip=rng.uniform(0.022, 0.034),
        mouth=rng.uniform(0.095, 0.115),
        nose=rng.uniform(0.042, 0.056),
        stubble=rng.uniform(0.10, 0.25) if bearded else 0.0,
        glasses=rng.random() < 0.25,
    )


def draw_frames(look: Look, mouth: Mouth, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The frames of one clip, (size, size, 3) each, one per entry of the mouth tracks."""
    frames = len(mouth.opening)
    backdrop = paint_backdrop(size, rng)
    place = (rng.uniform(-0.012, 0.012), rng.uniform(-0.042, -0.026))
    head = _Head(look, size, place, light=rng.uniform(-1, 1))
    sway = np.stack([_wander(frames, 0.008, rng), _wander(frames, 0.005, rng)], axis=1)
    lids, gaze = _blinks(frames, rng), _wander(frames, 0.35, rng)
    for t in range(frames):
        shape = MouthShape(*(float(track[t]) for track in (mouth.opening, mouth.spread, mouth.teeth, mouth.tongue)))
        yield head.draw(backdrop, shape, (float(sway[t, 0]), float(sway[t, 1])), float(lids[t]), float(gaze[t]))


@dataclass(frozen=True)
class MouthShape:
    """The mouth at one moment, see `Mouth`."""

    opening: float
    spread: float
    teeth: float
    tongue: float


class Canvas:
    """A float picture whose coordinates are shares of the side, with (0, 0) in the middle of the whole picture.

    Args:
        pixels: (3 or 4, H, W), painted in place; planes, because numpy is quick only along long rows.
        side: pixels per unit of length.
        left, top: where the picture's first pixel begins.
    """

    def __init__(self, pixels: Floats, side: int, left: float, top: float) -> None:
        self.pixels = pixels
        self.side = side
        height, width = pixels.shape[1:]
        self.x: Floats = (left + (np.arange(width, dtype=np.float32) + 0.5) / side)[None, :]
        self.y: Floats = (top + (np.arange(height, dtype=np.float32) + 0.5) / side)[:, None]

    def patch(self, x: float, y: float, reach_x: float, reach_y: float) -> Canvas:
        """The part around a point, as a view: painting it paints this picture."""
        rows = self._span(self.y[:, 0], y, reach_y)
        columns = self._span(self.x[0], x, reach_x)
        part = Canvas.__new__(Canvas)
        part.pixels, part.side = self.pixels[:, rows, columns], self.side
        part.x, part.y = self.x[:, columns], self.y[rows]
        return part

    def cover(self, distance: Floats, soft: float = 0.0) -> Floats:
        """Signed distance (negative inside) to coverage 0 to 1, its edge one pixel or `soft` wide."""
        return np.clip(0.5 - distance / max(soft, 1.2 / self.side), 0, 1)

    def ellipse(self, x: float, y: float, a: float, b: float, soft: float = 0.0) -> Floats:
        """Coverage of an ellipse with half axes `a` and `b`."""
        radius = np.sqrt(((self.x - x) / a) ** 2 + ((self.y - y) / b) ** 2)
        return self.cover((radius - 1) * min(a, b), soft)

    def blob(self, x: float, y: float, a: float, b: float) -> Floats:
        """A Gaussian spot of 0 to 1."""
        return np.exp(-0.5 * (((self.x - x) / a) ** 2 + ((self.y - y) / b) ** 2))

    def paint(self, colour: Colour | Floats, alpha: Floats) -> None:
        """Lay a colour over the picture; a fourth channel, if there is one, collects the coverage."""
        paint = np.asarray(colour, dtype=np.float32)
        paint = paint if paint.ndim == 3 else paint[:, None, None]
        alpha = np.asarray(alpha, dtype=np.float32)
        self.pixels[:3] += (paint - self.pixels[:3]) * alpha
        if len(self.pixels) == 4:
            self.pixels[3] += (1 - self.pixels[3]) * alpha

    def shade(self, factor: Floats) -> None:
        """Make what is there lighter (above 1) or darker."""
        self.pixels[:3] *= np.asarray(factor, dtype=np.float32)

    @staticmethod
    def _span(axis: Floats, centre: float, reach: float) -> slice:
        first, last = np.searchsorted(axis, (centre - reach, centre + reach))
        return slice(int(first), int(last))


class _Head:
    """One clip's head: the still layer, and how a frame is made of it."""

    def __init__(self, look: Look, size: int, place: tuple[float, float], light: float) -> None:
        self.look = look
        self.size = size
        self.place = place
        self.pad = round(MARGIN * size)
        side = size + 2 * self.pad
        layer = np.zeros((4, side, side), dtype=np.float32)
        edge = -0.5 - self.pad / size
        paint_head(Canvas(layer, round(size * look.scale), edge / look.scale, edge / look.scale), look, light)
        # painted on nothing, its colours are premultiplied: moving it by parts of a pixel gives no dark edge
        self.layer = layer

    def draw(
        self, backdrop: Floats, shape: MouthShape, sway: tuple[float, float], lids: float, gaze: float
    ) -> NDArray[np.uint8]:
        """One frame, (size, size, 3)."""
        x, y = self.place[0] + sway[0], self.place[1] + sway[1]
        drop = 0.05 * shape.opening * self.look.scale
        layer = self._moved(x, y, drop)
        picture = layer[:3] + backdrop * (1 - layer[3])
        side = self.size * self.look.scale
        canvas = Canvas(picture, round(side), (-0.5 - x) / self.look.scale, (-0.5 - y) / self.look.scale)
        for sign in (-1, 1):
            paint_eye(canvas.patch(sign * 0.135, EYES, 0.085, 0.06), self.look, sign * 0.135, lids, gaze)
        paint_mouth(canvas.patch(0, MOUTH + 0.03, 0.19, 0.16), self.look, shape)
        np.clip(picture, 0, 1, out=picture)
        return np.ascontiguousarray((picture * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))

    def _moved(self, x: float, y: float, drop: float) -> Floats:
        """(4, size, size): the layer moved by (x, y), and its jaw stretched down by `drop`."""
        rows = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size - 0.5 - y
        jaw = np.interp(rows / self.look.scale, (MOUTH - 0.06, CHIN, CHIN + 0.16), (0, drop, 0))
        source = (rows - jaw + 0.5) * self.size - 0.5 + self.pad
        first = np.clip(np.floor(source).astype(int), 0, self.layer.shape[1] - 2)
        part = (source - first).astype(np.float32)[:, None]
        left = self.pad - x * self.size
        column = int(np.floor(left))
        strip = self.layer[:, :, column : column + self.size + 1]
        tall = strip[:, first] * (1 - part)
        tall += strip[:, first + 1] * part
        across = np.float32(left - column)
        return tall[:, :, :-1] * (1 - across) + tall[:, :, 1:] * across


def paint_backdrop(size: int, rng: np.random.Generator) -> Floats:
    """(3, size, size): a wall in a gradient, with stripes, or with lights out of focus."""
    picture = np.zeros((3, size, size), dtype=np.float32)
    canvas = Canvas(picture, size, -0.5, -0.5)
    base = np.array(_vary((0.55, 0.58, 0.62), 0.12, rng), dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = canvas.x * np.cos(angle) + canvas.y * np.sin(angle)
    picture[:] = base[:, None, None] * (1 + 0.35 * along)
    kind = rng.integers(3)
    if kind == 0:
        canvas.shade(1 + rng.uniform(0.04, 0.08) * np.tanh(4 * np.sin(along * rng.uniform(25, 60))).astype(np.float32))
    if kind == 1:
        for _ in range(14):
            radius = rng.uniform(0.03, 0.09)
            spot = canvas.ellipse(rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), radius, radius, soft=0.03)
            canvas.paint(_vary((0.8, 0.75, 0.65), 0.2, rng), 0.3 * spot)
    canvas.shade((1 - 0.25 * (canvas.x**2 + canvas.y**2)).astype(np.float32))
    picture += rng.normal(0, 0.012, (size, size)).astype(np.float32)
    return picture


def paint_head(canvas: Canvas, look: Look, light: float) -> None:
    """Everything of a head that does not move by itself, from back to front."""
    _paint_back_hair(canvas, look)
    _paint_body(canvas, look)
    face = canvas.cover(_face_distance(canvas, look))
    _paint_skin(canvas, look, face, light)
    _paint_nose(canvas, look)
    _paint_brows(canvas, look)
    _paint_front_hair(canvas, look, face)
    if look.glasses:
        _paint_glasses(canvas)


def paint_eye(canvas: Canvas, look: Look, x: float, lids: float, gaze: float) -> None:
    """One eye; `lids` is 1 for open and 0 for shut, `gaze` from -1 (left) to 1."""
    a = 0.052
    u = np.clip((canvas.x - x) / a, -1, 1)
    arch = 1 - u**2
    lower = EYES + 0.014 * arch
    upper = lower - (0.038 * lids + 0.002) * arch
    beside = np.abs(canvas.x - x) - a
    inside = canvas.cover(np.maximum(np.maximum(upper - canvas.y, canvas.y - lower), beside))
    skin = np.array(look.skin, dtype=np.float32)
    lid = canvas.cover(np.maximum(np.maximum(EYES - 0.026 * arch - 0.004 - canvas.y, canvas.y - lower), beside), 0.008)
    canvas.paint(skin * 0.86, 0.8 * lid)
    canvas.paint((0.95, 0.94, 0.93), inside)
    centre = x + 0.012 * gaze
    canvas.paint(look.iris, inside * canvas.ellipse(centre, EYES - 0.003, 0.0185, 0.0185))
    canvas.paint((0.03, 0.03, 0.03), inside * canvas.ellipse(centre, EYES - 0.003, 0.0085, 0.0085))
    canvas.paint((1, 1, 1), inside * canvas.ellipse(centre + 0.006, EYES - 0.010, 0.0045, 0.0045))
    canvas.shade(1 - 0.35 * inside * np.exp(-np.maximum(canvas.y - upper, 0) / 0.006))
    lash = canvas.cover(np.maximum(np.abs(canvas.y - upper) - 0.0035, beside - 0.004), 0.006)
    canvas.paint((0.08, 0.05, 0.05), 0.85 * lash)


def paint_mouth(canvas: Canvas, look: Look, shape: MouthShape) -> None:
    """The mouth: hollow, teeth and tongue between two curves, the lips around them."""
    half = look.mouth * (0.62 + 0.76 * shape.spread) * (1 - 0.10 * shape.opening)
    gap = 0.135 * shape.opening
    # rounded lips are pushed out and look thicker, stretched ones thinner
    lip = look.lip * (1.25 - 0.5 * shape.spread) * (1 - 0.15 * shape.opening)
    u = np.clip((canvas.x) / half, -1, 1)
    arch = (1 - u**2) ** (0.8 if shape.opening > 0.05 else 1.0)
    seam = MOUTH - 0.006 * (1 - u**2) + 0.012 * (shape.spread - 0.5) * (1 - u**2)
    top, bottom = seam - 0.3 * gap * arch, seam + 0.7 * gap * arch
    beside = np.abs(canvas.x) - half
    bow = 1 - u**2 + 0.28 * np.exp(-(((np.abs(u) - 0.22) / 0.16) ** 2)) * (1 - u**2)
    above, below = top - lip * 0.72 * bow, bottom + lip * (1 - u**2) ** 0.7
    _paint_lips(canvas, look, (above, top, bottom, below), beside, lip)
    hollow = canvas.cover(np.maximum(np.maximum(top - canvas.y, canvas.y - bottom), beside))
    _paint_hollow(canvas, shape, hollow, (top, bottom), gap, half)
    line = canvas.cover(np.maximum(np.abs(canvas.y - seam) - 0.002, beside), 0.007)
    canvas.shade(1 - 0.55 * max(0.0, 1 - gap / 0.012) * line)
    for sign in (-1, 1):
        canvas.shade(1 - 0.28 * canvas.blob(sign * half, MOUTH, 0.010, 0.008))


def _paint_lips(
    canvas: Canvas, look: Look, curves: tuple[Floats, Floats, Floats, Floats], beside: Floats, lip: float
) -> None:
    above, top, bottom, below = curves
    canvas.shade(1 - 0.14 * canvas.blob(0, float(below.max()) + 0.014, 0.055, 0.010))
    lips = np.array(look.lips, dtype=np.float32)
    whole = canvas.cover(np.maximum(np.maximum(above - canvas.y, canvas.y - below), beside), 0.010)
    canvas.paint(lips, whole)
    upper = canvas.cover(np.maximum(np.maximum(above - canvas.y, canvas.y - top), beside), 0.008)
    canvas.shade(1 - 0.16 * upper)
    middle = bottom + 0.45 * (below - bottom)
    shine = np.exp(-(((canvas.y - middle) / (0.3 * lip)) ** 2) - (canvas.x / 0.045) ** 2) * whole
    canvas.paint((1, 0.93, 0.9), 0.22 * shine)


def _paint_hollow(
    canvas: Canvas, shape: MouthShape, hollow: Floats, curves: tuple[Floats, Floats], gap: float, half: float
) -> None:
    top, bottom = curves
    canvas.paint((0.15, 0.04, 0.05), hollow)
    rise = 0.3 + 0.45 * shape.tongue
    tongue = canvas.ellipse(0, float(bottom.max()) + 0.012, 0.75 * half, 0.012 + rise * gap, 0.012)
    canvas.paint((0.58, 0.24, 0.25), 0.9 * hollow * tongue)
    length = (0.008 + 0.013 * shape.teeth) * min(1.0, 0.4 + shape.teeth)
    edge = top.min() + 0.35 * (top - top.min()) + length
    row = canvas.cover(np.maximum(canvas.y - edge, np.abs(canvas.x) - 0.9 * half), 0.005)
    gaps = 1 - 0.13 * np.exp(-((((canvas.x / 0.017) % 1) - 0.5) ** 2) / 0.008)
    ivory = np.array((0.95, 0.93, 0.89), dtype=np.float32)[:, None, None] * gaps
    canvas.paint(ivory, hollow * row * min(1, 0.25 + shape.teeth))
    canvas.shade(1 - 0.45 * hollow * np.exp(-np.maximum(canvas.y - top, 0) / 0.005))


def _paint_back_hair(canvas: Canvas, look: Look) -> None:
    hair = np.array(look.hair, dtype=np.float32)
    if look.haircut == "long":
        curtain = canvas.cover(np.maximum(np.abs(canvas.x) - 0.40 - 0.04 * canvas.y, -0.05 - canvas.y))
        canvas.paint(hair * 0.8, np.maximum(curtain, canvas.ellipse(0, -0.08, 0.40, 0.44)))
    if look.haircut == "curly":
        angle = np.arctan2(canvas.y + 0.1, canvas.x)
        radius = np.sqrt((canvas.x / 0.43) ** 2 + ((canvas.y + 0.1) / 0.42) ** 2) * (1 + 0.03 * np.sin(17 * angle))
        canvas.paint(hair * 0.85, canvas.cover((radius - 1) * 0.42 + np.maximum(canvas.y - 0.12, 0)))
    if look.haircut == "bun":
        canvas.paint(hair * 0.9, canvas.ellipse(0, -0.5, 0.13, 0.11))
    if look.haircut != "shaved":
        canvas.paint(hair, canvas.ellipse(0, -0.10, 0.355, 0.40) * canvas.cover(canvas.y - 0.02, 0.06))


def _paint_body(canvas: Canvas, look: Look) -> None:
    skin = np.array(look.skin, dtype=np.float32)
    canvas.paint(skin * 0.72, canvas.cover(np.maximum(np.abs(canvas.x) - 0.17, 0.2 - canvas.y)))
    shoulders = 0.47 - 0.05 * np.abs(canvas.x) / 0.5 + 0.10 * np.exp(-((canvas.x / 0.17) ** 2))
    canvas.paint(look.shirt, canvas.cover(shoulders - canvas.y))
    for sign in (-1, 1):
        canvas.paint(skin * 0.88, canvas.ellipse(sign * 0.325, 0.0, 0.04, 0.075))
        canvas.shade(1 - 0.25 * canvas.ellipse(sign * 0.325, 0.0, 0.018, 0.045, 0.02))


def _face_distance(canvas: Canvas, look: Look) -> Floats:
    """Rounder above than below, narrowing towards the chin."""
    height = (canvas.y + 0.02) / np.where(canvas.y < -0.02, np.float32(0.40), np.float32(CHIN + 0.02))
    half = 0.315 * (1 - look.jaw * np.clip(canvas.y + 0.02, 0, None) / CHIN)
    radius = (np.abs(canvas.x / half) ** 2.3 + np.abs(height) ** 2.3) ** (1 / 2.3)
    return (radius - 1) * 0.3


def _paint_skin(canvas: Canvas, look: Look, face: Floats, light: float) -> None:
    canvas.paint(look.skin, face)
    distance = _face_distance(canvas, look)
    rim = np.exp(np.minimum(distance, 0) / 0.05)
    canvas.shade(1 - face * (0.26 * rim - 0.16 * light * canvas.x - 0.05))
    for sign in (-1, 1):
        canvas.paint((0.85, 0.35, 0.30), 0.13 * face * canvas.blob(sign * 0.17, 0.09, 0.06, 0.045))
        canvas.shade(1 - 0.16 * face * canvas.blob(sign * 0.135, EYES - 0.01, 0.07, 0.035))
    canvas.shade(1 + 0.07 * face * canvas.blob(0, -0.25, 0.14, 0.07))
    canvas.shade(1 + 0.06 * face * canvas.blob(0, CHIN - 0.07, 0.05, 0.03))
    below = canvas.cover(0.11 - canvas.y, 0.16) * np.maximum(rim, canvas.blob(0, 0.3, 0.16, 0.12))
    canvas.paint(0.7 * np.array(look.hair), look.stubble * face * below)


def _paint_nose(canvas: Canvas, look: Look) -> None:
    w = look.nose
    bridge = canvas.cover(np.maximum(EYES + 0.02 - canvas.y, canvas.y - NOSE), 0.09)
    canvas.shade(1 + 0.10 * bridge * np.exp(-((canvas.x / 0.016) ** 2)))
    for sign in (-1, 1):
        side = sign * (0.022 + (w - 0.030) * np.clip((canvas.y - EYES) / (NOSE - EYES), 0, 1))
        canvas.shade(1 - 0.09 * bridge * np.exp(-(((canvas.x - side) / 0.012) ** 2)))
        canvas.shade(1 - 0.16 * canvas.blob(sign * w, NOSE + 0.004, 0.010, 0.016))
        canvas.paint((0.16, 0.07, 0.06), 0.6 * canvas.ellipse(sign * 0.45 * w, NOSE + 0.022, 0.013, 0.0065, 0.009))
    canvas.shade(1 - 0.14 * canvas.blob(0, NOSE + 0.032, 0.03, 0.009))
    canvas.shade(1 + 0.13 * canvas.blob(0, NOSE - 0.005, 0.016, 0.014))


def _paint_brows(canvas: Canvas, look: Look) -> None:
    for sign in (-1, 1):
        u = (canvas.x * sign - 0.135) / 0.075
        line = EYES - 0.068 - 0.016 * (1 - (u - 0.2) ** 2)
        thick = look.brow * np.clip(1.1 - 0.45 * u, 0.3, 1.3)
        brow = canvas.cover(np.maximum(np.abs(canvas.y - line) - thick * 0.7, (np.abs(u) - 1) * 0.075), 0.010)
        canvas.paint(0.75 * np.array(look.hair), 0.88 * brow)


def _paint_front_hair(canvas: Canvas, look: Look, face: Floats) -> None:
    hair = np.array(look.hair, dtype=np.float32)
    if look.haircut == "shaved":
        canvas.paint(hair, 0.30 * face * canvas.cover(canvas.y + 0.27 - 0.9 * canvas.x**2, 0.05))
        return
    line = {"short": -0.27, "long": -0.26, "curly": -0.25, "bun": -0.29}[look.haircut]
    bend = {"short": 0.9, "long": 2.2, "curly": 1.2, "bun": 1.8}[look.haircut]
    part = 0.03 * np.sin(22 * canvas.x + 5 * look.jaw) if look.haircut != "bun" else 0.0
    fringe = canvas.cover(canvas.y - (line + bend * canvas.x**2 + part * np.abs(canvas.x) * 3), 0.012)
    cap = np.maximum(face, canvas.ellipse(0, -0.10, 0.355, 0.40)) * fringe
    strands = 1 + 0.10 * np.sin(canvas.x * 150 + 40 * canvas.x * canvas.y) + 0.25 * canvas.blob(0.08, -0.38, 0.14, 0.05)
    canvas.paint(hair[:, None, None] * strands, cap)


def _paint_glasses(canvas: Canvas) -> None:
    for sign in (-1, 1):
        radius = np.sqrt(((canvas.x - sign * 0.135) / 0.092) ** 2 + ((canvas.y - EYES) / 0.078) ** 2)
        canvas.paint((0.10, 0.09, 0.10), canvas.cover(np.abs(radius - 1) * 0.083 - 0.005))
    bridge = np.abs(canvas.y - EYES + 0.01 - 2 * canvas.x**2)
    canvas.paint((0.10, 0.09, 0.10), canvas.cover(np.maximum(bridge - 0.004, np.abs(canvas.x) - 0.046)))


def _blinks(frames: int, rng: np.random.Generator) -> Floats:
    """(T,) 1 for open eyes, with a blink every two to four seconds."""
    lids = np.ones(frames, dtype=np.float32)
    at = rng.uniform(0.3, 2.5)
    while at * FPS < frames:
        lids -= np.exp(-0.5 * ((np.arange(frames) - at * FPS) / 1.3) ** 2).astype(np.float32)
        at += rng.uniform(2.0, 4.0)
    return np.clip(lids, 0, 1)


def _wander(frames: int, reach: float, rng: np.random.Generator) -> Floats:
    """(T,) a slow aimless movement of about that reach."""
    t = np.arange(frames) / FPS
    waves = [np.sin(2 * np.pi * (rng.uniform(0.1, 0.5) * t + rng.uniform())) for _ in range(3)]
    return (reach / 2 * np.sum(waves, axis=0)).astype(np.float32)


def _vary(colour: Colour, by: float, rng: np.random.Generator) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.uniform(-by, by, 3), 0.02, 1).tolist()
    return red, green, blue
