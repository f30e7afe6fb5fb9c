"""The answer of a sweep in one sentence: every case that it can have."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.sweeps.answer import answer_of, champion_of, corrected_confidence
from orchestrator.sweeps.summary import Interval, TrialSummary


def trial(name: str, value: float | None, *, baseline: bool = False) -> TrialSummary:
    best = None if value is None else Interval(value, value - 0.01, value + 0.01)
    return TrialSummary(name, baseline, "file.pt", {}, "finished", best=best)


START = trial("000", 0.9, baseline=True)


@pytest.mark.parametrize(
    ("trials", "lead", "expected"),
    [
        ([], None, "nothing has been validated yet"),
        ([START, trial("001", None)], None, "the pretrained file has AUC 0.9000; no trial has been validated yet"),
        ([START, trial("001", 0.8)], (-0.1, -0.2, 0.0), "no trial beats the pretrained file, whose AUC is 0.9000"),
        ([START, trial("001", 0.9)], (0.0, 0.0, 0.0), "no trial beats the pretrained file, whose AUC is 0.9000"),
        (
            [START, trial("001", 0.92)],
            (0.02, 0.01, 0.03),
            "trial 001 beats the pretrained file: AUC 0.9200 instead of 0.9000 (gain +0.0200, 95% interval +0.0100 "
            "to +0.0300)",
        ),
        (
            [START, trial("001", 0.92)],
            (0.02, -0.01, 0.05),
            "no trial clearly beats the pretrained file: the best, trial 001, has AUC 0.9200 instead of 0.9000 (gain "
            "+0.0200, 95% interval −0.0100 to +0.0500)",
        ),
        ([trial("000", 0.7), trial("001", 0.8)], None, "trial 001 has the best AUC, 0.8000"),
    ],
)
def test_the_answer(trials: list[TrialSummary], lead: Any, expected: str) -> None:
    assert answer_of("val/auc", trials, None if lead is None else Interval(*lead)) == expected


def test_accuracies_are_told_in_percent_and_losses_the_right_way_round() -> None:
    rows = [START, trial("001", 0.8)]
    said = answer_of("val/loss", rows, Interval(0.1, 0.05, 0.15))
    assert said.startswith("trial 001 beats the pretrained file: loss 0.8000 instead of 0.9000 (gain +0.1000")
    better = answer_of("val/accuracy", [START, trial("001", 0.95)], Interval(0.05, 0.01, 0.09))
    assert "accuracy 95.00% instead of 90.00% (gain +5.00 pp, 95% interval +1.00 pp to +9.00 pp)" in better


def test_among_equals_the_earlier_one_is_the_champion() -> None:
    found = champion_of("val/auc", [START, trial("001", 0.9), trial("002", None)])
    assert found is not None and found.trial == "000"


def test_more_trials_ask_for_more_confidence() -> None:
    assert corrected_confidence(0) == corrected_confidence(1) == pytest.approx(0.95)
    assert corrected_confidence(10) == pytest.approx(0.995)
