"""Comparisons: values and gains are those of other computations, ties are ties, and what is unlike is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from orchestrator.charts.comparison import comparison_chart
from orchestrator.data.corpus import Corpus
from orchestrator.errors import DataError
from orchestrator.evaluation.compare import Comparison, compare
from orchestrator.evaluation.evaluate import Request, cosines_of, plan_evaluation, reports_here
from orchestrator.evaluation.paired import METRICS, OFFSETS, Entry, centred, short_names
from orchestrator.training.comparison import paired_gain
from orchestrator.training.evaluation import PairList
from tests.evaluation.hand_made import FRAMES, make_corpus, towers


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def pairs(corpus: Corpus) -> PairList:
    return PairList.of(corpus, "val", FRAMES, 480)


def judged(pairs: PairList, name: str, noise: float, *, parameters: int = 0, num_frames: int = FRAMES) -> Entry:
    network = towers(noise, num_frames=num_frames)
    plan = plan_evaluation(centred(pairs, num_frames))
    reports = reports_here(plan, network, Request(stride=2))
    cosines = cosines_of(plan, reports)
    return Entry(name, f"runs/{name}", num_frames, pairs.hash, cosines, tuple(reports), parameters)


@pytest.fixture(scope="module")
def entries(pairs: PairList) -> list[Entry]:
    return [judged(pairs, name, noise) for name, noise in (("weak", 1.0), ("good", 0.2), ("middle", 0.6))]


@pytest.fixture(scope="module")
def found(entries: list[Entry], pairs: PairList) -> Comparison:
    return compare(entries, pairs)


def test_the_best_is_found_and_each_figure_is_an_independent_one(
    found: Comparison, entries: list[Entry], pairs: PairList
) -> None:
    assert [standing.name for standing in found.standings] == ["good", "middle", "weak"]
    assert (found.best, found.use, found.reference) == ("good", "good", "weak")
    assert found.advice.startswith("use good: its AUC") and "middle" in found.advice
    labels = np.array([pair.label for pair in pairs.pairs])
    for standing in found.standings:
        (entry,) = [each for each in entries if each.name == standing.name]
        assert standing.figures["val/auc"].value == pytest.approx(roc_auc_score(labels, entry.cosines))
        assert standing.figures["val/accuracy"].value == pytest.approx(accuracy_score(labels, entry.cosines > 0.5))
        assert 0 <= standing.figures[OFFSETS].low <= standing.figures[OFFSETS].value <= standing.figures[OFFSETS].high
        assert not standing.tied or standing.name == "good"
        assert set(standing.over_reference) == {*METRICS, OFFSETS}
    weak = found.standings[-1]
    assert set(weak.over_reference.values()) == {(0.0, 0.0, 0.0)}
    assert found.standings[0].behind_best == (0.0, 0.0, 0.0)


def test_gains_are_paired_by_speaker_and_corrected_for_their_number(
    found: Comparison, entries: list[Entry], pairs: PairList
) -> None:
    weak, good, middle = entries
    labels = np.array([pair.label for pair in pairs.pairs])
    speakers = np.array([pairs.clips.clips[pair.clip].speaker for pair in pairs.pairs])
    assert found.clusters == "speaker"
    told = {standing.name: standing for standing in found.standings}
    expected = paired_gain("val/auc", weak.cosines, middle.cosines, labels, speakers, 1 - 0.05 / 2)
    assert told["middle"].over_reference["val/auc"] == pytest.approx(expected)
    expected = paired_gain("val/auc", middle.cosines, good.cosines, labels, speakers, 1 - 0.05 / 3)
    assert told["middle"].behind_best == pytest.approx(expected)


def test_the_gain_in_offset_accuracy_is_the_difference_of_shares(found: Comparison, entries: list[Entry]) -> None:
    def share(entry: Entry) -> float:
        hits = np.array([report.hits[5] for report in entry.reports])
        return float(hits[:, 2].sum() / hits[:, 0].sum())

    good = found.standings[0]
    assert good.figures[OFFSETS].value == pytest.approx(share(entries[1]))
    gain = good.over_reference[OFFSETS]
    assert gain.value == pytest.approx(share(entries[1]) - share(entries[0]))
    assert gain.low < gain.value < gain.high and gain.low > 0


def test_of_what_cannot_be_told_apart_the_smallest_is_used(pairs: PairList, entries: list[Entry]) -> None:
    good = entries[1]
    nudged = good.cosines + np.random.default_rng(0).normal(0, 0.01, len(good.cosines)).astype(np.float32)
    big, small = (
        replace(good, name="big", parameters=5000),
        replace(good, name="small", cosines=nudged, parameters=300),
    )
    found = compare([big, small, entries[0]], pairs)
    assert found.use == "small" and {each.name for each in found.standings if each.tied} == {"big", "small"}
    assert "cannot be told apart" in found.advice and "the smallest" in found.advice
    uncounted = compare([replace(big, parameters=0), replace(small, parameters=0)], pairs)
    assert uncounted.use == "big" and "named first" in uncounted.advice


def test_where_all_are_at_chance_none_is_to_be_used(pairs: PairList, entries: list[Entry]) -> None:
    rng = np.random.default_rng(1)
    lost = [replace(entries[0], name=name, cosines=rng.random(len(pairs.pairs)).astype(np.float32)) for name in "ab"]
    found = compare(lost, pairs)
    assert found.use is None and "chance" in found.advice
    assert compare(lost, pairs, metric="val/loss").use is None


def test_equal_networks_are_a_tie_not_a_win(pairs: PairList) -> None:
    """The best of many equals looks better than the others by luck; in 40 comparisons of six it wins once at most."""
    rng, labels, wins = np.random.default_rng(2), np.array([pair.label for pair in pairs.pairs]), 0
    blank = Entry("", "", FRAMES, pairs.hash, np.zeros(0, np.float32))
    for _ in range(40):
        each = [(0.5 * labels + rng.normal(0, 0.5, len(labels))).astype(np.float32) for _ in range(6)]
        found = compare([replace(blank, name=str(n), cosines=cosines) for n, cosines in enumerate(each)], pairs)
        wins += sum(standing.tied for standing in found.standings) == 1
        assert not any(standing.figures.get(OFFSETS) for standing in found.standings)
    assert wins <= 1


def test_a_shorter_window_reads_the_middle_of_the_longer(pairs: PairList, entries: list[Entry]) -> None:
    short = centred(pairs, 5)
    assert short.hash == pairs.hash and short.num_frames == 5 and centred(pairs, FRAMES).pairs == pairs.pairs
    for one, other in zip(pairs.pairs, short.pairs, strict=True):
        assert (other.frame_start - one.frame_start, other.audio_start - one.audio_start) == (1, 1)
        assert other.frame_start + 5 <= one.frame_start + FRAMES
    found = compare([entries[1], judged(pairs, "short", 0.2, num_frames=5)], pairs)
    assert {each.name: each.num_frames for each in found.standings} == {"good": 8, "short": 5}
    assert any("5, 8 frames" in note for note in found.notes)
    assert all(each.figures["val/auc"].low > 0.5 for each in found.standings)


def test_what_cannot_be_compared_is_refused(pairs: PairList, entries: list[Entry]) -> None:
    with pytest.raises(DataError, match="at least two") as caught:
        compare(entries[:1], pairs)
    assert caught.value.reason == "too_few" and caught.value.hint
    with pytest.raises(DataError, match="good judged the pair list abc") as caught:
        compare([entries[0], replace(entries[1], pairs_hash="abc")], pairs)
    assert caught.value.reason == "other_pairs" and "--pair-list" in caught.value.hint
    with pytest.raises(DataError, match="no 'best' among weak, good, middle"):
        compare(entries, pairs, reference="best")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.pt", "b.pt"], ["a.pt", "b.pt"]),
        (["x/a.pt", "y/b.pt"], ["a.pt", "b.pt"]),
        (["runs/one/step-000000400", "runs/two/step-000000400"], ["one", "two"]),
        (["runs/one/step-4", "runs/two/step-4", "runs/two/step-8"], ["one/step-4", "two/step-4", "two/step-8"]),
        (["s3://b/r/one/step-4", "s3://b/q/one/step-4"], ["r", "q"]),
        (["a/step-4", "step-4"], ["a", "step-4"]),
        (["a.pt", "a.pt"], ["a.pt", "a.pt (2)"]),
    ],
)
def test_names_are_what_tells_paths_apart(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names


def test_a_comparison_is_plain_data_and_a_picture(found: Comparison, tmp_path: Path) -> None:
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["standings"][0]["figures"]["val/auc"].keys() == {"value", "low", "high"}
    assert plain["advice"] == found.advice and plain["use"] == "good"
    figure = comparison_chart(found.standings, found.metric, found.use)
    values, gains = figure.axes
    assert [label.get_text() for label in values.get_yticklabels()] == ["good", "middle", "weak"]
    dots = [line.get_xdata()[0] for line in gains.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([standing.behind_best.value for standing in found.standings])
    figure.savefig(tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 5000
