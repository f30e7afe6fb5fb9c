"""A SLURM that only pretends: programs on PATH that write down what they are asked, and run it on this machine.

Contract: no program here decides anything that the script under test is there to decide. `srun` becomes its command,
`ray symmetric-run` runs what comes after `--`, and the driver does what its first two arguments say: `ends CODE`, or
`waits CODE`, which ends with CODE when it is asked to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.manifests import CLUSTER
from tests.runtime.processes import wait_for

SCRIPT = CLUSTER / "slurm" / "train.sbatch"
JOB = "4711"
_BEGIN = """#!PYTHON
import json, os, pathlib, signal, subprocess, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
folder = pathlib.Path(os.environ["FAKE_SLURM"])
environment = {key: value for key, value in os.environ.items() if key.startswith(("RAY_", "SRUN_"))}
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps({"program": name, "arguments": arguments, "environment": environment}) + "\\n")
(folder / f"{name}-began").touch()
""".replace("PYTHON", sys.executable)
_SRUN = """
command = arguments[next(index for index, word in enumerate(arguments) if word[0] != "-"):]
os.execvp(command[0], command)
"""
_SCONTROL = """
if arguments[:2] == ["show", "hostnames"]:
    print(os.environ["FAKE_HOSTS"])
"""
_RAY = """
if (folder / "ray-hangs").exists():
    signal.pause()
sys.exit(subprocess.run(arguments[arguments.index("--") + 1:]).returncode)
"""
_PYTHON = """
if arguments[0] == "-c":
    os.execv(sys.executable, [sys.executable, *arguments])
def leave(number, frame):
    (folder / "saved").touch()
    sys.exit(int(arguments[1]))
signal.signal(signal.SIGTERM, leave)
(folder / "runs").touch()
while arguments[0] == "waits":
    signal.pause()
sys.exit(int(arguments[1]))
"""


@dataclass(frozen=True)
class Site:
    """A folder that a job is submitted from, with the programs that a batch script finds."""

    folder: Path
    script: Path = SCRIPT

    @classmethod
    def make(cls, folder: Path, script: Path = SCRIPT) -> Site:
        """Lay the programs out."""
        bodies = {"bin/srun": _SRUN, "bin/scontrol": _SCONTROL, ".venv/bin/ray": _RAY, ".venv/bin/python": _PYTHON}
        for name, body in bodies.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_BEGIN + body)
            path.chmod(0o755)
        for name in ("fake", "tmp"):
            (folder / name).mkdir()
        return cls(folder, script)

    @property
    def fake(self) -> Path:
        """Where the programs write, and look for what they are to do."""
        return self.folder / "fake"

    def environment(self, others: Mapping[str, str] | None = None) -> dict[str, str]:
        """What SLURM tells a batch script on the first of two nodes."""
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "FAKE_SLURM": str(self.fake),
            "FAKE_HOSTS": "node7\nnode8",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "16",
            "SLURM_GPUS_ON_NODE": "4",
            **(others or {}),
        }

    def run(
        self,
        *arguments: str,
        tell: signal.Signals | None = None,
        once: str = "runs",
        others: Mapping[str, str] | None = None,
        below: Sequence[str] = (),
    ) -> tuple[int, str]:
        """The batch script until it ends: its exit code and what it says.

        Args:
            arguments: of the script.
            tell: a signal that it gets.
            once: the file below `fake` whose appearance is waited for before that.
            others: more environment variables, or other ones.
            below: a command that starts the script.
        """
        batch = subprocess.Popen(
            [*below, "bash", self.script, *arguments],
            env=self.environment(others),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            if tell is not None:
                wait_for(lambda: (self.fake / once).exists() or batch.poll() is not None, f"the file {once}", 60)
                batch.send_signal(tell)
            code = batch.wait(120)
        finally:
            with suppress(ProcessLookupError):  # a broken script may leave its children behind
                os.killpg(batch.pid, signal.SIGKILL)
        assert batch.stdout is not None
        return code, batch.stdout.read()

    def asked(self, program: str) -> list[dict[str, Any]]:
        """Every call of a program, in order."""
        lines = (self.fake / "asked").read_text().splitlines()
        return [said for said in map(json.loads, lines) if said["program"] == program]

    @property
    def requeued(self) -> bool:
        """Whether the job went back into the queue."""
        return ["requeue", JOB] in [said["arguments"] for said in self.asked("scontrol")]

    @property
    def saved(self) -> bool:
        """Whether the driver was asked to save and leave."""
        return (self.fake / "saved").exists()
