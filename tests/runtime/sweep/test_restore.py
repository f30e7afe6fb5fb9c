"""Sweeps whose driver, head or node is killed end as if nothing had happened, with nothing done twice."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.journal import read_journal
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.sweep.ledger import Ledger, TrialState
from orchestrator.tracking import child_runs, find_run, resolve_uri
from tests.runtime.nodes import ENVIRONMENT, Nodes
from tests.runtime.processes import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TRIALS, STEPS, EVERY = 3, 140, 20


@pytest.fixture
def config(swept: RunConfig) -> RunConfig:
    """Trials that take seconds each, two at a time."""
    space = {"optim.lr": {"loguniform": [1e-4, 1e-2]}, "optim.weight_decay": {"choice": [0.0, 0.1]}}
    settings: dict[str, Any] = {"train.steps": STEPS, "eval.every": EVERY, "checkpoint.every": EVERY}
    return apply_settings(swept, {**settings, "sweep": {"space": space, "trials": TRIALS, "max_concurrent": 2}})


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    """Drivers that do not outlive the test."""
    started: list[Driver] = []
    yield started
    for driver in started:
        driver.dispose()


def begin(drivers: list[Driver], config: RunConfig, name: str, **options: Any) -> Driver:
    drivers.append(Driver(config, name, command="sweep", warm="env" not in options, **options))
    return drivers[-1]


def steps_taken(paths: RunPaths) -> int:
    """Steps in all journals of a sweep's trials, those that were repeated counted again."""
    return sum(_last_steps(journal) for journal in paths.folder.glob("trials/*/journal.jsonl"))


def _last_steps(journal: Path) -> int:
    """Of every start of a trial the steps that it took."""
    total, first, last = 0, 0, 0
    for row, _ in read_journal(journal, 0):
        if "start" in row.get("facts", {}):
            total, first = total + last - first, row["facts"]["start"]["step"]
            last = first
        last = max(last, int(row.get("figures", {}).get("step", last)))
    return total + last - first


def reached(paths: RunPaths) -> int:
    """The sum of all trials' latest steps."""
    journals = [read_journal(journal, 0) for journal in paths.folder.glob("trials/*/journal.jsonl")]
    return sum(max((int(row.get("figures", {}).get("step", 0)) for row, _ in rows), default=0) for rows in journals)


def curves(paths: RunPaths) -> dict[str, list[tuple[int, float]]]:
    """The validations of every trial, whatever they were interrupted by."""
    found = {}
    for journal in sorted(paths.folder.glob("trials/*/journal.jsonl")):
        rows = [row["figures"] for row, _ in read_journal(journal, 0) if "val/loss" in row.get("figures", {})]
        found[journal.parent.name] = sorted({(int(row["step"]), row["val/loss"]) for row in rows})
    return found


def test_a_driver_that_is_killed_three_times_changes_nothing(config: RunConfig, drivers: list[Driver]) -> None:
    begin(drivers, config, "calm").finish()
    calm, paths, chance = RunPaths.of(config.storage, "calm"), RunPaths.of(config.storage, "killed"), random.Random(3)
    for _ in range(3):
        wanted = steps_taken(paths) + chance.randint(30, 120)
        driver = begin(drivers, config, "killed")
        driver.until(lambda: steps_taken(paths) >= wanted, "some steps")  # noqa: B023
        driver.kill()
    _stop_and_continue(config, drivers, paths)
    assert curves(paths) == curves(calm), "the same trials, with the same figures, bit for bit"
    ledgers = [Ledger(place.ledger).entries for place in (calm, paths)]
    assert ledgers[0] == ledgers[1] and {entry.state for entry in ledgers[1].values()} == {TrialState.FINISHED}
    # each of two running trials may lose what came after its latest checkpoint, three times
    assert steps_taken(paths) <= TRIALS * STEPS + 3 * 2 * EVERY
    _check_records(config, "killed")


def _stop_and_continue(config: RunConfig, drivers: list[Driver], paths: RunPaths) -> None:
    """Asked to stop instead of killed, trials save and lose nothing."""
    driver = begin(drivers, config, "killed")
    said = f"of {TRIALS + 1} trials have ended; give the same command again"
    driver.until(lambda: "LEARNING" in driver.said or "AT_CHANCE" in driver.said, "a trial to run")
    (paths.folder / "stop").write_text("stop\n")
    assert driver.wait() == 130 and said in driver.said, driver.said
    assert json.loads(paths.status.read_text())["state"] == "stopped"
    before = steps_taken(paths)
    begin(drivers, config, "killed").finish()
    assert reached(paths) == TRIALS * STEPS and before < steps_taken(paths)


def _check_records(config: RunConfig, name: str) -> None:
    uri = resolve_uri(config.tracking.uri, config.storage, {})
    parent = find_run(uri, config.tracking.experiment, name)
    assert parent is not None and parent.status == "FINISHED"
    children = child_runs(uri, config.tracking.experiment, parent.run_id)
    assert Counter(child.tags["trial"] for child in children) == Counter(f"{n:03d}" for n in range(TRIALS + 1))
    assert {child.status for child in children} == {"FINISHED"}
    for child in children:
        steps = Counter(step for step, _ in _points(uri, child.run_id))
        assert set(steps.values()) == {1}, f"a step of {child.name} is logged twice"
        if child.tags["kind"] == "trial":
            assert max(steps) == STEPS


def _points(uri: str, run_id: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    history = MlflowClient(uri).get_metric_history(run_id, "val/loss")
    return [(point.step, point.value) for point in history]


def test_a_node_that_is_lost_with_two_trials_is_replaced(config: RunConfig, drivers: list[Driver]) -> None:
    nodes = Nodes()
    try:
        lost = nodes.add(cpus=2)
        driver = begin(drivers, config, "moved", env={"RAY_ADDRESS": nodes.address, **ENVIRONMENT})
        paths = RunPaths.of(config.storage, "moved")
        driver.until(lambda: len([curve for curve in curves(paths).values() if len(curve) > 2]) >= 2, "two trials")
        nodes.add(cpus=2)
        began = time.monotonic()
        nodes.kill(lost)
        driver.finish()
        print(f"measured: {time.monotonic() - began:.1f} s from the loss to the end")
    finally:
        nodes.close()
    assert {entry.state for entry in Ledger(paths.ledger).entries.values()} == {TrialState.FINISHED}
    assert all(curve[-1][0] in (0, STEPS) for curve in curves(paths).values())
    assert "is tried again: its process died" in driver.said
    _check_records(config, "moved")
