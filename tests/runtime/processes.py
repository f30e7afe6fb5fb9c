"""Starting drivers, and finding, pausing and ending the processes that a test itself started."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import RunConfig
from orchestrator.runtime.parts import read_if_there
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.storage import open_folder
from orchestrator.training.retention import checkpoints_in
from tests.processes import descendants, wait_for


class Driver:
    """The command `orchestrator train` or `sweep` in a process of its own; what it says is kept in a file.

    Args:
        config: the configuration; written to a file, as a person would have it.
        name: the run's name.
        warm: fork from a process that has imported everything, which spares seconds; else a new interpreter.
        env: more environment variables than this process has.
        command: `train` or `sweep`.
    """

    def __init__(
        self,
        config: RunConfig,
        name: str,
        *,
        warm: bool = False,
        env: Mapping[str, str] | None = None,
        command: str = "train",
    ) -> None:
        self.paths = RunPaths.of(config.storage, name)
        self._before = step_of(self.paths)
        arguments = [command, str(write_config(config, name)), "--name", name]
        self._said = self.paths.storage / f"{name}.txt"
        self._process: ForkServerProcess | subprocess.Popen[bytes]
        self._said.write_bytes(b"")
        if warm:
            self._process = _FORKS.Process(
                target=_command, args=(arguments, str(self._said), {**os.environ, **(env or {})})
            )
            self._process.start()
        else:
            with self._said.open("wb") as said:
                started = [sys.executable, "-m", "orchestrator.cli", *arguments]
                self._process = subprocess.Popen(started, stdout=said, stderr=said, env={**os.environ, **(env or {})})

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """Everything it has printed so far, on one line."""
        return " ".join(self._said.read_text(errors="replace").split())

    @property
    def status(self) -> dict[str, Any]:
        """The run's `status.json`; empty before there is one."""
        return status_of(self.paths)

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; none while it runs."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def reach(self, step: int, timeout_s: float = 600) -> int:
        """Wait until the run has reported a step, one that no driver before reported, and return it."""
        first = max(step, self._before + 1)
        self.until(lambda: step_of(self.paths) >= first, f"step {first}", timeout_s)
        return step_of(self.paths)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 600) -> None:
        """Wait for something to happen while the driver runs."""
        wait_for(lambda: condition() or self.code is not None, what, timeout_s, lambda: self.said)
        assert condition(), f"the driver ended with {self.code} before {what}: {self.said}"

    def kill(self) -> None:
        """SIGKILL."""
        assert self.code is None, f"the driver ended with {self.code} before it was killed: {self.said}"
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def wait(self, timeout_s: float = 600) -> int:
        """Wait for its end and return the exit code."""
        wait_for(lambda: self.code is not None, "the driver's end", timeout_s, lambda: self.said)
        assert self.code is not None
        return self.code

    def finish(self, timeout_s: float = 600) -> None:
        """Wait for an end without error."""
        assert self.wait(timeout_s) == 0, self.said

    def dispose(self) -> None:
        """End it, whatever it is doing."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


@contextmanager
def measured(driver: Driver, what: str) -> Iterator[None]:
    """Cause a failure in the block; then wait until the run is beyond the step at which it came, and tell the cost."""
    paths, began = driver.paths, time.monotonic()
    before, step = read_json(paths.status) or {}, step_of(paths)
    saved = checkpoints_in(paths.folder)[-1].name
    yield

    def beyond() -> bool:
        status = read_json(paths.status) or {}
        return bool(status["restarts"] > before["restarts"] and status["step"] > step)

    wait_for(beyond, f"a step after {step}", context=lambda: driver.said)
    took = time.monotonic() - began
    print(f"measured: {what} at step {step}, latest checkpoint {saved}: {took:.1f} s until step {step_of(paths)}")


def step_of(paths: RunPaths) -> int:
    """The step that a run has reported last; -1 before the first."""
    return int(status_of(paths).get("step", -1))


def status_of(paths: RunPaths) -> dict[str, Any]:
    """The `status.json` of a run, wherever it lies; empty before there is one."""
    if not paths.home:
        return read_json(paths.status) or {}
    return dict(json.loads(read_if_there(open_folder(paths.where), paths.status.name) or b"{}"))


def write_config(config: RunConfig, name: str) -> Path:
    """The configuration as the file that a person would have, beside the run's folder."""
    file = RunPaths.of(config.storage, name).storage / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return file


def train_processes(driver: int | None = None, kind: str = "RayTrainWorker") -> list[int]:
    """The processes of a kind of Ray Train actor below the driver (this process by default)."""
    return sorted(pid for pid, command in descendants(driver or os.getpid()).items() if kind in command)


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["orchestrator.cli", "orchestrator.runtime.sweep.run", "mlflow", "matplotlib.pyplot"])


def _command(arguments: list[str], said: str, environment: dict[str, str]) -> None:
    """What a forked process does, in the environment of who started it: the server it comes from has an older one."""
    from orchestrator.cli import main

    os.environ.clear()
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.exit(main(arguments))
