"""Ray clusters of a test's own, which it may break: neither the test's process nor its Ray takes part in them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.processes import descendants, free_port, is_alive, wait_for
from tests.runtime.processes import train_processes

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # no token of the person who tests is used or made
    "RAY_health_check_period_ms": "1000",  # a node that is gone is noticed within seconds
    "RAY_health_check_failure_threshold": "3",
}
"""Of these clusters; the commands that use them want it too."""


class Nodes:
    """A head without CPUs and nodes with a few CPUs each, started by `ray.cluster_utils.Cluster` elsewhere."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.runtime.nodes"]
        self._keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        self.address: str = self._ask("address")

    @property
    def workers(self) -> list[int]:
        """The train workers on all nodes."""
        return train_processes(self._keeper.pid)

    def add(self, cpus: int = 1, *, path: Path | None = None, **options: Any) -> str:
        """One more node; returns its id once it has joined.

        Args:
            cpus: as Ray believes.
            path: a folder in which its Python looks first.
            options: more of Ray's own, such as `temp_dir`.
        """
        return self._ask("add", {"num_cpus": cpus, **options}, str(path or ""))

    def kill(self, node: str) -> None:
        """SIGKILL of all its processes, as when a machine loses its power."""
        self._ask("kill", node)

    def announce_end(self, node: str, seconds: float) -> None:
        """The notice that clouds give before they take a machine away."""
        self._ask("drain", node, seconds)

    def close(self) -> None:
        """End the cluster."""
        below = descendants(self._keeper.pid)
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(30)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        for pid in filter(is_alive, below):
            os.kill(pid, signal.SIGKILL)

    def _ask(self, *words: Any) -> str:
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        print(json.dumps(words), file=self._keeper.stdin, flush=True)
        for line in self._keeper.stdout:
            if line.startswith("answer "):  # Ray prints what it likes
                return line.removeprefix("answer ").strip()
        raise AssertionError(f"the cluster's keeper ended with {self._keeper.wait()}")


class Head:
    """A head with two CPUs and a dashboard, started by `ray start` and killed without a goodbye."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets want short paths
        self._port, self._dashboard, self._agent = free_port(), free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.jobs_address = f"http://127.0.0.1:{self._dashboard}"
        self.start()

    def start(self) -> None:
        """`ray start --head`, at the same address every time."""
        options = ["--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
        options += [f"--port={self._port}", f"--dashboard-port={self._dashboard}", f"--temp-dir={self._folder}"]
        options += [f"--dashboard-agent-listen-port={self._agent}"]
        options += ["--num-gpus=0", "--object-store-memory=200000000"]
        with (self._folder / "start.txt").open("ab") as said:
            self._process = subprocess.Popen([_ray(), "start", *options], stdout=said, stderr=said, env=_environment())

        def ready() -> bool:
            assert self._process.poll() is None, (self._folder / "start.txt").read_text(errors="replace")
            return _answers(self._port) and _answers(self._dashboard)

        wait_for(ready, "the head to answer", 120)

    def kill(self) -> None:
        """SIGKILL of everything that belongs to it."""
        below = [self._process.pid, *descendants(self._process.pid)]
        for pid in filter(is_alive, below):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_for(lambda: not any(map(is_alive, below)), "the head's processes to be gone")

    def job(self, *arguments: str) -> str:
        """`ray job ...` and what it prints; asked again while the head has no agent for jobs yet."""
        command = [_ray(), "job", arguments[0], f"--address={self.jobs_address}", *arguments[1:]]
        while True:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=_environment())
            if done.returncode == 0:
                return done.stdout
            assert "No available agent" in done.stderr, done.stdout + done.stderr

    def close(self) -> None:
        """End it and remove its files."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT}


def _ray() -> str:
    return str(Path(sys.executable).with_name("ray"))


def _answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def _keep() -> None:
    """Hold the cluster and do what is asked on standard input, until it ends."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.core.generated import autoscaler_pb2

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes: dict[str, Any] = {}
    for line in sys.stdin:
        word, *rest = json.loads(line)
        answer = ""
        if word == "address":
            answer = cluster.address
        elif word == "add":
            before = os.environ.get("PYTHONPATH", "")
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [rest[1], before]))
            node = cluster.add_node(**rest[0])
            os.environ["PYTHONPATH"] = before
            nodes[answer := node.node_id] = node
        elif word == "kill":
            cluster.remove_node(nodes.pop(rest[0]), allow_graceful=False)
        elif word == "drain":
            client = ray._raylet.GcsClient(address=cluster.address)  # type: ignore[attr-defined]
            preemption = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
            deadline_ms = time.time_ns() // 1_000_000 + int(rest[1] * 1000)
            accepted, why = client.drain_node(rest[0], preemption, "the cloud wants it back", deadline_ms)
            assert accepted, why
        print("answer", answer, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _keep()
