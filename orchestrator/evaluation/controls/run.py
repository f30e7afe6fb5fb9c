"""The controls with a network: each asks the judge about the same pairs, changed in one way, and knows the answer.

What is known, and why. A positive and its negative show the same window of the picture, and the windows of the sound
are, over the list, the same moments for both kinds (a distance that is allowed is allowed in both directions). So where
picture and sound have nothing to do with each other (another clip's sound, none, a picture that stands still), the AUC
is 0.5 exactly, up to luck, however the network weighs loudness or open mouths; these tests draw clips anew, because
nothing ties the clips of a speaker together. Of a clip that is seen backwards only so much is known that pairs must be
told apart less well: a quiet clip stays quiet. Labels that are turned around must turn the AUC around, to the digit.
"""

# N pairs, O offsets

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.corpus import CorpusSplit
from orchestrator.data.stream import Sample
from orchestrator.evaluation.controls import result
from orchestrator.evaluation.controls.judging import Change, CorpusJudge, Judge
from orchestrator.evaluation.controls.result import SURE, Both, ControlResult
from orchestrator.evaluation.controls.structure import check_structure
from orchestrator.evaluation.evaluate import Plan
from orchestrator.evaluation.offsets import vertex
from orchestrator.evaluation.towers import Towers
from orchestrator.training.comparison import (
    Estimate,
    Floats,
    paired_gain,
    ratio_interval,
    statistic_interval,
    value_interval,
)
from orchestrator.training.evaluation import PairList
from orchestrator.training.intervals import CONFIDENCE

PAIRS = 512
"""How many pairs the controls look at, unless told otherwise."""
_WINDOWS = 128
"""How many windows of the picture the controls of places look at: each of them needs many windows of sound."""
_REACH = 5
"""Frames to either side at which a better place of the sound is looked for."""
_SAME = 0.005
"""How far AUC and 1 less the AUC of turned labels may be apart: the rounding of other batches."""


def controls_here(plan: Plan, towers: Towers, *, pairs: int = PAIRS) -> tuple[ControlResult, ...]:
    """The controls of an evaluation, in this process.

    Args:
        plan: that of the evaluation.
        towers: the network.
        pairs: how many pairs to look at; whole clips, so that it may be a few more.

    Raises:
        OrchestratorError: the network or the storage fails.
    """
    return run_controls(CorpusJudge(plan.pair_list.clips, towers), plan.pair_list, pairs=pairs)


def run_controls(judge: Judge, pair_list: PairList, *, pairs: int = PAIRS) -> tuple[ControlResult, ...]:
    """All controls, those of the list first.

    Args:
        judge: what is judged.
        pair_list: its pairs.
        pairs: how many of them to look at; whole clips, so that it may be a few more.

    Raises:
        OrchestratorError: as the judge.
    """
    structure = check_structure(pair_list.pairs, pair_list.num_frames)
    chosen = whole_clips(pair_list.pairs, pairs)
    if len({pair.label for pair in chosen}) < 2:
        why = "not asked: all pairs are of one kind"
        return *structure, *(ControlResult(name, *told, None, None, why) for name, told in _TOLD.items())
    asked = _Asked(judge, pair_list.clips, chosen, pair_list.num_frames)
    return *structure, *(_result(name, *_CONTROLS[name](asked)) for name in _TOLD)


def whole_clips(pairs: Sequence[Sample], count: int) -> list[Sample]:
    """All pairs of so many clips, spread evenly, that there are `count` of them; all where there are fewer."""
    clips = list(dict.fromkeys(pair.clip for pair in pairs))
    wanted = min(len(clips), max(1, round(count * len(clips) / len(pairs))))
    chosen = {clips[number * len(clips) // wanted] for number in range(wanted)}
    return [pair for pair in pairs if pair.clip in chosen]


def other_clips(clips: CorpusSplit, chosen: Sequence[int]) -> dict[int, int]:
    """For each chosen clip another one, of another speaker wherever that is possible; each is taken once.

    Of the clips in order of speakers, each takes the one that comes a fixed number of places later, around the end.
    """
    ordered = sorted(chosen, key=lambda clip: (clips.clips[clip].speaker, clip))
    speakers = [clips.clips[clip].speaker for clip in ordered]

    def strangers(turn: int) -> int:
        return sum(one != other for one, other in zip(speakers, speakers[turn:] + speakers[:turn], strict=True))

    turn = max(range(1, len(ordered)), key=strangers, default=0)
    return dict(zip(ordered, ordered[turn:] + ordered[:turn], strict=True)) if turn else {}


@dataclass(frozen=True, eq=False)
class _Asked:
    """What controls look at, and what several of them need."""

    judge: Judge
    clips: CorpusSplit
    pairs: list[Sample]
    num_frames: int

    @cached_property
    def as_it_is(self) -> NDArray[np.float32]:
        """(N,) cosines without any change."""
        return self.judge(self.pairs, Change.NONE)

    @cached_property
    def auc(self) -> Estimate:
        """Without any change, as it would be with other speakers."""
        speakers = self.owners("speaker")
        return self.area(self.as_it_is, by=speakers if len(set(speakers)) > 1 else self.owners("clip_id"))

    @property
    def known(self) -> bool:
        """Whether the network tells pairs apart."""
        return self.auc.low > result.CHANCE

    @property
    def labels(self) -> NDArray[np.int8]:
        return np.array([pair.label for pair in self.pairs], np.int8)

    def owners(self, column: str) -> NDArray[np.str_]:
        """The speaker or the clip of each pair."""
        return np.array([getattr(self.clips.clips[pair.clip], column) for pair in self.pairs])

    def area(
        self, cosines: NDArray[np.float32], confidence: float = CONFIDENCE, by: NDArray[np.str_] | None = None
    ) -> Estimate:
        """The AUC of these cosines."""
        return value_interval("val/auc", cosines, self.labels, self.owners("clip_id") if by is None else by, confidence)

    def both(self, cosines: NDArray[np.float32]) -> Both:
        """The AUC of these cosines with both intervals; clips are drawn anew."""
        return Both(self.area(cosines), self.area(cosines, SURE))

    def positives(self, most: int = _WINDOWS) -> list[Sample]:
        """Some pairs in sync, spread evenly."""
        found = [pair for pair in self.pairs if pair.label]
        most = min(most, len(found))
        return [found[number * len(found) // most] for number in range(most)]

    def last_start(self, clip: int) -> tuple[int, int]:
        """The first and the last frame at which a window with its sound can start."""
        first = int(self.clips.table.firsts[clip])
        return first, first + int(self.clips.table.lengths[clip]) - self.num_frames


Outcome = tuple[Estimate | None, bool | None, str]


def _as_it_is(asked: _Asked) -> Outcome:
    return asked.auc, *result.beats_chance(asked.auc)


def _swapped_labels(asked: _Asked) -> Outcome:
    # in the other order, too, so that a judge that knows which place is which kind is noticed as well
    swapped = [replace(pair, label=1 - pair.label) for pair in reversed(asked.pairs)]
    told = replace(asked, pairs=swapped)
    found, before = told.area(told.as_it_is), asked.auc.value
    passed = abs(found.value - (1 - before)) <= _SAME
    why = f"AUC becomes {found.value:.3f}, and {1 - before:.3f} is 1 less the {before:.3f} of labels as they are"
    return found, passed, why if passed else f"{why}: the judge knows the labels"


def _shuffled_audio(asked: _Asked) -> Outcome:
    others = other_clips(asked.clips, list(dict.fromkeys(pair.clip for pair in asked.pairs)))
    if not others:
        return None, None, "not asked: there is one clip only"
    moved = [_with_sound_of(asked, pair, others[pair.clip]) for pair in asked.pairs]
    found = asked.both(asked.judge(moved, Change.NONE))
    return found.usual, *result.at_chance(found, asked.auc.value - result.CHANCE, asked.known)


def _with_sound_of(asked: _Asked, pair: Sample, other: int) -> Sample:
    """A pair with another clip's sound: from the same frame on, or, where that clip is shorter, as far along in it."""
    (first, last), (own_first, own_last) = asked.last_start(other), asked.last_start(pair.clip)
    start = pair.audio_start
    if not first <= start <= last:
        start = first + (start - own_first) * (last - first) // max(own_last - own_first, 1)
    return replace(pair, audio_clip=other, audio_start=start)


def _at_chance(change: Change, asked: _Asked) -> Outcome:
    found = asked.both(asked.judge(asked.pairs, change))
    return found.usual, *result.at_chance(found, asked.auc.value - result.CHANCE, asked.known)


def _reversed_video(asked: _Asked) -> Outcome:
    cosines = asked.judge(asked.pairs, Change.REVERSED_VIDEO)
    found = asked.both(cosines)
    if not asked.known:
        return found.usual, None, f"AUC is {found.usual.value:.3f}; with everything as it is, it is at chance too"
    gain = paired_gain("val/auc", cosines, asked.as_it_is, asked.labels, asked.owners("clip_id"))
    return found.usual, *result.falls(gain, found)


def _offset_at_zero(asked: _Asked) -> Outcome:
    shifts = range(-_REACH, _REACH + 1)

    def has_all(pair: Sample) -> bool:
        first, last = asked.last_start(pair.clip)
        return first + _REACH <= pair.audio_start <= last - _REACH

    inside = replace(asked, pairs=[pair for pair in asked.pairs if has_all(pair)]).positives()
    if not inside:
        return None, None, f"not asked: no clip has {_REACH} frames to either side of a pair in sync"
    moved = [replace(pair, audio_start=pair.audio_start + shift) for pair in inside for shift in shifts]
    cosines_NO = asked.judge(moved, Change.NONE).reshape(len(inside), len(shifts))
    clips = replace(asked, pairs=inside).owners("clip_id")

    def peak(weights: Floats) -> float:
        curve = -(weights @ cosines_NO) / weights.sum()
        place = int(curve.argmin())
        return place - _REACH + vertex(curve, place)

    found = Both(*(statistic_interval(peak, clips, (-_REACH, _REACH), level) for level in (CONFIDENCE, SURE)))
    return found.usual, *result.is_zero(found, asked.known)


def _own_sound(asked: _Asked) -> Outcome:
    told = [_against(asked, *neighbour) for neighbour in ((-1, "clip before"), (1, "clip behind"))]
    told = [outcome for outcome in told if outcome[0] is not None]
    if not told:
        return None, None, "not asked: no other clip is long enough"
    # one neighbour whose sound fits better is enough
    return min(told, key=lambda outcome: outcome[0].value if outcome[0] else 1.0)


def _against(asked: _Asked, step: int, who: str) -> Outcome:
    """Whether pictures fit their own sound better than that of the clip so many places away in the split."""

    def other(pair: Sample) -> Sample | None:
        clip = (pair.clip + step) % len(asked.clips.clips)
        first, last = asked.last_start(clip)
        there = clip != pair.clip and first <= pair.audio_start <= last
        return replace(pair, audio_clip=clip) if there else None

    couples = [(pair, moved) for pair in asked.positives() if (moved := other(pair)) is not None]
    if not couples:
        return None, None, ""
    own, others = (asked.judge([couple[side] for couple in couples], Change.NONE) for side in (0, 1))
    wins, ones = (np.sign(own - others) + 1) / 2, np.ones(len(couples))
    clips = replace(asked, pairs=[pair for pair, _ in couples]).owners("clip_id")
    found = Both(*(ratio_interval(wins, ones, clips, share=True, confidence=level) for level in (CONFIDENCE, SURE)))
    return found.usual, *result.fits_own(found, who, asked.known)


def _result(name: str, found: Estimate | None, passed: bool | None, why: str) -> ControlResult:
    return ControlResult(name, *_TOLD[name], found, passed, why)


_TOLD = {
    "as_it_is": ("nothing changed", "AUC above 0.5"),
    "swapped_labels": ("labels turned around", "AUC becomes 1 - AUC"),
    "shuffled_audio": ("sound of another clip", "AUC at chance, 0.5"),
    "silent_audio": ("no sound", "AUC at chance, 0.5"),
    "frozen_frame": ("picture stands still", "AUC at chance, 0.5"),
    "reversed_video": ("picture runs backwards", "AUC falls"),
    "offset_at_zero": ("sound moved by frames", "pairs in sync fit best where they are"),
    "own_sound": ("sound of the neighbours in the list of clips", "the own sound fits better"),
}
_CONTROLS: dict[str, Callable[[_Asked], Outcome]] = {
    "as_it_is": _as_it_is,
    "swapped_labels": _swapped_labels,
    "shuffled_audio": _shuffled_audio,
    "silent_audio": partial(_at_chance, Change.SILENT_AUDIO),
    "frozen_frame": partial(_at_chance, Change.FROZEN_FRAME),
    "reversed_video": _reversed_video,
    "offset_at_zero": _offset_at_zero,
    "own_sound": _own_sound,
}
