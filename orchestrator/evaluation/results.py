"""What an evaluation has found, as plain data: figures, curves, groups, and the report of every clip."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from orchestrator.data.manifest import ManifestRow
from orchestrator.evaluation.clips import ClipReport
from orchestrator.evaluation.figures import ControlResult, Curves, Figure
from orchestrator.training.chance import Verdict


@dataclass(frozen=True)
class Evaluation:
    """How well a checkpoint tells in-sync from out-of-sync on a prepared corpus."""

    checkpoint: str
    """Which one; without credentials."""
    corpus: str
    """On what."""
    split: str
    """Which clips of it."""
    num_frames: int
    """Frames of a window."""
    pairs_hash: str
    """Evaluations are comparable only where this agrees."""
    pairs: int
    """Balanced pairs judged."""
    figures: tuple[Figure, ...]
    """The figures, of all clips."""
    groups: dict[str, dict[str, tuple[Figure, ...]]]
    """Column -> value -> the figures of those clips; only columns with more than one value."""
    clips: tuple[ClipReport, ...]
    """Every clip, in the order of the split."""
    rows: tuple[ManifestRow, ...]
    """The manifest's rows of these clips."""
    metrics: dict[str, float]
    """The figures of `pair_metrics`, and `spread_vision` and `spread_audio`: what training logs."""
    verdict: Verdict
    """Whether the pairs are told apart at all."""
    curves: Curves
    """To draw."""
    cosines: tuple[float, ...]
    """Of every pair, in the order of the list."""
    clusters: str
    """What was drawn anew for the intervals: `speaker`, or `clip` where there is but one speaker."""
    notes: tuple[str, ...] = ()
    """What a person should know before believing the figures."""
    controls: tuple[ControlResult, ...] = ()
    """Outcomes that are known, if they were looked at."""

    def figure(self, name: str) -> Figure:
        """A figure by its name.

        Raises:
            KeyError: there is none of that name.
        """
        return {figure.name: figure for figure in self.figures}[name]

    def tensor(self) -> torch.Tensor:
        """(N,) the cosines."""
        return torch.tensor(self.cosines, dtype=torch.float32)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, without single windows and pairs; what is no number is none."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("clips", "rows", "cosines")}
        clips = []
        for row, report in zip(self.rows, self.clips, strict=True):
            found = report.offset
            offset = {} if found is None else {k: v for k, v in asdict(found).items() if k != "curve"}
            clips.append({"clip_id": row.clip_id, "speaker": row.speaker, "seconds": report.seconds, **offset})
        return dict(_without_nan({**plain, "clips": clips}))


def _without_nan(plain: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(plain, dict):
        return {key: _without_nan(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_without_nan(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
