"""Follows the face of a shot: a full search now and then, and in between the face where it must be.

Searching every frame costs three times as much and jitters more: a search rounds its boxes anew in every frame. So
frames are searched `detect_every` apart; where both ends show the same faces, the boxes between them are interpolated
and the last network finds the landmarks there. Where the ends disagree, every frame between them is searched.
"""

# H W pixels

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.align.cascade import FaceModel, Faces, overlap
from orchestrator.data.align.config import AlignConfig

_SAME = 0.3
"""Overlap from which two boxes, less than half a second apart, are the same face."""
_SEEN = 0.5
"""Score below which there is nothing to speak of."""
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sighting:
    """What one frame shows."""

    count: int
    """Faces that count: 0, 1 or more."""
    face: Faces
    """The main face, one or none."""


class ShotTracker:
    """Takes the pictures of one shot after the other and gives a sighting for each, in order.

    Args:
        model: finds faces.
        config: the rules.
        scale: pixels of these pictures per pixel of the source.
    """

    def __init__(self, model: FaceModel, config: AlignConfig, scale: float) -> None:
        self._model, self._config = model, config
        # Half of the smallest good face: a smaller one is to be named too small, not to be missed.
        self._min_size = max(config.min_face * scale / 2, 20)
        self._pending: list[Image] = []
        self._first = Faces.none()

    def push(self, image: Image) -> Iterator[Sighting]:
        """Take the next picture of the shot."""
        if not self._pending:
            self._first = self._search(image)
        self._pending.append(image)
        if len(self._pending) > self._config.detect_every:
            last = self._search(image)
            yield from self._stretch(last)[:-1]
            self._pending, self._first = [image], last

    def end_shot(self) -> Iterator[Sighting]:
        """The shot is over: give what is left of it."""
        if self._pending:
            last = self._search(self._pending[-1]) if len(self._pending) > 1 else self._first
            yield from self._stretch(last)
        self._pending = []

    def _search(self, image: Image) -> Faces:
        """The faces that count, the main one first."""
        faces = self._model.find(image, self._min_size)
        sure = faces.take(faces.scores >= self._config.min_confidence)
        if not len(sure):
            return faces.take(slice(0, 1))
        sizes = sure.sizes()
        return sure.take(sizes >= self._config.bystander * sizes[0])

    def _stretch(self, last: Faces) -> list[Sighting]:
        """Sightings of all pending pictures, from the one that gave `_first` to the one that gave `last`."""
        images, first = self._pending, self._first
        if len(first) != len(last) or (len(first) and overlap(first.boxes[0], last.boxes[:1])[0] < _SAME):
            inner = [self._search(image) for image in images[1:-1]]
            return self._refined(images, [first, *inner, last][: len(images)])
        if not len(first):
            return [Sighting(0, first)] * len(images)
        parts = np.linspace(0, 1, len(images), dtype=np.float32)[:, None]
        faces = self._model.follow(images, first.boxes[0] * (1 - parts) + last.boxes[0] * parts)
        sightings = [Sighting(len(first), faces.take([index])) for index in range(len(images))]
        lost = [index for index in range(len(images)) if faces.scores[index] < self._config.min_confidence]
        again = self._refined([images[index] for index in lost], [self._search(images[index]) for index in lost])
        for index, sighting in zip(lost, again, strict=True):
            sightings[index] = sighting
        return sightings

    def _refined(self, images: Sequence[Image], found: Sequence[Faces]) -> list[Sighting]:
        """Sightings of searched pictures, with the landmarks of the main faces as steady as the followed ones."""
        sightings = [Sighting(0, Faces.none())] * len(images)
        some = [index for index, faces in enumerate(found) if len(faces)]
        if some:
            boxes = np.stack([found[index].boxes[0] for index in some])
            steady = self._model.follow([images[index] for index in some], boxes)
            for place, index in enumerate(some):
                if steady.scores[place] >= _SEEN:
                    sightings[index] = Sighting(len(found[index]), steady.take([place]))
        return sightings
