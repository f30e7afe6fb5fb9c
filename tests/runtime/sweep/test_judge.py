"""Trials are stopped early by Tune's schedulers, at equal samples, with a reason, and never on the plateau."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.sweep.judge import Judge, build_judge, grace_samples
from orchestrator.runtime.sweep.ledger import Ledger, TrialState

CHANCE, LEARNING = 1.0, 2.0
"""Places in `LearningState`."""


@dataclass(eq=False)
class FakeTrial:
    trial_id: str


class Sweep:
    """Judges trials that exist on paper only."""

    def __init__(self, config: RunConfig, folder: Path, count: int) -> None:
        self.ledger, self.said = Ledger(folder / "trials.jsonl"), list[str]()
        self.ledger.draw({}, baseline=True)
        for place in range(count):
            self.ledger.draw({"optim.lr": 10.0**-place})
        self.judge = build_judge(config, self.ledger, self.said.append)
        self.trials = {trial: FakeTrial(trial) for trial in self.ledger.entries}
        for trial in self.trials.values():
            self.judge.on_trial_add(None, trial)  # type: ignore[arg-type]

    def tell(self, trial: str, samples: int, value: float, state: float = LEARNING) -> str:
        row = {"step": samples // 8, "samples": samples, "val/accuracy": value, "learning/state": state}
        return self.judge.on_trial_result(None, self.trials[trial], row)  # type: ignore[arg-type]


def sweeping(config: RunConfig, **settings: Any) -> RunConfig:
    """Of 100 steps of 8 samples."""
    space = {"optim.lr": {"loguniform": [1e-5, 1e-2]}}
    long = apply_settings(config, {"train.steps": 100, "eval.every": 5})
    return apply_settings(long, {"sweep": {"space": space, "scheduler": "asha", "grace_steps": 10, **settings}})


@pytest.fixture
def asha(tiny_config: RunConfig, tmp_path: Path) -> Sweep:
    return Sweep(sweeping(tiny_config), tmp_path, 6)


def test_a_laggard_is_stopped_and_the_ledger_says_why(asha: Sweep) -> None:
    for trial, value in (("001", 0.8), ("002", 0.85), ("003", 0.9)):
        asha.tell(trial, 0, 0.5)
        assert asha.tell(trial, 80, value) == "CONTINUE"
    asha.tell("004", 0, 0.5)
    assert asha.tell("004", 40, 0.5) == "CONTINUE", "nothing is stopped before the grace period is over"
    assert asha.tell("004", 80, 0.6) == "STOP"
    entry = asha.ledger.entries["004"]
    assert entry.state is TrialState.STOPPED_EARLY
    others = "3 of the 3 other trials that got so far had better"
    assert entry.why == f"asha: after 80 samples its val/accuracy was 0.6, and {others}"
    assert asha.said == [f"trial 004 is stopped: {entry.why}"]


def test_the_baseline_is_never_judged(asha: Sweep) -> None:
    for trial in ("001", "002", "003"):
        asha.tell(trial, 80, 0.9)
    assert asha.tell("000", 0, 0.1) == "CONTINUE"


def test_on_the_plateau_nothing_is_stopped(asha: Sweep) -> None:
    for place, trial in enumerate(("001", "002", "003", "004")):
        asha.tell(trial, 0, 0.5, CHANCE)
        assert asha.tell(trial, 80, 0.51 - place / 100, CHANCE) == "CONTINUE"
    assert any("at chance, where the order is noise" in line for line in asha.said)
    assert all(entry.state is TrialState.WAITING for entry in asha.ledger.entries.values())


def test_once_one_has_left_the_plateau_those_that_lag_behind_are_stopped(asha: Sweep) -> None:
    for trial, value, state in (("001", 0.8, LEARNING), ("002", 0.52, CHANCE)):
        asha.tell(trial, 0, 0.5, CHANCE)
        last = asha.tell(trial, 80, value, state)
    assert last == "STOP"


def test_equal_samples_are_compared_whatever_a_run_began_with(asha: Sweep) -> None:
    for trial in ("001", "002", "003"):
        asha.tell(trial, 0, 0.5)
        asha.tell(trial, 80, 0.9)
    asha.tell("004", 5000, 0.5)
    assert asha.tell("004", 5040, 0.4) == "CONTINUE", "it has trained on 40 samples and not on 5040"
    assert asha.tell("004", 5080, 0.4) == "STOP"


def test_what_was_known_is_known_again(tiny_config: RunConfig, tmp_path: Path) -> None:
    sweep = Sweep(sweeping(tiny_config), tmp_path, 4)
    rows = [{"samples": samples, "val/accuracy": 0.9, "learning/state": LEARNING} for samples in (0, 80)]
    for trial in ("001", "002", "003"):
        sweep.judge.remember(trial, rows)
    sweep.tell("004", 0, 0.5)
    assert sweep.tell("004", 80, 0.6) == "STOP"


def test_the_median_rule_needs_three_trials(tiny_config: RunConfig, tmp_path: Path) -> None:
    sweep = Sweep(sweeping(tiny_config, scheduler="median"), tmp_path, 4)
    for trial, value in (("001", 0.9), ("002", 0.8)):
        for samples in (0, 80, 160):
            assert sweep.tell(trial, samples, value if samples else 0.5) == "CONTINUE"
    sweep.tell("003", 0, 0.5)
    assert sweep.tell("003", 80, 0.6) == "STOP"
    assert sweep.ledger.entries["003"].why.startswith("median: after 80 samples")


def test_without_a_scheduler_nothing_is_stopped(tiny_config: RunConfig, tmp_path: Path) -> None:
    sweep = Sweep(sweeping(tiny_config, scheduler="none"), tmp_path, 4)
    for trial, value in (("001", 0.9), ("002", 0.8), ("003", 0.1)):
        assert sweep.tell(trial, 80, value) == "CONTINUE"


def test_the_grace_period_covers_a_validation_and_the_longest_warm_up(tiny_config: RunConfig) -> None:
    auto = sweeping(tiny_config, grace_steps=None)
    assert grace_samples(auto) == 10 * 8, "a tenth of the run"
    warm = {
        **{name: way.model_dump() for name, way in auto.sweep.space.items()},
        "optim.warmup_steps": {"choice": [0, 40]},
    }
    assert grace_samples(sweeping(tiny_config, grace_steps=None, space=warm)) == 40 * 8


def test_a_judge_is_no_more_than_tune_asks_for(asha: Sweep) -> None:
    assert isinstance(asha.judge, Judge) and "AsyncHyperBand" in asha.judge.debug_string()
