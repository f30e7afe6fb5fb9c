"""Rounds of population-based training are pure, replace the worst by the best, and stay inside the space."""

from __future__ import annotations

from orchestrator.sweeps.population import Member, next_round
from tests.sweeps.test_search import sweeping

SPACE = {"optim.lr": {"loguniform": [1e-5, 1e-3]}, "optim.weight_decay": {"choice": [0.0, 0.01, 0.1]}}
CONFIG = sweeping(SPACE, scheduler="pbt", trials=8)


def population(scores: list[float]) -> list[Member]:
    return [
        Member(f"{place:03d}", value, {"optim.lr": 1e-4 * (1 + place), "optim.weight_decay": 0.01})
        for place, value in enumerate(scores)
    ]


def test_the_worst_quarter_becomes_copies_of_the_best_quarter() -> None:
    members = population([0.9, 0.5, 0.6, 0.7, 0.4, 0.8, 0.55, 0.65])
    copies = next_round(CONFIG, members, 1)
    assert sorted(copy.trial for copy in copies) == ["001", "004"]
    assert {copy.donor for copy in copies} <= {"000", "005"}
    assert copies == next_round(CONFIG, list(reversed(members)), 1), "the order of the trials does not matter"


def test_changed_settings_differ_and_stay_inside_the_space() -> None:
    members = population([float(place) for place in range(8)])
    rounds = [copy for number in range(1, 60) for copy in next_round(CONFIG, members, number)]
    rates = {copy.point["optim.lr"] for copy in rounds}
    assert len(rates) > 20 and all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert {copy.point["optim.weight_decay"] for copy in rounds} == {0.0, 0.01, 0.1}


def test_equal_trials_are_left_alone() -> None:
    assert next_round(CONFIG, population([0.5] * 8), 1) == []
    assert next_round(CONFIG, population([0.5]), 1) == []
