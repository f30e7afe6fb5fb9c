"""Ray on machines of their own: a head and workers, started with `ray start`, as on any cluster.

Whoever connects needs the token; the dashboard and the job server listen on the head's loopback, so that jobs are
submitted from the head. With a Redis, a head that was killed comes back with what it knew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.hosts import run
from tests.lab.machines import Machine
from tests.lab.redis import RedisServer
from tests.processes import wait_for

DASHBOARD = "http://127.0.0.1:8265"
"""As the head itself sees it."""
_GCS_PORT = 6379
_TRIES = 3
"""Ray gives a node 30 s to start, which on a computer that is busy with something else may be too few."""
PROGRAMS = Path(sys.executable).parent
_SMALL = ("--num-gpus=0", "--object-store-memory=150000000", "--disable-usage-stats", "--log-color=false")
_QUICK = {
    "RAY_health_check_period_ms": "1000",  # a node that is gone is noticed within seconds
    "RAY_health_check_failure_threshold": "3",
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_niceness": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",  # how long nodes wait for a head that is away
    "OMP_NUM_THREADS": "1",
}


@dataclass
class RayNode:
    """A machine with Ray on it."""

    machine: Machine
    token: str
    """Who has it may use the cluster."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of everything that Ray starts here, besides what makes Ray small and quick."""
    cpus: int = 1
    redis: RedisServer | None = None
    """Of a head: where it keeps what it must know again."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment of commands on this machine that use the cluster."""
        path = f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"PATH": path, "PYTHONPATH": "", "RAY_AUTH_MODE": "token", **_QUICK, **self.environment}

    def start_head(self) -> None:
        """`ray start --head`."""
        options = ["--head", f"--port={_GCS_PORT}", "--dashboard-host=127.0.0.1", "--dashboard-port=8265"]
        if self.redis is None:
            self._start(options, {})
            return
        known = {"RAY_REDIS_ADDRESS": self.redis.address, "RAY_external_storage_namespace": "lab"}
        self._start([*options, f"--redis-password={self.redis.password}"], known)

    def start_worker(self, head: RayNode) -> None:
        """`ray start --address`, as a member of the head's cluster."""
        self._start([f"--address={head.machine.address}:{_GCS_PORT}"], {})

    def kill(self) -> None:
        """SIGKILL of everything on the machine, and of the machine."""
        self.machine.kill()

    def members(self) -> dict[str, str]:
        """Addresses of the living nodes and their host names, as the head knows them."""
        script = "import json, ray; ray.init(address='auto', logging_level='ERROR'); print(json.dumps(ray.nodes()))"
        said = run(self.machine, [PROGRAMS / "python", "-c", script], env=self.variables)
        nodes = json.loads(said.splitlines()[-1])
        return {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in nodes if node["Alive"]}

    def wait_for_members(self, count: int) -> None:
        """Wait until so many nodes live."""
        wait_for(lambda: len(self.members()) == count, f"{count} nodes", 60)

    def _start(self, options: list[str], env: Mapping[str, str]) -> None:
        file = self.machine.files / "home" / ".ray" / "auth_token"
        file.parent.mkdir(exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(self.token)
        where = [f"--node-ip-address={self.machine.address}", f"--temp-dir={self.machine.folder / 'ray'}"]
        command = [PROGRAMS / "ray", "start", *options, *where, f"--num-cpus={self.cpus}", *_SMALL]
        for left in reversed(range(_TRIES)):
            try:
                run(self.machine, command, env={**self.variables, **env})
                return
            except AssertionError:
                if not left:
                    raise
                self.machine.kill()
                self.machine.boot()
