"""The settings of the data: which corpus, which negatives, which augmentations. The defaults change nothing."""

from __future__ import annotations

from pydantic import Field, model_validator

from orchestrator.config.section import Section

NEAR_FLOOR = 3
"""Least distance of a near negative in frames: below 120 ms many people do not notice that sound comes late, so that
calling it out of sync would be a wrong label."""


class NegativesConfig(Section):
    """Where the sound of a negative comes from: weights, of which only the ratios matter."""

    same_clip: float = Field(1.0, ge=0)
    """Another place of the same clip, by `data.min_shift` and `data.max_shift`."""
    near: float = Field(0.0, ge=0)
    """A near place of the same clip, by `data.near_shift`: the hardest ones."""
    cross_clip: float = Field(0.0, ge=0)
    """Another clip of the same speaker; of another speaker where there is none."""
    cross_speaker: float = Field(0.0, ge=0)
    """A clip of another speaker: the easiest ones, and no lip-reading is needed to tell them."""

    @model_validator(mode="after")
    def _some(self) -> NegativesConfig:
        if not any(dict(self).values()):
            raise ValueError("must have at least one weight > 0, but all are 0")
        return self


class AugmentConfig(Section):
    """Changes to training windows, drawn anew for each; validation is never augmented. The defaults change nothing."""

    flip: float = Field(0.0, ge=0, le=1)
    """Probability that a window is mirrored left to right."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Greatest relative change: 0.2 multiplies all pixels of a window by one factor from 0.8 to 1.2."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Greatest relative change of the distance to mid-grey, one for all pixels of a window."""
    mel_time: int = Field(0, ge=0)
    """Most mel columns (12.5 ms each) that are silenced in one stretch."""
    mel_bins: int = Field(0, ge=0)
    """Most of the 80 mel bins that are silenced in one stretch."""
    gain_db: float = Field(0.0, ge=0, le=60)
    """Greatest change of the loudness in decibels, louder or quieter."""

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return any(dict(self).values())

    @property
    def pictures(self) -> list[str]:
        """Which of the settings that change pixels are on."""
        return [name for name in ("flip", "brightness", "contrast") if getattr(self, name)]


class DataConfig(Section):
    """Which prepared corpus, and how windows and negatives are drawn from it."""

    path: str | None = None
    """The folder that `prepare` wrote."""
    cache: str | None = None
    """A folder on each node's own disk for copies of the corpus's shards; none reads them where they are."""
    min_shift: int = Field(1, ge=1)
    """Least distance in frames between the end of the positive window and a same-clip negative (or its start), so
    that the two never overlap."""
    max_shift: int | None = Field(None, ge=1)
    """Greatest such distance; none means anywhere in the clip."""
    negatives: NegativesConfig = NegativesConfig()
    """Which kinds of negatives, in which proportion."""
    near_shift: tuple[int, int] = (5, 15)
    """Least and greatest distance in frames between the starts of the two windows of a near negative."""
    min_speech: float = Field(0.0, ge=0, le=1)
    """Least share of the frames of each window in which speech is heard; 0 takes silent windows too."""
    augment: AugmentConfig = AugmentConfig()
    """Changes to training windows."""
    loader_threads: int = Field(1, ge=0)
    """Threads that read batches ahead; 0 reads in the training loop itself."""
    prefetch: int = Field(4, ge=1)
    """Batches read ahead."""

    @model_validator(mode="after")
    def _near(self) -> DataConfig:
        low, high = self.near_shift
        if not NEAR_FLOOR <= low <= high:
            raise ValueError(f"must have near_shift with {NEAR_FLOOR} <= low <= high, but it is {[low, high]}")
        return self
