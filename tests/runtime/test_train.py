"""`train` in this process: one MLflow run per name, continued and never doubled; other settings refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

import orchestrator
from orchestrator.checkpoint import export, is_complete, read_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.data.corpus.scores import read_scores
from orchestrator.errors import CheckpointError, ConfigError, DataError, RunError, TrackingError
from orchestrator.runtime import execute
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths, read_json, storage_folder, write_json
from orchestrator.runtime.progress import look_at
from orchestrator.runtime.status import RunState, read_statuses
from orchestrator.runtime.train import TrainResult, train
from orchestrator.tracking import find_run, read_history


@pytest.fixture(scope="module")
def finished(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, TrainResult]:
    """One finished run that several tests look at."""
    from tests.conftest import TINY_MODEL

    config = orchestrator.load_config(
        {
            "model": TINY_MODEL,
            "data": {"path": str(tiny_corpus)},
            "optim": {"lr": 1e-3},
            "train": {"steps": 6, "global_batch": 8, "micro_batch": 8, "log_every": 2},
            "eval": {"every": 3, "pairs": 16},
            "checkpoint": {"every": 3},
            "scale": {"num_workers": 0, "use_gpu": False},
            "storage": str(tmp_path_factory.mktemp("finished")),
        }
    )
    return config, train(config, "one")


def test_a_run_leaves_a_complete_record(finished: tuple[RunConfig, TrainResult]) -> None:
    config, result = finished
    assert (result.step, result.start["verb"]) == (6, "scratch")
    assert is_complete(result.best_checkpoint)
    record = find_run(result.tracking_uri, config.tracking.experiment, "one")
    assert record is not None and record.run_id == result.run_id
    assert record.status == "FINISHED"
    assert record.params["optim.lr"] == "0.001"
    assert record.tags["start.verb"] == "scratch"
    assert len(record.tags["pairs_hash"]) == 64
    history = read_history(result.tracking_uri, result.run_id, ["train/loss", "val/accuracy"])
    assert [row["step"] for row in history if "val/accuracy" in row] == [0, 3, 6]
    assert [row["step"] for row in history if "train/loss" in row] == [2, 3, 4, 6]
    assert result.baseline == history[0]["val/accuracy"]


def test_charts_and_best_weights_are_in_mlflow(finished: tuple[RunConfig, TrainResult], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    config, result = finished
    client = MlflowClient(tracking_uri=result.tracking_uri)
    chart = Path(client.download_artifacts(result.run_id, "charts/loss.png", str(tmp_path)))
    assert chart.read_bytes().startswith(b"\x89PNG")
    weights = client.download_artifacts(result.run_id, "model/best_weights.safetensors", str(tmp_path))
    exported, kept = (
        orchestrator.load_model(weights, model_config=config.model),
        orchestrator.load_model(result.best_checkpoint),
    )
    for a, b in zip(exported.parameters(), kept.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_validation_pairs_are_kept(finished: tuple[RunConfig, TrainResult], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    config, result = finished
    kept = result.folder / "pairs" / "val.parquet"
    client = MlflowClient(tracking_uri=result.tracking_uri)
    logged = Path(client.download_artifacts(result.run_id, "pairs/val.parquet", str(tmp_path)))
    assert logged.read_bytes() == kept.read_bytes()
    report = orchestrator.evaluate(result.best_checkpoint, config.data.path, pair_list=kept)
    assert (report.pairs, report.metrics["accuracy"]) == (16, result.best)
    record = find_run(result.tracking_uri, config.tracking.experiment, "one")
    assert record is not None and record.tags["pairs_hash"] == report.pairs_hash
    scores = read_scores(RunPaths.of(config.storage, "one").scores)
    assert (scores.step, scores.pairs_hash) == (result.best_step, report.pairs_hash)
    assert ((scores.cosines > 0.5) == scores.labels).mean() == result.best


def test_the_same_command_again_repeats_nothing(finished: tuple[RunConfig, TrainResult]) -> None:
    config, result = finished
    before = {path: path.stat().st_mtime_ns for path in result.folder.rglob("*") if path.is_file()}
    again = train(config, "one")
    assert again == result
    assert {path: path.stat().st_mtime_ns for path in result.folder.rglob("*") if path.is_file()} == before


def test_status_shows_it(finished: tuple[RunConfig, TrainResult]) -> None:
    config, result = finished
    (status,) = read_statuses(config.storage, "one")
    assert (status.name, status.state, status.step, status.total_steps) == ("one", RunState.FINISHED, 6, 6)
    assert (status.run_id, status.checkpoint, status.best) == (result.run_id, 6, (result.best, result.best_step))
    assert look_at(result.folder) is not None
    with pytest.raises(RunError, match="there is no run 'two'"):
        read_statuses(config.storage, "two")


def test_a_longer_run_under_the_same_name_is_another_run(finished: tuple[RunConfig, TrainResult]) -> None:
    config, _ = finished
    with pytest.raises(RunError, match=r"exists with other settings: `optim\.lr` was 0\.001 and is 0\.5"):
        train(apply_settings(config, {"optim.lr": 0.5}), "one")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.negatives.near", 1.0),
        ("data.near_shift", (4, 8)),
        ("data.min_speech", 0.1),
        ("data.augment.flip", 0.5),
    ],
)
def test_other_data_under_the_same_name_is_another_run(
    finished: tuple[RunConfig, TrainResult], setting: str, value: object
) -> None:
    with pytest.raises(RunError, match=f"exists with other settings: `{setting}` was"):
        train(apply_settings(finished[0], {setting: value}), "one")


def test_where_it_runs_may_change(finished: tuple[RunConfig, TrainResult], tmp_path: Path) -> None:
    config, result = finished
    elsewhere = {"data.loader_threads": 0, "data.cache": str(tmp_path), "scale.max_failures": 7}
    assert train(apply_settings(config, elsewhere), "one") == result


def test_a_crash_is_recorded_and_continued_without_double_steps(
    tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: object, **options: object) -> None:
        def burn(metrics: object) -> None:
            if metrics["step"] >= 8:  # type: ignore[index]
                raise RunError("the power is gone")

        real(job, on_report=burn, **options)  # type: ignore[arg-type]

    real = execute.loop_here
    monkeypatch.setattr(execute, "loop_here", interrupted)
    with pytest.raises(RunError, match="the power is gone"):
        train(tiny_config, "crash")
    paths = RunPaths.of(tiny_config.storage, "crash")
    status = read_json(paths.status)
    assert status is not None and status["state"] == "failed" and "the power is gone" in status["error"]
    uri = f"sqlite:///{paths.storage}/mlflow.db"
    record = find_run(uri, "syncnet", "crash")
    assert record is not None and record.status == "FAILED"

    monkeypatch.setattr(execute, "loop_here", real)
    result = train(tiny_config, "crash")
    assert result.step == 12 and result.run_id == record.run_id
    again = find_run(uri, "syncnet", "crash")
    assert again is not None and (again.status, again.tags["restarts"], again.tags["start.verb"]) == (
        "FINISHED",
        "1",
        "scratch",
    )
    steps = [row["step"] for row in read_history(uri, result.run_id, ["train/loss"])]
    assert steps == [3, 6, 9, 12]


def test_a_stopped_run_is_marked_killed(tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise SystemExit(15)

    monkeypatch.setattr(execute, "run_here", stopped)
    with pytest.raises(SystemExit):
        train(tiny_config, "stopped")
    record = find_run(f"sqlite:///{tiny_config.storage}/mlflow.db", "syncnet", "stopped")
    assert record is not None and record.status == "KILLED"
    assert (read_json(RunPaths.of(tiny_config.storage, "stopped").status) or {})["state"] == "stopped"


def test_a_tracking_server_that_is_not_there_fails_the_run_at_once(tiny_config: RunConfig) -> None:
    config = apply_settings(tiny_config, {"tracking.uri": "http://127.0.0.1:9"})
    with pytest.raises(TrackingError, match="does not answer"):
        train(config, "untracked")
    paths = RunPaths.of(config.storage, "untracked")
    status = read_json(paths.status) or {}
    assert status["state"] == "failed" and "does not answer" in status["error"] and not paths.journal.exists()


def test_weights_only_files_start_a_run(
    finished: tuple[RunConfig, TrainResult], tiny_config: RunConfig, tmp_path: Path
) -> None:
    file = tmp_path / "weights_only.pt"
    export(finished[1].best_checkpoint, "latentsync", file)
    assert set(torch.load(file, weights_only=True)) == {"state_dict"}
    result = train(apply_settings(tiny_config, {"start.checkpoint": str(file)}), "from-file")
    assert (result.start["verb"], result.start["step"], result.start["optimizer"]) == ("init", 0, "fresh")
    assert result.baseline is not None
    record = find_run(result.tracking_uri, "syncnet", "from-file")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record is not None and record.tags["start.sha256"] == digest
    kept = read_state(result.best_checkpoint).provenance
    assert kept is not None and kept.sha256 == digest


def test_another_runs_checkpoint_starts_a_run(finished: tuple[RunConfig, TrainResult]) -> None:
    config, source = finished
    last = source.folder / "step-000000006"
    for verb, optimizer in (("resume", "restored"), ("fork", "fresh")):
        settings = {"start.checkpoint": str(last), "start.verb": verb, "train.steps": 9}
        result = train(apply_settings(config, settings), f"{verb}-of-one")
        assert (result.start["verb"], result.start["step"], result.start["optimizer"]) == (verb, 6, optimizer)
        assert result.step == 9 and is_complete(result.best_checkpoint) and result.baseline is None


def test_a_missing_explicit_resume_is_an_error(tiny_config: RunConfig) -> None:
    config = apply_settings(tiny_config, {"start.checkpoint": "nowhere.pt", "start.verb": "resume"})
    with pytest.raises(CheckpointError, match=r"nowhere\.pt"):
        train(config, "lost")
    assert not RunPaths.of(config.storage, "lost").folder.exists()


def test_what_is_missing_is_named_before_anything_starts(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`data\.path` is required"):
        train(apply_settings(tiny_config, {"data.path": None}), "x")
    with pytest.raises(DataError):
        train(apply_settings(tiny_config, {"data.path": str(tmp_path)}), "x")
    with pytest.raises(ConfigError, match="name must be letters"):
        train(tiny_config, "../x")


def test_a_run_has_one_driver_at_a_time(tiny_config: RunConfig) -> None:
    paths = RunPaths.of(tiny_config.storage, "busy")
    write_json(paths.status, {"name": "busy", "state": "running", "step": 0, "total_steps": 9})
    assert read_statuses(tiny_config.storage, "busy")[0].state is RunState.INTERRUPTED
    with driving(paths), pytest.raises(RunError, match="another process is driving"):
        assert read_statuses(tiny_config.storage, "busy")[0].state is RunState.RUNNING
        train(tiny_config, "busy")
    assert train(apply_settings(tiny_config, {"train.steps": 2}), "idle").step == 2


def test_storage_must_outlive_a_job() -> None:
    inside = Path("/tmp/ray/session/runtime_resources/working_dir_files/pkg")
    with pytest.raises(ConfigError, match="temporary copy"):
        storage_folder("runs", inside)
    assert storage_folder("/shared/runs", inside) == Path("/shared/runs")
    assert storage_folder("s3://bucket/runs", inside) is None


def test_small_files_are_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "status.json"
    write_json(file, {"a": 1})
    write_json(file, {"a": 2})
    assert read_json(file) == {"a": 2} and [path.name for path in file.parent.iterdir()] == ["status.json"]
    file.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_json(file)
    file.write_text(json.dumps([1]))
    with pytest.raises(RunError, match="must hold a mapping"):
        read_json(file)
