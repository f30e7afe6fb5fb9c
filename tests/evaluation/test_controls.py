"""Controls: they pass for a network that sees and hears, and each planted fault fails some of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.data.media.features import log_mel
from orchestrator.data.stream import Sample
from orchestrator.evaluation.controls import Change, ControlResult, CorpusJudge, Judge, controls_here, run_controls
from orchestrator.evaluation.controls.judging import SILENCE, changed
from orchestrator.evaluation.controls.result import Both, at_chance
from orchestrator.evaluation.controls.run import other_clips, whole_clips
from orchestrator.evaluation.evaluate import plan_evaluation
from orchestrator.evaluation.material import of_corpus
from orchestrator.training.comparison import Estimate, value_interval
from orchestrator.training.evaluation import PairList, evaluate_pairs
from tests.evaluation.hand_made import FRAMES, make_corpus, towers

NAMES = {
    "balanced_classes",
    "paired_windows",
    "same_clip",
    "no_contradictions",
    "as_it_is",
    "swapped_labels",
    "shuffled_audio",
    "silent_audio",
    "frozen_frame",
    "reversed_video",
    "offset_at_zero",
    "own_sound",
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairList:
    return PairList.of(make_corpus(tmp_path_factory.mktemp("corpus")), "val", FRAMES, 480)


@pytest.fixture(scope="module")
def good(pairs: PairList) -> Judge:
    return CorpusJudge(pairs.clips, towers())


def failed(results: Sequence[ControlResult]) -> set[str]:
    return {result.name for result in results if result.passed is False}


def test_all_controls_pass_for_a_network_that_sees_and_hears(pairs: PairList) -> None:
    results = controls_here(plan_evaluation(pairs), towers())
    assert [(result.name, result.why) for result in results if not result.passed] == []
    assert {result.name for result in results} == NAMES
    for result in results:
        assert result.found is not None and result.found.low <= result.found.value <= result.found.high
        assert result.why and result.expected and result.title


def test_a_network_that_knows_nothing_beats_no_chance_and_leaves_the_rest_open(pairs: PairList) -> None:
    results = {each.name: each for each in run_controls(CorpusJudge(pairs.clips, towers(blind=True)), pairs, pairs=200)}
    assert failed(list(results.values())) == {"as_it_is"}
    for name in ("shuffled_audio", "silent_audio", "frozen_frame", "reversed_video", "offset_at_zero", "own_sound"):
        assert results[name].passed is None, results[name].why


# faults, each planted where it happens: in the judge, or in the list
def leaks(judge: Judge, pairs: PairList, fixed: Sequence[Sample]) -> Judge:
    """The judge peeks at labels, and is right a bit more often."""
    return lambda asked, change: judge(asked, change) + np.array([0.4 * pair.label for pair in asked], np.float32)


def knows_places(judge: Judge, pairs: PairList, fixed: Sequence[Sample]) -> Judge:
    """The judge knows which pairs of the list are in sync, whatever it is shown of them."""
    return lambda asked, change: judge(asked, change) + np.float32(0.4) * (np.arange(len(asked)) % 2 == 0)


def hears_the_next_clip(judge: Judge, pairs: PairList, fixed: Sequence[Sample]) -> Judge:
    """Every clip has the sound of the next one."""
    return lambda asked, change: judge([_next_clips_sound(pairs, pair) for pair in asked], change)


def _next_clips_sound(pairs: PairList, pair: Sample) -> Sample:
    clip = (pair.audio_clip + 1) % len(pairs.clips.clips)
    last = int(pairs.clips.table.lengths[clip]) - FRAMES
    return replace(pair, audio_clip=clip, audio_start=min(pair.audio_start, last))


def hears_a_frame_late(judge: Judge, pairs: PairList, fixed: Sequence[Sample]) -> Judge:
    """The sound is read one frame late."""

    def later(pair: Sample) -> Sample:
        last = int(pairs.clips.table.lengths[pair.audio_clip]) - FRAMES
        return replace(pair, audio_start=min(pair.audio_start + 1, last))

    return lambda asked, change: judge([later(pair) for pair in asked], change)


def of_one_kind(fixed: Sequence[Sample]) -> list[Sample]:
    return [replace(pair, label=1) for pair in fixed]


def paired_off_by_one(fixed: Sequence[Sample]) -> list[Sample]:
    return [replace(pair, audio_start=max(pair.audio_start - 1, 0)) for pair in fixed]


def labels_moved_by_one(fixed: Sequence[Sample]) -> list[Sample]:
    return [replace(pair, label=fixed[place - 1].label) for place, pair in enumerate(fixed)]


def sound_of_another(fixed: Sequence[Sample]) -> list[Sample]:
    return [replace(pair, audio_clip=fixed[place - 40].clip) for place, pair in enumerate(fixed)]


AT_CHANCE = {"shuffled_audio", "silent_audio", "frozen_frame"}
IN_THE_JUDGE: list[tuple[Callable[..., Judge], set[str]]] = [
    (leaks, {"swapped_labels"} | AT_CHANCE),
    (knows_places, {"swapped_labels"} | AT_CHANCE),
    (hears_the_next_clip, {"as_it_is", "own_sound"}),
    (hears_a_frame_late, {"offset_at_zero"}),
]
IN_THE_LIST: list[tuple[Callable[[Sequence[Sample]], list[Sample]], set[str]]] = [
    (of_one_kind, {"balanced_classes", "paired_windows", "no_contradictions"}),
    (paired_off_by_one, {"paired_windows", "offset_at_zero"}),
    (labels_moved_by_one, {"paired_windows", "as_it_is"}),
]


@pytest.mark.parametrize(("fault", "expected"), IN_THE_JUDGE, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_the_judge_fails_controls_of_its_own(
    pairs: PairList, good: Judge, fault: Callable[..., Judge], expected: set[str]
) -> None:
    results = run_controls(fault(good, pairs, pairs.pairs), pairs)
    assert failed(results) == expected, [(each.name, each.why) for each in results]


@pytest.mark.parametrize(("fault", "expected"), IN_THE_LIST, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_the_list_fails_controls_of_its_own(
    pairs: PairList, good: Judge, fault: Callable[[Sequence[Sample]], list[Sample]], expected: set[str]
) -> None:
    results = run_controls(good, replace(pairs, pairs=fault(pairs.pairs)))
    assert failed(results) - {"no_contradictions"} == expected - {"no_contradictions"}, [
        (each.name, each.why) for each in results
    ]


def test_a_list_with_sounds_of_other_clips_fails(pairs: PairList, good: Judge) -> None:
    short = [pair for pair in pairs.pairs if max(pair.frame_start, pair.audio_start) < 80]
    results = run_controls(good, replace(pairs, pairs=sound_of_another(short)))
    assert {"same_clip", "as_it_is"} <= failed(results)


def test_faults_are_told_apart() -> None:
    """Four kinds of faults, and no two fail the same controls."""
    kinds = [IN_THE_JUDGE[0][1], IN_THE_JUDGE[2][1], IN_THE_JUDGE[3][1], IN_THE_LIST[0][1], IN_THE_LIST[1][1]]
    assert all(kinds) and len({frozenset(kind) for kind in kinds}) == len(kinds)


def test_one_kind_of_pairs_leaves_the_network_unasked(pairs: PairList) -> None:
    def never(asked: Sequence[Sample], change: Change) -> Any:
        raise AssertionError("asked")

    results = run_controls(never, replace(pairs, pairs=of_one_kind(pairs.pairs)))
    assert {each.name for each in results} == NAMES
    assert {each.name for each in results if each.passed is None} == NAMES - {
        "balanced_classes",
        "paired_windows",
        "same_clip",
        "no_contradictions",
    }


def test_a_pair_that_is_both_is_found(pairs: PairList, good: Judge) -> None:
    twice = [*pairs.pairs, replace(pairs.pairs[0], label=0)]
    found = {each.name: each for each in run_controls(good, replace(pairs, pairs=twice), pairs=40)}
    assert found["no_contradictions"].passed is False and found["paired_windows"].passed is False


def test_the_judge_of_a_corpus_says_what_validation_says(pairs: PairList) -> None:
    network = towers()
    validated = evaluate_pairs(network.model, pairs, 64).cosines.numpy()
    assert CorpusJudge(pairs.clips, network)(pairs.pairs) == pytest.approx(validated, abs=1e-3)


def test_changes_are_what_they_say(pairs: PairList) -> None:
    clip = of_corpus(pairs.clips, 3)
    frozen, silent, backwards = (
        changed(clip, change) for change in (Change.FROZEN_FRAME, Change.SILENT_AUDIO, Change.REVERSED_VIDEO)
    )
    middle = clip.frames_TCHW[clip.num_frames // 2]
    assert (frozen.frames_TCHW == middle).all() and frozen.num_frames == clip.num_frames
    assert (backwards.frames_TCHW == np.asarray(clip.frames_TCHW)[::-1]).all()
    assert frozen.mel_ML is clip.mel_ML and silent.frames_TCHW is clip.frames_TCHW
    assert np.unique(silent.mel_ML) == pytest.approx([SILENCE])
    assert float(log_mel(torch.zeros(4000)).max()) == pytest.approx(SILENCE), "what preparation makes of silence"
    assert changed(clip, Change.NONE) is clip


def test_every_sound_goes_to_another_speaker(pairs: PairList) -> None:
    clips = pairs.clips
    everyone = list(range(len(clips.clips)))
    others = other_clips(clips, everyone)
    assert sorted(others) == sorted(others.values()) == everyone
    assert all(clips.clips[one].speaker != clips.clips[other].speaker for one, other in others.items())
    assert all(one != other for one, other in other_clips(clips, [0, 1, 2]).items()), "of one speaker alone"
    assert other_clips(clips, [4]) == {}


def test_whole_clips_are_taken_evenly(pairs: PairList) -> None:
    some = whole_clips(pairs.pairs, 120)
    clips = {pair.clip for pair in some}
    assert len(clips) == 5 and max(clips) - min(clips) >= 12
    assert [pair for pair in pairs.pairs if pair.clip in clips] == some
    assert whole_clips(pairs.pairs, 10**6) == list(pairs.pairs)


def test_chance_is_shown_and_not_assumed() -> None:
    def told(value: float, half: float, known: bool = True) -> bool | None:
        usual = Estimate(value, value - half, value + half)
        return at_chance(Both(usual, Estimate(value, value - 2 * half, value + 2 * half)), 0.4, known)[0]

    assert told(0.5, 0.05) is True and told(0.52, 0.1) is True
    assert told(0.5, 0.25) is None, "few pairs leave everything possible"
    assert told(0.6, 0.04) is False and told(0.4, 0.04) is False
    assert told(0.6, 0.06) is True, "luck of one in a hundred fails nothing, and most of the advantage is gone"
    assert told(0.5, 0.05, known=False) is None and told(0.9, 0.05, known=False) is False


def test_controls_at_chance_do_not_fail_by_luck(pairs: PairList) -> None:
    """Judges that see and hear, but not together, 300 of them: at 99.9% none or one fails, and most pass."""
    labels, clips = (np.array([getattr(pair, name) for pair in pairs.pairs]) for name in ("label", "clip"))
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(300):
        cosines = (rng.normal(size=clips.max() + 1)[clips] + rng.normal(size=len(labels))).astype(np.float32)
        found = Both(*(value_interval("val/auc", cosines, labels, clips, level) for level in (0.95, 0.999)))
        outcomes.append(at_chance(found, 0.3, True)[0])
    assert outcomes.count(False) <= 2 and outcomes.count(True) >= 285
