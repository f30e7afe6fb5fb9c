"""Controls that need no network: a pair list that is wrong is wrong before anybody looks at it. Pure.

What is known of a list (see `data.corpus.pairs`): as many pairs in sync as out of sync; those in sync start together,
those out of sync never overlap; picture and sound are of one clip; and no pair is both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.data.stream import Sample
from orchestrator.evaluation.controls.result import ControlResult
from orchestrator.training.comparison import Estimate

_BALANCE = 0.05
"""How far from one half the share of pairs in sync may be."""


def check_structure(pairs: Sequence[Sample], num_frames: int) -> tuple[ControlResult, ...]:
    """The controls of a list.

    Args:
        pairs: at least one.
        num_frames: video frames per window.
    """
    return _balanced(pairs), _paired(pairs, num_frames), _same_clip(pairs), _distinct(pairs)


def _balanced(pairs: Sequence[Sample]) -> ControlResult:
    share = float(np.mean([pair.label for pair in pairs]))
    passed = abs(share - 0.5) <= _BALANCE
    why = f"{share:.1%} of {len(pairs)} pairs are in sync"
    if share in (0.0, 1.0):
        why += ": with one kind of pairs alone, accuracy means nothing"
    return _counted("balanced_classes", "both kinds of pairs", "half of the pairs are in sync", share, passed, why)


def _paired(pairs: Sequence[Sample], num_frames: int) -> ControlResult:
    wrong = [pair for pair in pairs if _misplaced(pair, num_frames)]
    share = 1 - len(wrong) / len(pairs)
    why = f"all of {len(pairs)} pairs do"
    if wrong:
        first = wrong[0]
        kind = "in sync" if first.label else "out of sync"
        where = f"picture from frame {first.frame_start}, sound from frame {first.audio_start}"
        why = f"{len(wrong)} of {len(pairs)} pairs do not; one that is said to be {kind} has its {where}"
    expected = "pairs in sync start together, the windows of others do not overlap"
    return _counted("paired_windows", "windows fit their labels", expected, share, not wrong, why)


def _misplaced(pair: Sample, num_frames: int) -> bool:
    apart = abs(pair.audio_start - pair.frame_start)
    return apart != 0 if pair.label else apart < num_frames and pair.audio_clip == pair.clip


def _same_clip(pairs: Sequence[Sample]) -> ControlResult:
    others = sum(pair.audio_clip != pair.clip for pair in pairs)
    why = f"{others} of {len(pairs)} pairs have the sound of another clip"
    expected = "picture and sound of a pair are of one clip"
    return _counted("same_clip", "sound of the own clip", expected, 1 - others / len(pairs), not others, why)


def _distinct(pairs: Sequence[Sample]) -> ControlResult:
    kinds: dict[tuple[int, int, int, int], set[int]] = {}
    for pair in pairs:
        kinds.setdefault((pair.clip, pair.frame_start, pair.audio_clip, pair.audio_start), set()).add(pair.label)
    both = sum(len(labels) > 1 for labels in kinds.values())
    why = f"{both} of {len(kinds)} different pairs are said to be both"
    expected = "no pair is both in sync and out of sync"
    return _counted("no_contradictions", "labels agree", expected, 1 - both / len(kinds), not both, why)


def _counted(name: str, title: str, expected: str, share: float, passed: bool, why: str) -> ControlResult:
    """A result that was counted, and has no width."""
    return ControlResult(name, title, expected, Estimate(share, share, share), passed, why)
