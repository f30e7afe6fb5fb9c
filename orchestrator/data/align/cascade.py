"""Finds faces and their five landmarks with MTCNN, a cascade of three small networks (see `nets`).

Why MTCNN: its weights come inside a package, so that it works offline, and it runs on the product's own torch (a GPU
when there is one) and numpy, so that no second environment is needed. Why not that package's own cascade: it loops
over every candidate in Python, maps results back from rounded boxes, which makes landmarks jitter, and fails on a
candidate that lies outside of the picture.

Coordinates are continuous: pixel i of a row covers [i, i + 1). Points are, in this order, the eye on the picture's
left, the eye on its right, the tip of the nose, and the corners of the mouth, left and right.
"""

# N faces, H W pixels

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.data.align.extra import need
from orchestrator.data.align.nets import Stage, landmark_net, proposal_net, refinement_net

Floats = NDArray[np.float32]
_PYRAMID = 0.709
"""Ratio of neighbouring scales: half the area."""
_CELL, _STRIDE = 12, 2
"""The first network sees windows of 12 pixels, 2 apart."""
_FIRST, _SECOND = 0.6, 0.7
"""Scores that a candidate needs to reach the next network."""
_SHIFTS = np.array([[0, 0, 1.0], [-0.04, 0, 1.0], [0.04, 0, 1.0], [0, -0.04, 1.0], [0, 0.04, 1.0], [0, 0, 0.93]])
"""Crops of one face (shift x, shift y, size, relative to its box) whose landmarks are averaged."""


@dataclass(frozen=True)
class Faces:
    """What is found in one picture, or one face in each of several."""

    boxes: Floats
    """`(N, 4)` left, top, right, bottom in pixels."""
    scores: Floats
    """`(N,)` in [0, 1]."""
    points: Floats
    """`(N, 5, 2)` x, y in pixels."""

    def __len__(self) -> int:
        return len(self.boxes)

    def sizes(self) -> Floats:
        """`(N,)` the smaller side of each box, in pixels."""
        return np.minimum(self.boxes[:, 2] - self.boxes[:, 0], self.boxes[:, 3] - self.boxes[:, 1])

    def take(self, which: Any) -> Faces:
        """Some of them, by index or mask."""
        return Faces(self.boxes[which], self.scores[which], self.points[which])

    def scaled(self, factors: Floats) -> Faces:
        """The same in a picture that is larger by these factors of x and y."""
        return Faces(self.boxes * np.tile(factors, 2), self.scores, self.points * factors)

    @staticmethod
    def none() -> Faces:
        """No face."""
        return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


class FaceModel:
    """The three networks on one device."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._pnet, self._rnet, self._onet = (
            net().to(self.device) for net in (proposal_net, refinement_net, landmark_net)
        )

    def find(self, image_HWC: NDArray[np.uint8], min_size: float, min_score: float = _SECOND) -> Faces:
        """All faces of an RGB picture whose boxes are at least about `min_size` pixels, the largest first."""
        boxes = self._candidates(image_HWC, max(min_size, _CELL))
        if not len(boxes):
            return Faces.none()
        shifts, scores = self._run(self._rnet, image_HWC, boxes, 24)
        good = scores > _SECOND
        boxes, shifts, scores = boxes[good], shifts[good], scores[good]
        kept = _suppress(boxes, scores, 0.7)
        boxes = _square(_moved(boxes[kept], shifts[kept]))
        if not len(boxes):
            return Faces.none()
        faces = self._landmarks([image_HWC], np.zeros(len(boxes), np.int64), boxes)
        faces = faces.take(faces.scores > min_score)
        faces = faces.take(_suppress(faces.boxes, faces.scores, 0.7, of_smaller=True))
        return faces.take(np.argsort(-faces.sizes(), kind="stable"))

    def follow(self, images: list[NDArray[np.uint8]], boxes: Floats) -> Faces:
        """The face near a given box in each picture, with landmarks averaged over several crops.

        Args:
            images: N pictures.
            boxes: `(N, 4)` about where the face is, within a third of its size.

        Returns:
            One face per picture; a low score means that there is none.
        """
        everyone = np.arange(len(images))
        boxes = self._landmarks(images, everyone, _square(boxes)).boxes
        spread = _jittered(_square(boxes))
        faces = self._landmarks(images, np.repeat(everyone, len(_SHIFTS)), spread)
        shape = (len(images), len(_SHIFTS))
        return Faces(
            faces.boxes.reshape(*shape, 4).mean(axis=1),
            faces.scores.reshape(shape).mean(axis=1),
            faces.points.reshape(*shape, 5, 2).mean(axis=1),
        )

    def _candidates(self, image_HWC: NDArray[np.uint8], min_size: float) -> Floats:
        """`(N, 4)` square boxes from the first network, over all scales."""
        cv2 = need("cv2")
        found, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        sides = np.array(image_HWC.shape[1::-1], np.float32)
        scale, small = _CELL / min_size, image_HWC
        while sides.min() * scale >= _CELL:
            size = np.maximum(np.round(sides * scale), _CELL).astype(int)
            small = cv2.resize(small, size.tolist(), interpolation=cv2.INTER_AREA)  # from the last one: it is smaller
            boxes, values = self._scan(small)
            kept = _suppress(boxes, values, 0.5)
            found.append(boxes[kept] * np.tile(sides / size, 2).astype(np.float32))
            scores.append(values[kept])
            scale *= _PYRAMID
        boxes, values = np.concatenate(found), np.concatenate(scores)
        return _square(boxes[_suppress(boxes, values, 0.7)])

    def _scan(self, small_HWC: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Boxes and scores of the first network at one scale."""
        shifts, scores = self._forward(self._pnet, small_HWC[None])
        rows, columns = np.nonzero(scores[0, 1] >= _FIRST)
        corners = np.stack([columns, rows], axis=1).astype(np.float32) * _STRIDE
        boxes = np.concatenate([corners, corners + _CELL], axis=1)
        return _moved(boxes, shifts[0][:, rows, columns].T), scores[0, 1, rows, columns]

    def _run(self, net: Stage, image_HWC: NDArray[np.uint8], boxes: Floats, side: int) -> tuple[Floats, Floats]:
        crops = np.stack([_crop(image_HWC, box, side) for box in boxes])
        shifts, scores = self._forward(net, crops)
        return shifts, scores[:, 1]

    def _landmarks(self, images: list[NDArray[np.uint8]], owners: NDArray[np.int64], boxes: Floats) -> Faces:
        """The third network on one square box each, `owners` saying in which picture."""
        boxes = np.round(boxes)  # what is cut out is whole pixels, and results are relative to it
        crops = np.stack([_crop(images[owner], box, 48) for owner, box in zip(owners, boxes, strict=True)])
        shifts, marks, scores = self._forward(self._onet, crops)
        sides = (boxes[:, 2:] - boxes[:, :2])[:, None]
        points = boxes[:, None, :2] + marks.reshape(-1, 2, 5).transpose(0, 2, 1) * sides
        return Faces(_moved(boxes, shifts), scores[:, 1], points)

    def _forward(self, net: Stage, images_NHWC: NDArray[np.uint8]) -> tuple[Floats, ...]:
        with torch.inference_mode():
            batch = torch.from_numpy(images_NHWC).to(self.device).permute(0, 3, 1, 2).float()
            outputs = net((batch - 127.5) / 128)
        return tuple(output.cpu().numpy() for output in outputs)


@lru_cache(maxsize=1)
def face_model() -> FaceModel:
    """The process's own model, on the GPU when torch sees one."""
    return FaceModel("cuda" if torch.cuda.is_available() else "cpu")


def overlap(one: Floats, others: Floats, *, of_smaller: bool = False) -> Floats:
    """How much a box shares with each of `(N, 4)` others: intersection over union, or over the smaller of both."""
    corner = np.maximum(one[:2], others[:, :2])
    shared = np.clip(np.minimum(one[2:], others[:, 2:]) - corner, 0, None).prod(axis=1)
    area, areas = (one[2:] - one[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    whole = np.minimum(area, areas) if of_smaller else area + areas - shared
    return np.asarray(shared / np.maximum(whole, 1e-6), np.float32)


def _suppress(boxes: Floats, scores: Floats, limit: float, *, of_smaller: bool = False) -> NDArray[np.int64]:
    """Indices of the boxes that no better one covers by more than `limit`."""
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        waiting = waiting[overlap(boxes[best], boxes[waiting], of_smaller=of_smaller) <= limit]
    return np.array(kept, np.int64)


def _moved(boxes: Floats, shifts: Floats) -> Floats:
    """Boxes with each edge moved by a share of their size."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.asarray(boxes + shifts * sides, np.float32)


def _square(boxes: Floats) -> Floats:
    """Squares around the same centres, as large as the longer side."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _jittered(boxes: Floats) -> Floats:
    """`(N * len(_SHIFTS), 4)`: every box in all its variants, one after the other."""
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    moved = centres[:, None] + _SHIFTS[None, :, :2] * sides[:, None]
    half = _SHIFTS[None, :, 2:] * sides[:, None] / 2
    return np.concatenate([moved - half, moved + half], axis=2).reshape(-1, 4).astype(np.float32)


def _crop(image_HWC: NDArray[np.uint8], box: Floats, side: int) -> NDArray[np.uint8]:
    """What a box covers, at `side` x `side` pixels; black where it leaves the picture."""
    cv2 = need("cv2")
    left, top, right, bottom = (int(edge) for edge in np.round(box))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    inside = image_HWC[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.shape[:2] != (bottom - top, right - left):
        whole = np.zeros((bottom - top, right - left, 3), np.uint8)
        y, x = max(-top, 0), max(-left, 0)
        whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        inside = whole
    return np.asarray(cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA))
