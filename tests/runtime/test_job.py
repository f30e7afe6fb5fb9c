"""What a submitted job tells Ray of itself: its run, how it stands, where its MLflow run is; never an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.dashboard.modules.job.common import JobInfo, JobInfoStorageClient, JobStatus

from orchestrator.config import RunConfig
from orchestrator.runtime import job
from orchestrator.runtime.train import train
from orchestrator.tracking import find_run
from tests.runtime import heads

KEY = JobInfoStorageClient.JOB_DATA_KEY.format(job_id="raysubmit_1").encode()
CONFIG = json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1", "job_name": "raysubmit_1"}})


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process belongs to a job."""
    monkeypatch.setenv(job._CONFIG, CONFIG)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def kept(metadata: dict[str, str] | None = None) -> dict[bytes, bytes]:
    """What Ray keeps of a job that runs, written by Ray's own class."""
    info = JobInfo(status=JobStatus.RUNNING, entrypoint="python jobs/train.py", metadata=metadata, start_time=1)
    return {KEY: json.dumps(info.to_json()).encode()}


def read(store: dict[bytes, bytes]) -> JobInfo:
    """The same, read by Ray's own class."""
    info: Any = JobInfo.from_json(json.loads(store[KEY]))
    return info


def test_the_variable_is_ray_s_own() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    assert job._CONFIG == RAY_JOB_CONFIG_JSON_ENV_VAR


@pytest.mark.parametrize("config", ["", "no json", "[]", "{}", '{"metadata": null}', '{"metadata": {}}'])
def test_a_process_that_was_not_submitted(config: str) -> None:
    assert job.submission_id({job._CONFIG: config}) is None and job.submission_id({}) is None


def test_facts_come_to_what_a_person_gave(submitted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    store = kept({"team": "lips", "run": "mine"})
    with heads.head(kept=store) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        job.describe(run="first", mlflow=None, state="")
    info = read(store)
    assert info.metadata == {"team": "lips", "run": "first"}
    assert (info.status, info.entrypoint, info.start_time) == (JobStatus.RUNNING, "python jobs/train.py", 1)


def test_whatever_goes_wrong_is_a_line_and_no_error(
    submitted: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    job.describe(run="first")
    assert caplog.messages == []
    for broken in ({}, {KEY: b"no json"}, None):
        with heads.head(kept=broken) as address:
            monkeypatch.setenv("RAY_ADDRESS", address)
            job.describe(run="first")
    monkeypatch.setattr(job, "_PATIENCE_S", 0.2)
    with heads.silent() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        job.describe(run="first")
    assert len(caplog.messages) == 4
    assert all(text.startswith("the job's metadata stay as they were: ") for text in caplog.messages)


@pytest.mark.slow
def test_a_run_says_how_it_stands_and_its_mlflow_run_says_who_drives_it(
    tiny_config: RunConfig, submitted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = kept({"team": "lips"})
    states: list[str] = []
    before = job.describe

    def describe(**facts: Any) -> None:
        before(**facts)
        states.append(str((read(store).metadata or {})["state"]))

    monkeypatch.setattr(job, "describe", describe)
    with heads.head(kept=store) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        result = train(tiny_config, "one")
    folder = str(Path(tiny_config.storage) / "one")
    told = dict(read(store).metadata or {})
    assert told.pop("mlflow").startswith("mlflow ui --backend-store-uri sqlite:")
    mlflow_run = {"mlflow_run_id": result.run_id}
    assert told == {"team": "lips", "run": "one", "kind": "train", "folder": folder, "state": "finished", **mlflow_run}
    assert states == ["running", "finished"]
    record = find_run(result.tracking_uri, "syncnet", "one")
    assert record is not None and record.tags["ray.job"] == "raysubmit_1"
