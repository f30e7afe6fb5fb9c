"""What one checkpoint made of a pair list, what it has over another, and how checkpoints are called. Pure.

Contract: everything is told pair by pair or clip by clip on one list, and whole speakers are drawn anew (see
`training.comparison`); a network with a shorter window looks at the middle of the longer one.
"""

# N pairs, C clips

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from orchestrator.evaluation.clips import WINDOWS_AVERAGED, ClipReport
from orchestrator.evaluation.figures import CLIP_AVERAGED
from orchestrator.evaluation.results import Evaluation
from orchestrator.training.comparison import (
    Estimate,
    Floats,
    Metric,
    paired_gain,
    ratio_interval,
    statistic_interval,
    value_interval,
)
from orchestrator.training.evaluation import PairList

METRICS: tuple[Metric, ...] = ("val/auc", "val/accuracy", "val/loss")
OFFSETS = "offset_accuracy"
"""Share of places, ten windows averaged, at which the best of 31 offsets is within a frame of the corpus's."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint and what it made of the pairs."""

    name: str
    """Short, and unlike the others'."""
    checkpoint: str
    """Where it is, without credentials."""
    num_frames: int
    """Frames of its window."""
    pairs_hash: str
    """Of the list that it judged."""
    cosines: NDArray[np.float32]
    """(N,) of the pairs, in the order of the list."""
    reports: tuple[ClipReport, ...] = ()
    """Of the clips, where offsets were looked for."""
    parameters: int = 0
    """How many numbers it has; 0 where nobody counted."""

    @classmethod
    def of(cls, name: str, evaluation: Evaluation, parameters: int = 0) -> Entry:
        """A whole evaluation as one side of a comparison."""
        return cls(
            name,
            evaluation.checkpoint,
            evaluation.num_frames,
            evaluation.pairs_hash,
            np.array(evaluation.cosines, np.float32),
            evaluation.clips,
            parameters,
        )


@dataclass(frozen=True, eq=False)
class Told:
    """Figures and gains on one list."""

    labels: NDArray[np.int8]
    """(N,) 1 in sync, 0 out of sync."""
    owners: NDArray[np.str_]
    """(N,) what is drawn anew, of each pair."""
    of_clips: NDArray[np.str_]
    """(C,) the same of each clip of the split."""
    by: str
    """`speaker`, or `clip` where there is but one speaker."""

    @classmethod
    def of(cls, pair_list: PairList) -> Told:
        """What is told on a list."""
        clips, of_pair = pair_list.clips.clips, [pair.clip for pair in pair_list.pairs]
        by = "speaker" if len({clips[clip].speaker for clip in of_pair}) > 1 else "clip"
        who = np.array([row.speaker if by == "speaker" else row.clip_id for row in clips])
        return cls(np.array([pair.label for pair in pair_list.pairs], np.int8), who[of_pair], who, by)

    def figures(self, entry: Entry) -> dict[str, Estimate]:
        """Those of `METRICS`, and the offset accuracy where it is known."""
        found: dict[str, Estimate] = {
            metric: value_interval(metric, entry.cosines, self.labels, self.owners) for metric in METRICS
        }
        places, right = self._hits(entry)
        if not places.any():
            return found
        return {**found, OFFSETS: ratio_interval(right, places, self.of_clips, share=True)}

    def gain(self, name: str, a: Entry, b: Entry, confidence: float) -> Estimate:
        """What b has over a."""
        if a is b:
            return Estimate(0.0, 0.0, 0.0)
        if name == OFFSETS:
            return self._offset_gain(a, b, confidence)
        (metric,) = [metric for metric in METRICS if metric == name]
        return paired_gain(metric, a.cosines, b.cosines, self.labels, self.owners, confidence)

    def _offset_gain(self, a: Entry, b: Entry, confidence: float) -> Estimate:
        """Windows of another length have other places, so that ratios are subtracted, on the same draws of clips."""
        (places_a, right_a), (places_b, right_b) = self._hits(a), self._hits(b)

        def difference(weights: Floats) -> float:
            here, there = weights @ places_a, weights @ places_b
            return float(weights @ right_b / there - weights @ right_a / here) if here and there else float("nan")

        return statistic_interval(difference, self.of_clips, (-1.0, 1.0), confidence)

    def _hits(self, entry: Entry) -> tuple[Floats, Floats]:
        """(C,) places at which an offset was looked for, and (C,) those at which it was found within a frame."""
        places, right = np.zeros(len(self.of_clips)), np.zeros(len(self.of_clips))
        for report in entry.reports:
            if report.hits:
                places[report.clip], _, right[report.clip], _ = report.hits[WINDOWS_AVERAGED.index(CLIP_AVERAGED)]
        return places, right


def centred(pair_list: PairList, num_frames: int) -> PairList:
    """The same pairs for a network with a shorter window, which reads the middle of the longer one.

    The list keeps its hash: it is the same moments that are judged.

    Args:
        pair_list: the pairs.
        num_frames: frames of the shorter window.
    """
    later = (pair_list.num_frames - num_frames) // 2
    if not later:
        return replace(pair_list, num_frames=num_frames)
    moved = [
        replace(pair, frame_start=pair.frame_start + later, audio_start=pair.audio_start + later)
        for pair in pair_list.pairs
    ]
    return replace(pair_list, pairs=moved, num_frames=num_frames)


def short_names(checkpoints: Sequence[str]) -> list[str]:
    """What tells checkpoints apart, in their order: the end of each path, or the folder in which paths differ."""
    parts = [[part for part in checkpoint.replace("\\", "/").split("/") if part] for checkpoint in checkpoints]
    names = [found[-1] if found else "" for found in parts]
    if len(set(names)) < len(names):
        names = ["/".join(found) for found in _different(parts)]
    counted: dict[str, int] = {}
    for place, name in enumerate(names):
        counted[name] = counted.get(name, 0) + 1
        names[place] = name if counted[name] == 1 else f"{name} ({counted[name]})"
    return names


def _different(parts: list[list[str]]) -> list[list[str]]:
    """Paths without what all of them begin and end with."""
    for turn in (1, -1):
        same = 0
        for step in zip_longest(*(path[::turn] for path in parts)):
            if len(set(step)) > 1:
                break
            same += 1
        # of a path that is the beginning of another one part must remain
        parts = [path[::turn][min(same, len(path) - 1) :][::turn] for path in parts]
    return parts
