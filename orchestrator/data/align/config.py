"""How raw videos are cut into segments, judged and aligned. Everything here decides what ends up in a clip."""

from __future__ import annotations

import hashlib
import json
from typing import Literal, Self

from pydantic import Field, model_validator

from orchestrator.config.media import FPS
from orchestrator.config.section import Section

ALIGN_VERSION = 1
"""Changes whenever the same video would give other clips."""


class AlignConfig(Section):
    """The rules for segments, the gates for their quality, and how they are aligned and written."""

    layout: str = "auto"
    """How the folder of videos is laid out, which tells the speakers: a layout's name, or `auto`."""
    speaker: str = "auto"
    """The rule that tells the speaker from a path: `auto` (the layout's), `folder`, `parent`, `file`, `regex:...`."""
    faces: Literal["reject", "largest"] = "reject"
    """Stretches with several faces: left out, or the largest face is followed."""
    bystander: float = Field(default=0.5, ge=0, le=1)
    """Faces smaller than this share of the largest one's size do not count as further faces."""
    min_seconds: float = Field(default=1.5, gt=0)
    """Shorter segments are rejected; `prepare` needs 32 frames, which is 1.28 s."""
    max_seconds: float = Field(default=20, gt=0)
    """Longer segments are cut into equal pieces."""
    min_face: float = Field(default=64, ge=20)
    """Pixels of the source that the smaller side of the face's box must have; a face of 64 is enlarged about 3.4 times
    in a clip of 256 pixels."""
    min_confidence: float = Field(default=0.9, ge=0, le=1)
    """Score of the face detector below which a frame does not count as showing a face."""
    max_turn: float = Field(default=0.4, gt=0)
    """How far the tip of the nose may stand beside the middle of the eyes, in distances of the eyes: 0 looks straight
    ahead, 0.4 is a head turned by about 35 degrees."""
    max_outside: float = Field(default=0.1, ge=0, le=1)
    """Share of the aligned picture that may lie outside of the source's."""
    max_jump: float = Field(default=0.35, gt=0)
    """How far a face may move from one frame to the next, in widths of its box; a segment ends where it jumps."""
    max_gap: int = Field(default=5, ge=0)
    """Frames without a good view of the face that are bridged; a longer gap ends the segment."""
    min_sharpness: float = Field(default=30, ge=0)
    """Variance of the Laplacian of the aligned face (8-bit grey, 128 pixels per side) that the median frame needs."""
    cut_ratio: float = Field(default=3.0, gt=1)
    """How many times as much as its neighbours a frame must change to count as a cut."""
    cut_change: float = Field(default=6.0, ge=0)
    """How much a frame must change at least to count as a cut: mean difference of hue, saturation and brightness, of
    255. Cutting too often shortens segments; missing a cut would put two people into one clip."""
    detect_every: int = Field(default=10, ge=1)
    """Frames from one full search for faces to the next; in between, a face is followed from its last place."""
    smoothing: float = Field(default=1.5, ge=0)
    """Standard deviation, in frames, of the filter over the face's place; its size and tilt use twice that."""
    resolution: int = Field(default=256, ge=32, multiple_of=2)
    """Pixels per side of the clips."""
    crf: int = Field(default=12, ge=0, le=51)
    """Quality of the H.264 clips: lower is better and larger; 12 cannot be told from the original by eye."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError(
                f"`max_seconds` must be at least twice `min_seconds`, so that what is cut is still long enough, "
                f"but they are {self.max_seconds:g} and {self.min_seconds:g}"
            )
        return self

    @property
    def min_frames(self) -> int:
        """`min_seconds` in frames."""
        return max(round(self.min_seconds * FPS), 1)

    @property
    def max_frames(self) -> int:
        """`max_seconds` in frames."""
        return max(round(self.max_seconds * FPS), 1)

    def settings(self) -> dict[str, object]:
        """Everything that decides what a clip holds, as plain values."""
        return {"version": ALIGN_VERSION, **self.model_dump(mode="json", exclude={"layout", "speaker"})}

    def fingerprint(self) -> str:
        """A hash of `settings`."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]
