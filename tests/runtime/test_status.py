"""How runs stand, from what lies in their folders, and when a log says so."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RunError
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths, write_json
from orchestrator.runtime.progress import Cadence, look
from orchestrator.runtime.status import RunState, RunStatus, read_status, read_statuses, state_of, tracking_hint

NOW = 1_000_000.0


def write_run(storage: Path, name: str, **changes: Any) -> RunPaths:
    paths = RunPaths(storage, name)
    content = {"name": name, "state": "running", "step": 40, "total_steps": 100, "updated": NOW - 5, "steps_per_s": 2.0}
    write_json(paths.status, content | changes)
    return paths


@pytest.mark.parametrize(
    ("recorded", "driven", "age_s", "expected"),
    [
        ("running", True, 5, RunState.RUNNING),
        ("running", True, 601, RunState.STALLED),
        ("running", False, 5, RunState.INTERRUPTED),
        ("finished", False, 1e6, RunState.FINISHED),
        ("failed", True, 1e6, RunState.FAILED),
        ("stopped early", False, 5, RunState.STOPPED_EARLY),
    ],
)
def test_what_a_recorded_state_means_now(recorded: str, driven: bool, age_s: float, expected: RunState) -> None:
    assert state_of(recorded, driven, age_s) is expected


def test_a_running_run(tmp_path: Path) -> None:
    verdict = {"state": "AT_CHANCE", "why": "the gap is 0.001", "causes": ["an offset in the data"]}
    metrics = {"train/loss": 0.7, "train/accuracy": 0.51, "best/value": 0.5, "best/step": 20, "train/data_wait": 0.02}
    paths = write_run(tmp_path, "a", metrics=metrics, verdict=verdict, restarts=2)
    for step in (20, 40):
        (paths.folder / f"step-{step:09d}").mkdir()
    (paths.folder / ".step-000000060.partial").mkdir()
    with driving(paths):
        status = read_status(paths.folder, clock=lambda: NOW)
    assert (status.state, status.eta, status.age_s) == (RunState.RUNNING, timedelta(seconds=30), 5)
    assert (status.best, status.checkpoint, status.restarts) == ((0.5, 20), 40, 2)
    text = look(status).text
    for part in ("ETA 0:00:30", "loss 0.7000", "accuracy 51.0%", "data wait 2%", "restarts 2", "checkpoint 40"):
        assert part in text
    assert "[yellow]AT_CHANCE[/]" in text
    raw = json.loads(json.dumps(status.to_dict()))
    assert (raw["eta_s"], raw["verdict"], raw["best"]) == (30.0, verdict, {"value": 0.5, "at": 20})


def test_a_slow_run_is_silent_for_longer_before_it_counts_as_stalled(tmp_path: Path) -> None:
    paths = write_run(tmp_path, "slow", steps_per_s=0.01, updated=NOW - 1000)
    write_json(paths.identity, {"config": {"train": {"log_every": 10}}})
    with driving(paths):
        assert read_status(paths.folder, clock=lambda: NOW).state is RunState.RUNNING
        assert read_status(paths.folder, clock=lambda: NOW + 5000).state is RunState.STALLED


def test_an_older_error_is_not_told_of_a_run_that_goes_on(tmp_path: Path) -> None:
    failed = write_run(tmp_path, "a", state="failed", error="out of memory", ended={"why": "older"})
    assert read_status(failed.folder).error == "out of memory"
    going = write_run(tmp_path, "b", error="out of memory", ended={"why": "older"})
    with driving(going):
        status = read_status(going.folder, clock=lambda: NOW)
    assert (status.error, status.ended) == ("", {})


@pytest.mark.parametrize(
    "content", [b"", b'{"name": "x", "sta', b"[1]", b'{"name": "x"}', b"\xff\xfe", b'{"name": "x", "total_steps": "?"}']
)
def test_a_damaged_status_is_one_row_among_others(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path, "good", state="finished", step=100)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "status.json").write_bytes(content)
    bad, good = read_statuses(str(tmp_path))
    assert (bad.name, bad.state, good.state) == ("bad", RunState.DAMAGED, RunState.FINISHED)
    assert "status.json" in bad.error


def test_a_sweep_knows_its_trials(tmp_path: Path) -> None:
    paths = write_run(tmp_path, "s", trials=4, metric="val/loss")
    for trial, value, state in (("t1", 0.6, "finished"), ("t2", 0.5, "stopped early"), ("t3", 0.7, "running")):
        write_run(paths.folder / "trials", trial, state=state, metrics={"best/value": value, "best/step": 3})
    with driving(paths):
        status = read_status(paths.folder, clock=lambda: NOW)
    assert (status.step, status.total_steps, status.best) == (2, 4, (0.5, "t2"))
    assert [trial.state for trial in status.trials] == ["finished", "stopped early", "running"]
    assert "running t3 40/100" in look(status).text and len(status.to_dict()["trials"]) == 3


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    assert read_statuses(str(tmp_path)) == []
    with pytest.raises(RunError, match="there is no run 'x'"):
        read_statuses(str(tmp_path), "x")


def test_how_to_open_the_record(tmp_path: Path) -> None:
    config = {"storage": str(tmp_path), "tracking": {"uri": "http://me:secret@server:5000"}}
    write_json(tmp_path / "a" / "run.json", {"config": config})
    assert "server:5000" in tracking_hint(tmp_path / "a") and "secret" not in tracking_hint(tmp_path / "a")
    assert tracking_hint(tmp_path / "none") == ""


def test_figures_that_are_no_numbers_are_null_in_json(tmp_path: Path) -> None:
    status = RunStatus("a", RunState.FAILED, tmp_path, metrics={"train/loss": float("nan"), "train/lr": 1.0})
    assert status.to_dict()["metrics"] == {"train/loss": None, "train/lr": 1.0}


def test_lines_come_soon_then_rarely_and_at_once_when_something_changes() -> None:
    cadence = Cadence(first_s=5, most_s=60)
    asked = {now: cadence.due(now, ("running",)) for now in range(200)}
    assert [now for now, due in asked.items() if due] == [5, 15, 35, 75, 135, 195]
    assert cadence.due(200, ("running", "restarted"))
    assert not cadence.due(201, ("running", "restarted"))
