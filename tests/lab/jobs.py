"""Jobs, submitted on the head of a lab as a person does it, with `ray job submit -- python jobs/X.py ...`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from tests.lab.hosts import Process, start
from tests.lab.nodes import DASHBOARD, RayNode
from tests.processes import wait_for

_NUMBERS = count(1)


class Job:
    """A job that was submitted.

    Args:
        head: the cluster's head, on which the command runs.
        project: the working directory, as the head sees it.
        script: of `jobs/`, without its ending.
        arguments: of the script.
        env: more environment variables, of the command alone.
        job_env: environment variables of the job, in place of what `jobs/runtime_env.yaml` has.
    """

    def __init__(
        self,
        head: RayNode,
        project: Path,
        script: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        job_env: Mapping[str, str] | None = None,
    ) -> None:
        self._head = head
        self.name = f"{script}-{next(_NUMBERS)}"
        options = [f"--address={DASHBOARD}", f"--submission-id={self.name}", f"--working-dir={project}"]
        if job_env is None:
            options += [f"--runtime-env={project}/jobs/runtime_env.yaml"]
        else:
            options += [f"--runtime-env-json={json.dumps({'env_vars': dict(job_env)})}"]
        command = ["ray", "job", "submit", *options, "--", "python", f"jobs/{script}.py", *arguments]
        variables = {**head.variables, **(env or {})}
        self._process: Process = start(head.machine, command, f"job-{self.name}.txt", env=variables)

    @property
    def said(self) -> str:
        """What the command printed: the job's log, and how the job ended."""
        return self._process.said

    @property
    def code(self) -> int | None:
        """The command's exit code; none while it runs."""
        return self._process.code

    def until(self, words: str, timeout_s: float = 120) -> None:
        """Wait until it has said something."""
        wait_for(lambda: words in self.said or self.code is not None, repr(words), timeout_s, lambda: self.said)
        assert words in self.said, f"{self.name} ended with {self.code} before it said {words!r}: {self.said}"

    def wait(self, timeout_s: float = 300) -> int:
        """Wait for its end and return the exit code of the command."""
        wait_for(lambda: self.code is not None, f"the end of {self.name}", timeout_s, lambda: self.said)
        assert self.code is not None
        return self.code

    def finish(self, timeout_s: float = 300) -> str:
        """Wait for a good end and return what was said."""
        assert self.wait(timeout_s) == 0, f"{self.name} ended with {self.code}: {self.said}"
        return self.said

    def stop(self) -> None:
        """`ray job stop`."""
        command = ["ray", "job", "stop", f"--address={DASHBOARD}", self.name]
        stopped = start(self._head.machine, command, f"job-{self.name}-stop.txt", env=self._head.variables)
        assert stopped.wait(60) == 0, stopped.said

    def abandon(self) -> None:
        """End the command that waits for it, not the job."""
        self._process.kill()
