"""Jobs as people submit them: exit codes, logs, what Ray shows of them, and being stopped and submitted again."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator.config import RunConfig, apply_settings
from orchestrator.models import build_model
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.train import tracking_uri, train
from orchestrator.tracking import find_run
from tests.conftest import TINY_MODEL
from tests.runtime.nodes import ENVIRONMENT, Head
from tests.runtime.processes import descendants, step_of, wait_for, write_config
from tests.runtime.sameness import differences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
STEPS = 220


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A Ray head with a dashboard, for jobs."""
    started = Head()
    started.job("list")  # as soon as there is an agent for jobs
    yield started
    started.close()


@pytest.fixture
def client(head: Head, monkeypatch: pytest.MonkeyPatch) -> JobSubmissionClient:
    """Ray's own client of it."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return JobSubmissionClient(head.jobs_address)


def submit(client: JobSubmissionClient, script: str, *arguments: object, **options: Any) -> str:
    """Submit a script of `jobs/` with the working directory of a clone; the submission's id."""
    command = shlex.join([sys.executable, f"jobs/{script}.py", *map(str, arguments)])
    environment = yaml.safe_load((ROOT / "jobs" / "runtime_env.yaml").read_text())
    submission: str = client.submit_job(
        entrypoint=command, runtime_env={"working_dir": str(ROOT), **environment}, **options
    )
    return submission


def ended(client: JobSubmissionClient, submission: str) -> Any:
    """All that Ray knows of a job, once it has ended."""
    wait_for(lambda: client.get_job_status(submission).is_terminal(), f"the end of {submission}")
    return client.get_job_info(submission)


def test_exit_codes(client: JobSubmissionClient, tiny_model_config: Any, tmp_path: Path) -> None:
    torch.save(build_model(tiny_model_config).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": TINY_MODEL}))
    (tmp_path / "file").write_text("")
    states = ["--out", tmp_path / "states", "--config", tmp_path / "model.yaml"]
    jobs = {
        submit(client, "normalize", tmp_path / "weights.pt", *states): (0, "stable_syncnet"),
        submit(client, "doctor", "--storage", tmp_path / "file" / "runs"): (1, "cannot be written from everybody"),
        submit(client, "normalize", tmp_path / "none.pt", *states): (2, "there is no file"),
        submit(client, "prepare", tmp_path, "--out", "prepared"): (2, "lies in a temporary copy"),
    }
    for submission, (code, words) in jobs.items():
        info, said = ended(client, submission), client.get_job_logs(submission)
        assert info.driver_exit_code == code, said
        assert info.status is (JobStatus.SUCCEEDED if code == 0 else JobStatus.FAILED)
        assert words in " ".join(said.split()) and is_readable(said), said


def test_a_job_that_is_stopped_and_submitted_again_ends_as_if_nothing_had_happened(
    client: JobSubmissionClient, tiny_config: RunConfig
) -> None:
    """As `ray job stop` stops it, and by a signal to its process alone, as a batch system sends it."""
    changes = {"train.steps": STEPS, "train.log_every": 5, "eval.every": 70, "checkpoint.every": 10 * STEPS}
    config = apply_settings(tiny_config, changes)
    train(config, "calm")
    config = apply_settings(config, {"scale.num_workers": 1})
    file, paths = write_config(config, "one"), RunPaths.of(config.storage, "one")

    def reach(submission: str, step: int) -> None:
        wait_for(lambda: step_of(paths) >= step, f"step {step}", context=lambda: client.get_job_logs(submission))

    first = submit(client, "train", file, "--name", "one", submission_id="first", metadata={"team": "lips"})
    reach(first, 20)
    shown = client.get_job_info(first).metadata
    assert (shown["state"], shown["mlflow_run_id"]) == ("running", record(config).run_id)
    client.stop_job(first)
    info = ended(client, first)
    assert (info.status, record(config).status) == (JobStatus.STOPPED, "KILLED")
    assert info.metadata["state"] == "stopped" and info.metadata["team"] == "lips"
    said = client.get_job_logs(first)
    stopped = re.search(r"stopped at step (\d+)", said)
    assert "saves a checkpoint, then stops" in said and stopped is not None
    assert step_of(paths) <= int(stopped[1]) < STEPS, "steps that were reported are lost"

    second = submit(client, "train", file, "--name", "one", submission_id="second")
    reach(second, step_of(paths) + 20)
    os.kill(driver_of(second), signal.SIGTERM)
    info = ended(client, second)
    assert (info.status, info.driver_exit_code, record(config).status) == (JobStatus.FAILED, 130, "KILLED")
    assert step_of(paths) < STEPS

    info = ended(client, submit(client, "train", file, "--name", "one", submission_id="third"))
    said = client.get_job_logs("third")
    assert (info.status, info.driver_exit_code) == (JobStatus.SUCCEEDED, 0), said
    run = record(config)
    assert (run.status, run.tags["ray.job"]) == ("FINISHED", "third")
    expected = {"run": "one", "kind": "train", "state": "finished", "mlflow_run_id": run.run_id}
    assert expected.items() <= info.metadata.items() and info.metadata["mlflow"].startswith("mlflow ui ")
    assert differences(config, "calm", "one") == []
    assert all(is_readable(client.get_job_logs(submission)) for submission in ("first", "second", "third"))


def test_the_python_of_the_documentation(
    head: Head, client: JobSubmissionClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there, with another address and another command."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "jobs.md").read_text(), re.DOTALL)
    code, places = re.subn(r'"http://127.0.0.1:8265"', repr(head.jobs_address), code)
    code, commands = re.subn(r'(entrypoint=)".*"', rf'\1"{sys.executable} jobs/train.py --help"', code)
    assert (places, commands) == (1, 1)
    monkeypatch.chdir(ROOT)
    exec(code, {})
    said = capsys.readouterr().out
    assert said.startswith("SUCCEEDED 0 {'team': 'lips'}") and "Usage: orchestrator train" in said


def record(config: RunConfig) -> Any:
    found = find_run(tracking_uri(config), config.tracking.experiment, "one")
    assert found is not None
    return found


def driver_of(submission: str) -> int:
    """The process that a job's shell has started."""
    mine = {pid for pid in descendants(1) if _belongs(pid, f'"job_submission_id": "{submission}"')}
    (driver,) = [pid for pid in mine if "jobs/train.py" in descendants(1).get(pid, "") and _is_python(pid)]
    return driver


def is_readable(said: str) -> bool:
    """No colours, no bars that redraw themselves, no blanks behind a line, no traceback."""
    return not re.search(r"\x1b|\r|[ \t]\n|Traceback|Warning", said)


def _belongs(pid: int, words: str) -> bool:
    try:
        return words in Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return False


def _is_python(pid: int) -> bool:
    return "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
