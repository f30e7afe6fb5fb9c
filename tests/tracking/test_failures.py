"""Crashed drivers, missing servers, deleted experiments, and two processes that create a store at once."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.errors import TrackingError
from orchestrator.tracking import RunWriter, close_stale, find_run
from orchestrator.tracking.process import process_is_alive, this_process

START_AND_DIE = """
import os, sys
from orchestrator.tracking import RunWriter
writer = RunWriter.start(sys.argv[1], sys.argv[2], "run", sys.argv[3])
writer.log_metrics({"x": 1}, 0)
os._exit(9)
"""


def start_and_die(uri: str, experiment: str, key: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", START_AND_DIE, uri, experiment, key])


def test_the_run_of_a_dead_driver_is_closed_and_goes_on_when_started_again(uri: str, experiment: str) -> None:
    alive = RunWriter.start(uri, experiment, "run", "alive")
    assert start_and_die(uri, experiment, "dead").wait(60) == 9
    dead = find_run(uri, experiment, "dead")
    assert dead is not None
    assert dead.status == "RUNNING"

    assert close_stale(uri, experiment) == [dead.run_id]
    assert close_stale(uri, experiment) == []
    client = MlflowClient(tracking_uri=uri)
    assert client.get_run(dead.run_id).info.status == "FAILED"
    assert client.get_run(alive.run_id).info.status == "RUNNING"

    again = RunWriter.start(uri, experiment, "run", "dead")
    assert again.run_id == dead.run_id
    assert close_stale(uri, experiment) == []


def test_only_what_is_surely_dead_is_closed(uri: str, experiment: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    sweep = RunWriter.start(uri, experiment, "sweep", "sweep")
    here, there = (RunWriter.start(uri, experiment, "trial", key, sweep.run_id) for key in ("here", "there"))
    elsewhere = RunWriter.start(uri, experiment, "run", "elsewhere")
    foreign = client.create_run(sweep.experiment_id)
    for writer in (there, elsewhere):
        writer.set_tags({"orchestrator.host": "another-machine"})
    here.set_tags({"orchestrator.pid": "77"})

    closed = close_stale(uri, experiment, is_alive=lambda pid, start: pid == 77)

    # The sweep's driver is gone, and with it its trial on another machine; the trial here has a process that lives.
    assert set(closed) == {sweep.run_id, there.run_id}
    running = (here.run_id, elsewhere.run_id, foreign.info.run_id)
    assert {client.get_run(run_id).info.status for run_id in running} == {"RUNNING"}
    assert close_stale(uri, "no such experiment") == []


def test_which_process_lives() -> None:
    mark = this_process()
    assert mark.host == socket.gethostname()
    assert process_is_alive(mark.pid, mark.start)
    assert process_is_alive(mark.pid, "")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not process_is_alive(child.pid, mark.start)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times are read from /proc")
def test_a_pid_used_again_is_another_process() -> None:
    mark = this_process()
    assert not process_is_alive(mark.pid, mark.start + "0")


def test_a_server_that_does_not_answer_is_an_error_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer") as caught:
        RunWriter.start("http://ann:hunter2@127.0.0.1:9", "x", "run", "key")
    assert time.monotonic() - started < 5
    assert "hunter2" not in str(caught.value)
    assert "tracking.uri" in caught.value.hint
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="cannot open the tracking store at sqlite:") as caught:
        RunWriter.start(f"sqlite:///{tmp_path}/file/mlflow.db", "x", "run", "key")
    assert "folder writable" in caught.value.hint


def test_a_failure_on_the_way_is_a_tracking_error(uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RunWriter.start(uri, experiment, "run", "key")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full at http://u:hunter2@h")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        with pytest.raises(TrackingError, match=r"cannot log metrics at .*disk full") as caught:
            writer.log_metrics({"x": 1}, 0)
    assert "hunter2" not in str(caught.value)
    writer.log_metrics({"x": 1}, 0)  # what failed was not remembered as logged
    assert MlflowClient(tracking_uri=uri).get_run(writer.run_id).data.metrics == {"x": 1}


def test_a_deleted_experiment_is_explained(uri: str, experiment: str) -> None:
    writer = RunWriter.start(uri, experiment, "run", "key")
    MlflowClient(tracking_uri=uri).delete_experiment(writer.experiment_id)
    with pytest.raises(TrackingError, match="was deleted") as caught:
        RunWriter.start(uri, experiment, "run", "key")
    assert "mlflow experiments restore" in caught.value.hint


def test_two_processes_may_create_the_same_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    processes = [start_and_die(uri, "x", key) for key in ("a", "b")]
    assert [process.wait(120) for process in processes] == [9, 9]
    assert {key for key in ("a", "b") if find_run(uri, "x", key)} == {"a", "b"}


def test_importing_tracking_is_light() -> None:
    code = "import sys, orchestrator.tracking; print(*{'mlflow', 'torch', 'matplotlib', 'ray'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""
