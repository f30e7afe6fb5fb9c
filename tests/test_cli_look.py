"""`status` and `doctor` as a person and a program see them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths, write_json

VERDICT = {"state": "AT_CHANCE", "why": "the gap is 0.001 [0.000, 0.002]", "causes": ["an offset in the data"]}


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """A run half-way, as its recorder leaves it."""
    paths = RunPaths(tmp_path, "one")
    metrics = {"train/loss": 0.69, "train/accuracy": 0.5, "val/auc": 0.51, "best/value": 0.5, "best/step": 20}
    write(paths, state="running", step=40, total_steps=80, steps_per_s=2.0, metrics=metrics, verdict=VERDICT)
    (paths.folder / "step-000000040").mkdir()
    config = {"storage": str(tmp_path), "tracking": {"uri": None}, "train": {"log_every": 10}}
    write_json(paths.identity, {"config": config})
    return paths


def write(paths: RunPaths, **content: Any) -> None:
    write_json(paths.status, {"name": paths.name, "updated": time.time(), "run_id": "0123", "restarts": 1, **content})


def test_a_card_tells_everything_of_one_run(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    with driving(run):
        assert main(["status", "one", "--storage", str(run.storage)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "state running",
        "40 of 80 steps (50.0%)",
        "ETA 0:00:20",
        "best 0.5000 at step 20",
        "verdict AT_CHANCE: the gap is 0.001 [0.000, 0.002]",
        "likely cause 1 an offset in the data",
        "last checkpoint step 40",
        "restarts 1",
        "MLflow run 0123",
        "mlflow ui --backend-store-uri",
    ):
        assert part in shown


def test_a_card_says_what_to_do_about_an_end(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "one", "--storage", str(run.storage)]) == 0
    assert "interrupted: give its command again" in " ".join(capsys.readouterr().out.split())
    write(run, state="failed", step=40, total_steps=80, error="the loss is [nan]")
    assert main(["status", "one", "--storage", str(run.storage)]) == 0
    assert "error the loss is [nan]" in " ".join(capsys.readouterr().out.split())
    ended = {"why": "10 validations at chance", "state": "stopped early"}
    write(run, state="stopped early", step=40, total_steps=80, ended=ended)
    assert main(["status", "one", "--storage", str(run.storage)]) == 0
    assert "ended 10 validations at chance" in " ".join(capsys.readouterr().out.split())


def test_programs_read_json(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    (run.storage / "bad").mkdir()
    (run.storage / "bad" / "status.json").write_text('{"name": "ba')
    assert main(["status", "--storage", str(run.storage), "--json"]) == 0
    bad, one = json.loads(capsys.readouterr().out)
    assert (bad["state"], one["state"], one["step"]) == ("damaged", "interrupted", 40)
    assert main(["status", "one", "--storage", str(run.storage), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    ages = {"age_s", "checkpoint_age_s"}
    assert {key: again[key] for key in again.keys() - ages} == {key: one[key] for key in one.keys() - ages}


def test_a_table_of_all_runs_survives_a_damaged_one(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    (run.storage / "bad").mkdir()
    (run.storage / "bad" / "status.json").write_text('{"name": "ba')
    assert main(["status", "--storage", str(run.storage)]) == 0
    shown = capsys.readouterr().out
    assert "damaged" in shown and "40/80" in shown and "0123" in shown


def test_watching_ends_with_the_run(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = []

    def wait(_: float) -> None:
        looks.append(1)
        write(run, state="finished", step=80, total_steps=80)

    monkeypatch.setattr("orchestrator.cli.look.time.sleep", wait)
    with driving(run):
        assert main(["status", "one", "--storage", str(run.storage), "--watch"]) == 0
    assert len(looks) == 1 and "80 of 80 steps" in " ".join(capsys.readouterr().out.split())
    assert main(["status", "--storage", str(run.storage), "--watch", "--json"]) == 2


def test_doctor_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--storage", str(tmp_path), "--data", str(tmp_path / "none"), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in findings if not finding["ok"]] == ["data"]
