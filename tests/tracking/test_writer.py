"""One MLflow run per key, whatever happens to the process that writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.charts import loss_chart
from orchestrator.errors import TrackingError
from orchestrator.tracking import RunWriter, child_runs, find_run, read_history


def stored(uri: str, writer: RunWriter) -> Run:
    return MlflowClient(tracking_uri=uri).get_run(writer.run_id)


def steps(uri: str, writer: RunWriter, metric: str) -> list[int]:
    return [point.step for point in MlflowClient(tracking_uri=uri).get_metric_history(writer.run_id, metric)]


def test_a_run_that_crashed_goes_on_without_a_second_run_or_a_step_twice(uri: str, experiment: str) -> None:
    first = RunWriter.start(uri, experiment, "run", "key")
    for step in range(7):
        first.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
    first.log_metrics({"val/accuracy": 0.5}, 0)

    # The process died after step 6; its last checkpoint is from step 4.
    second = RunWriter.start(uri, experiment, "run", "key")
    for step in range(5, 10):
        second.log_metrics({"train/loss": 9.0, "train/grad_norm": 1.0}, step)
    second.log_metrics({"val/accuracy": 0.6}, 5)

    assert (first.continued, second.continued) == (False, True)
    assert second.run_id == first.run_id
    assert steps(uri, second, "train/loss") == list(range(10))
    assert steps(uri, second, "train/grad_norm") == list(range(5, 10))
    assert steps(uri, second, "val/accuracy") == [0, 5]
    rows = read_history(uri, second.run_id, ["train/loss", "val/accuracy"])
    assert rows[6] == {"step": 6, "train/loss": pytest.approx(1 / 7)}
    assert rows[5] == {"step": 5, "train/loss": pytest.approx(1 / 6), "val/accuracy": 0.6}


def test_how_things_stand_is_recorded_whenever_it_changes(uri: str, experiment: str) -> None:
    first = RunWriter.start(uri, experiment, "sweep", "key")
    first.log_standing({"trials/finished": 1, "trials/failed": 0}, 100)
    first.log_standing({"trials/finished": 2, "trials/failed": 0}, 100)
    second = RunWriter.start(uri, experiment, "sweep", "key")
    second.log_standing({"trials/finished": 2, "trials/failed": 0}, 100)
    second.log_standing({"trials/finished": 2, "trials/failed": 0}, 130)
    second.log_standing({"trials/finished": 1, "trials/failed": 1}, 90)
    second.log_standing({"trials/finished": 3, "trials/failed": 0}, 150)
    history = MlflowClient(tracking_uri=uri).get_metric_history(second.run_id, "trials/finished")
    assert [(point.step, point.value) for point in history] == [(100, 1), (101, 2), (102, 1), (150, 3)]
    assert stored(uri, second).data.metrics == {"trials/finished": 3, "trials/failed": 0}


def test_a_finished_run_is_running_again_when_continued(uri: str, experiment: str) -> None:
    with RunWriter.start(uri, experiment, "run", "key") as writer:
        assert stored(uri, writer).info.status == "RUNNING"
    assert stored(uri, writer).info.status == "FINISHED"
    again = RunWriter.start(uri, experiment, "run", "key", tags={"start": "resume"})
    assert stored(uri, again).info.status == "RUNNING"
    assert stored(uri, again).data.tags["start"] == "resume"


def test_other_keys_and_other_experiments_are_other_runs(uri: str, experiment: str) -> None:
    writers = [RunWriter.start(uri, experiment, "run", "a"), RunWriter.start(uri, experiment, "run", "b")]
    writers.append(RunWriter.start(uri, f"{experiment}-other", "run", "a"))
    assert len({writer.run_id for writer in writers}) == 3


def test_how_a_run_ended(uri: str, experiment: str) -> None:
    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "FAILED")):
        with pytest.raises(error), RunWriter.start(uri, experiment, "run", error.__name__) as writer:
            raise error
        assert stored(uri, writer).info.status == status
    with RunWriter.start(uri, experiment, "run", "explicit") as writer:
        writer.finish("KILLED")
    assert stored(uri, writer).info.status == "KILLED"


def test_same_params_are_skipped_and_changed_ones_become_tags(uri: str, experiment: str) -> None:
    RunWriter.start(uri, experiment, "run", "key").log_params({"optim": {"lr": 1e-5, "eps": 1e-8}})
    writer = RunWriter.start(uri, experiment, "run", "key")
    writer.log_params({"optim": {"lr": 1e-4, "eps": 1e-8, "betas": [0.9, 0.99]}})
    data = stored(uri, writer).data
    assert data.params == {"optim.lr": "1e-05", "optim.eps": "1e-08", "optim.betas": "[0.9, 0.99]"}
    assert {k: v for k, v in data.tags.items() if k.startswith("changed.")} == {"changed.optim.lr": "0.0001"}

    RunWriter.start(uri, experiment, "run", "key").log_params({"optim": {"lr": 1e-5}})
    assert "changed.optim.lr" not in stored(uri, writer).data.tags


def test_many_params_and_metrics_at_once(uri: str, experiment: str) -> None:
    writer = RunWriter.start(uri, experiment, "run", "key")
    writer.log_params({f"p{i}": i for i in range(250)})
    writer.log_metrics({f"m{i}": i for i in range(1100)}, 0)
    data = stored(uri, writer).data
    assert (len(data.params), len(data.metrics)) == (250, 1100)


def test_no_secret_reaches_the_store(uri: str, experiment: str) -> None:
    writer = RunWriter.start(uri, experiment, "run", "key", tags={"data": "s3://u:hunter2@h/x"})
    writer.log_params({"s3": {"secret": "hunter2"}, "uri": "http://u:hunter2@h"})
    writer.set_tags({"api_token": "hunter2", "plain": 1})
    writer.log_dict({"password": "hunter2", "lr": 1}, "config.json")
    writer.log_text("see http://u:hunter2@h/x", "note.txt")
    run = stored(uri, writer)
    client = MlflowClient(tracking_uri=uri)
    files = [Path(client.download_artifacts(writer.run_id, name)).read_text() for name in ("config.json", "note.txt")]
    assert "hunter2" not in f"{run.data.params}{run.data.tags}{files}"
    assert run.data.tags["plain"] == "1"
    assert json.loads(files[0])["lr"] == 1


def test_values_that_are_no_numbers_are_counted_and_left_out(uri: str, experiment: str) -> None:
    writer = RunWriter.start(uri, experiment, "run", "key")
    for step, value in enumerate([1.0, math.nan, math.inf, 2.0]):
        writer.log_metrics({"train/loss": value}, step)
    again = RunWriter.start(uri, experiment, "run", "key")
    for step, value in enumerate([math.nan] * 6):
        again.log_metrics({"train/loss": value}, step)
    assert steps(uri, again, "train/loss") == [0, 3]
    counted = json.loads(stored(uri, again).data.tags["nonfinite.train/loss"])
    assert counted == {"count": 4, "first_step": 1, "last_step": 5}


def test_runs_nest(uri: str, experiment: str) -> None:
    sweep = RunWriter.start(uri, experiment, "sweep", "sweep")
    trials = [RunWriter.start(uri, experiment, f"trial {i}", f"sweep/{i}", sweep.run_id) for i in range(2)]
    assert [run.run_id for run in child_runs(uri, experiment, sweep.run_id)] == [trial.run_id for trial in trials]
    found = find_run(uri, experiment, "sweep/1")
    assert found is not None
    assert (found.name, found.status, found.parent_run_id) == ("trial 1", "RUNNING", sweep.run_id)
    assert stored(uri, trials[0]).data.tags["mlflow.parentRunId"] == sweep.run_id
    assert find_run(uri, experiment, "sweep/2") is None
    assert find_run(uri, "no such experiment", "sweep") is None


def test_files_and_charts(uri: str, experiment: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    writer = RunWriter.start(uri, experiment, "run", "key")
    writer.log_file(tmp_path / "model", "model")
    writer.log_file(tmp_path / "model" / "weights", "single")
    writer.log_figure(loss_chart([{"step": 0, "val/loss": 0.7}]), "charts/loss.png")
    client = MlflowClient(tracking_uri=uri)
    names = [f.path for folder in ("model", "single", "charts") for f in client.list_artifacts(writer.run_id, folder)]
    assert names == ["model/weights", "single/weights", "charts/loss.png"]
    assert "my%20runs/mlartifacts" in stored(uri, writer).info.artifact_uri


def test_a_key_that_cannot_be_searched_for_is_refused(uri: str, experiment: str) -> None:
    with pytest.raises(TrackingError, match="quotes"):
        RunWriter.start(uri, experiment, "run", "o'clock")


def test_the_clock_is_a_parameter(uri: str, experiment: str) -> None:
    with RunWriter.start(uri, experiment, "run", "key", clock=lambda: 1_700_000_000.5) as writer:
        writer.log_metrics({"x": 1}, 0)
    run = stored(uri, writer)
    point = MlflowClient(tracking_uri=uri).get_metric_history(writer.run_id, "x")[0]
    assert point.timestamp == run.info.end_time == 1_700_000_000_500
