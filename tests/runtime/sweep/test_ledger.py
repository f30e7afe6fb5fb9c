"""The ledger is what a sweep is restored from: whole lines only, failures tried again, the largest budget kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import RunError
from orchestrator.runtime.sweep.budget import with_budget
from orchestrator.runtime.sweep.ledger import Ledger, TrialState
from orchestrator.sweeps.population import Copy


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "trials.jsonl")
    first.draw({}, baseline=True)
    for rate in (1e-3, 1e-4, 1e-5):
        first.draw({"optim.lr": rate})
    first.end("001", TrialState.FINISHED)
    first.end("002", TrialState.FAILED, "too hot")
    first.end_round([Copy("003", "001", {"optim.lr": 2e-3})])
    again = Ledger(tmp_path / "trials.jsonl")
    assert list(again.entries) == ["000", "001", "002", "003"] and again.rounds == 1
    assert [entry.trial for entry in again.waiting()] == ["000", "002", "003"], "what failed is tried again"
    assert again.entries["003"].point == {"optim.lr": 2e-3} and again.entries["003"].copies == ((1, "001"),)
    assert first.entries["002"].why == "too hot"


def test_a_line_that_a_crash_cut_short_is_as_if_never_written(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    Ledger(path).draw({"optim.lr": 1e-3})
    with path.open("a") as file:
        file.write('{"at": 1, "drawn": {"trial": "001", "poi')
    ledger = Ledger(path)
    assert list(ledger.entries) == ["000"]
    assert ledger.draw({"optim.lr": 1e-4}).trial == "001"
    assert Ledger(path).entries["001"].point == {"optim.lr": 1e-4}


def test_a_storage_that_refuses_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").mkdir()
    with pytest.raises(RunError, match="cannot be used: Is a directory"):
        Ledger(tmp_path / "trials.jsonl").draw({})


def test_a_budget_only_grows(tiny_config: RunConfig, tmp_path: Path) -> None:
    space = {"optim.lr": {"loguniform": [1e-5, 1e-2]}}
    config = apply_settings(tiny_config, {"sweep": {"space": space, "trials": 4, "hours": 1}})
    ledger = Ledger(tmp_path / "trials.jsonl")
    more = with_budget(config, ledger, {"trials": 2})
    assert more.sweep is not None and (more.sweep.trials, more.sweep.hours) == (6, 1)
    kept = with_budget(config, Ledger(tmp_path / "trials.jsonl"), {})
    assert kept.sweep is not None and kept.sweep.trials == 6
    larger = with_budget(apply_settings(config, {"sweep.trials": 9}), ledger, {})
    assert larger.sweep is not None and larger.sweep.trials == 9
    with pytest.raises(RunError, match="no limit of samples"):
        with_budget(config, ledger, {"samples": 100})
    population = apply_settings(tiny_config, {"sweep": {"space": space, "trials": 4, "scheduler": "pbt"}})
    with pytest.raises(RunError, match="a population cannot get larger"):
        with_budget(population, ledger, {"trials": 1})
