"""The settings of the loss. The default is that of Wav2Lip and LatentSync."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from orchestrator.config.section import Section


class LossConfig(Section):
    """What is optimised. `docs/losses.md` tells the sources and when to choose which."""

    name: Literal["cosine_bce", "info_nce", "margin"] = "cosine_bce"
    """cosine_bce: cross-entropy of the cosine against the label. info_nce: each window must find its own sound among
    those of its group. margin: negatives must be at least `margin` apart."""
    temperature: float = Field(0.07, gt=0)
    """info_nce: what cosines are divided by; smaller looks harder at the nearest negatives."""
    group: int = Field(16, ge=2)
    """info_nce: samples that are contrasted with one another, two of each clip; even. Groups never cross workers or
    micro-batches, so that the loss does not depend on their number."""
    margin: float = Field(1.0, gt=0, le=2)
    """margin: least Euclidean distance of a negative's unit embeddings, which is at most 2."""

    @model_validator(mode="after")
    def _pairs(self) -> LossConfig:
        if self.group % 2:
            raise ValueError(f"must have an even `group`, two samples of each clip, but it is {self.group}")
        return self
