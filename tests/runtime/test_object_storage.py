"""Runs on a real S3 server: killed and continued exactly, a server that is away for a while, and no secret anywhere."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.checkpoint import is_complete, shelf
from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.status import RunState, read_statuses
from orchestrator.runtime.train import train
from orchestrator.storage import open_folder
from orchestrator.tracking import find_run
from orchestrator.training.retention import checkpoints_in
from tests.lab.hosts import Loopback
from tests.lab.s3 import S3Server, missing
from tests.runtime.processes import Driver
from tests.runtime.sameness import differences_between

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """A server that is this process's to break; its credentials are in the environment, as a person has them."""
    host = Loopback()
    server = S3Server(host)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        try:
            yield server
        finally:
            server.close()
            host.close()


@pytest.fixture
def configs(tiny_config: RunConfig, server: S3Server, tmp_path: Path) -> tuple[RunConfig, RunConfig]:
    """The same run in a folder and in a bucket."""
    settings = {"train.steps": 60, "checkpoint.every": 7, "checkpoint.retry_s": 120, "eval.every": 20}
    here = apply_settings(tiny_config, settings)
    bucket = server.make_bucket(f"runs-{abs(hash(tmp_path)) % 10**8}")
    there = {"storage": server.uri(bucket, "team/runs"), "tracking.uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    return here, apply_settings(here, there)


def test_killed_at_any_moment_and_continued_is_the_run_in_a_folder_bit_for_bit(
    configs: tuple[RunConfig, RunConfig], server: S3Server, tmp_path: Path
) -> None:
    here, there = configs
    train(here, "calm")
    for step in (4, 25):
        driver = Driver(there, "killed", warm=True)
        driver.reach(step)
        driver.kill()
    (status,) = read_statuses(there.storage)
    assert status.state in (RunState.INTERRUPTED, RunState.RUNNING)  # its sign of life is young
    last = Driver(there, "killed", warm=True)
    last.finish()
    assert differences_between((here, "calm"), (there, "killed")) == []
    (status,) = read_statuses(there.storage)
    assert (status.state, status.step, status.restarts) == (RunState.FINISHED, 60, 2)
    record = find_run(there.tracking.uri or "", there.tracking.experiment, "killed")
    assert record is not None and record.status == "FINISHED"
    secret = server.environment["AWS_SECRET_ACCESS_KEY"].encode()
    assert secret not in (tmp_path / "mlflow.db").read_bytes() and secret.decode() not in last.said
    home = open_folder(there.storage)
    assert not [entry.name for entry in home.entries() if secret in home.read(entry.name)]


def test_a_server_that_is_away_for_a_while_costs_nothing(
    configs: tuple[RunConfig, RunConfig], server: S3Server
) -> None:
    here, there = configs
    train(here, "calm")
    driver = Driver(there, "patient", warm=True)
    try:
        driver.reach(8)
        server.kill()
        driver.until(lambda: "refused, and is tried again" in driver.said, "a refused checkpoint")
        server.start()
        driver.finish()
    finally:
        driver.dispose()
    assert "takes checkpoints again" in driver.said
    assert differences_between((here, "calm"), (there, "patient")) == []


_WRITER = """
import sys, torch
from orchestrator.checkpoint import TrainState, save_state
from orchestrator.config import load_model_config
from orchestrator.storage import Place
from tests.conftest import TINY_MODEL

class Watched:
    def __init__(self, stream):
        self.stream, self.written = stream, 0
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.stream.close()
    def write(self, data):
        self.stream.write(data)
        self.written += len(data)
        if self.written > 24 << 20:
            print("in the middle", flush=True)
            sys.stdin.read()

whole = Place.output_stream
Place.output_stream = lambda place: Watched(whole(place))
weights = {f"w{n}": torch.rand(1 << 20) for n in range(24)}
save_state(TrainState(load_model_config(TINY_MODEL), weights), sys.argv[1])
"""


def test_an_upload_that_is_killed_leaves_nothing_that_looks_whole(server: S3Server) -> None:
    run = server.uri(server.make_bucket("torn"), "runs/one")
    step = shelf.inside(run, "step-000000001")
    command = [sys.executable, "-c", _WRITER, str(step)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"in the middle\n"
        writer.send_signal(signal.SIGKILL)
    assert checkpoints_in(run) == [] and not is_complete(step)
    shelf.sweep(run)
    assert not shelf.stands(step) and not open_folder(run).entries()
