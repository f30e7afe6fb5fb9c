"""The lab: services, a head and workers on machines of their own, which share nothing but a network.

```
services 10.99.0.1   the switch; S3, MLflow over PostgreSQL (its artifacts in S3), Redis
head     10.99.0.2   Ray's head: one CPU; jobs are submitted here
worker-1 10.99.0.3   one CPU; more of them come with `add_worker`
```
Everything is gone after `close`, and also when the process that made it is killed.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from tests.lab import machines, redis, s3, servers, stored
from tests.lab.hosts import T
from tests.lab.jobs import Job
from tests.lab.machines import Machine
from tests.lab.nodes import RayNode
from tests.lab.project import write_project
from tests.lab.redis import RedisServer
from tests.lab.s3 import S3Server
from tests.lab.servers import PostgresServer, TrackingServer
from tests.processes import wait_for

DATA, RUNS, ARTIFACTS = "data", "runs", "mlflow"
"""The buckets: what a person brings, what runs store, and what MLflow's server keeps for its users."""


def missing() -> str | None:
    """Why there can be no lab here; none if there can."""
    reasons = (machines.missing(), s3.missing(), redis.missing(), servers.missing(), servers.missing_s3_client())
    return next((reason for reason in reasons if reason is not None), None)


class Lab:
    """A whole site.

    Args:
        workers: nodes besides the head.
    """

    def __init__(self, workers: int = 1) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))  # sockets want short paths
        self.root.chmod(0o755)
        self._numbers, self._machines = count(1), list[Machine]()
        self.token = secrets.token_hex(32)
        self.workers: list[RayNode] = []
        try:
            self._start_services()
            self._start_head()
            for _ in range(workers):
                self.add_worker()
            self.tracking.ready()
        except BaseException:
            self.close()
            raise

    def submit(self, script: str, *arguments: str, **variables: Mapping[str, str]) -> Job:
        """`ray job submit` of a script of `jobs/`, on the head; the `variables` are those of `Job`."""
        return Job(self.head, self.head.machine.folder / "project", script, *arguments, **variables)

    def places(self) -> list[str]:
        """The settings of a run here that no configuration holds: where things are."""
        places = {
            "start.checkpoint": self.s3.uri(DATA, "weights.pt"),
            "data.path": self.s3.uri(DATA, "corpus"),
            "storage": self.s3.uri(RUNS),
        }
        return [f"{name}={where}" for name, where in places.items()]

    def saved(self, name: str) -> list[int]:
        """The steps of a run's checkpoints that lie in object storage, in whatever condition."""
        parts = {part for path in self.ask(stored.sizes, f"{RUNS}/{name}") for part in path.split("/")}
        return sorted(int(part.removeprefix("step-")) for part in parts if part.startswith("step-"))

    def until_saved(self, job: Job, name: str, step: int) -> None:
        """Wait until a job's run has stored a checkpoint of a step or of a later one."""
        wait_for(
            lambda: job.code is not None or max(self.saved(name), default=-1) >= step,
            f"the checkpoint of step {step}",
            300,
            lambda: job.said,
        )
        assert job.code is None, f"the job ended with {job.code}: {job.said}"

    def add_worker(self) -> RayNode:
        """One more node, which has joined when this returns."""
        name = f"worker-{1 + sum(machine.name.startswith('worker') for machine in self._machines)}"
        node = RayNode(self._machine(name), self.token, self._environment)
        node.start_worker(self.head)
        self.workers.append(node)
        return node

    def kill_worker(self, node: RayNode | None = None) -> RayNode:
        """SIGKILL of everything on a worker node, the last one if none is given, as when it loses its power."""
        node = node or self.workers[-1]
        self.workers.remove(node)
        node.kill()
        return node

    def restart_head(self) -> None:
        """SIGKILL of everything on the head; then it is started again at the same address, over the same Redis."""
        self.head.kill()
        self.head.machine.boot()
        self.head.start_head()

    def where(self, kind: str) -> list[str]:
        """The names of the nodes on which a process of a kind runs, e.g. `RayTrainWorker`, one for each."""
        nodes = [self.head, *self.workers]
        return [node.machine.name for node in nodes for line in node.machine.processes().values() if kind in line]

    def ask(self, function: Any, *arguments: Any) -> Any:
        """Call one of the functions of `stored.py`."""
        return self.services.call(function, self.s3.login, *arguments)

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call a function of a module in the services' network."""
        result: T = self.services.call(function, *arguments)
        return result

    @property
    def secrets(self) -> dict[str, str]:
        """What nobody may read in any log, record or object, by what it is."""
        passwords = {"PostgreSQL's password": self.postgres.password, "Redis' password": self.redis.password}
        return {"the S3 secret": self.s3.secret, "Ray's token": self.token, **passwords}

    def close(self) -> None:
        """End everything and remove all files."""
        for machine in reversed(self._machines):
            machine.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def _start_services(self) -> None:
        self.services = self._machine("services")
        self.s3 = S3Server(self.services)
        self.s3.start()
        for bucket in (DATA, RUNS, ARTIFACTS):
            self.s3.make_bucket(bucket)
        self.redis = RedisServer(self.services)
        self.postgres = PostgresServer(self.services)
        store = ["--backend-store-uri", self.postgres.uri, "--artifacts-destination", f"s3://{ARTIFACTS}"]
        endpoint = {"MLFLOW_S3_ENDPOINT_URL": f"http://{self.s3.endpoint}"}
        self.tracking = TrackingServer(self.services, store, {**self.s3.environment, **endpoint})
        self.tracking.start(wait=False)
        self._environment = {**self.s3.environment, "MLFLOW_TRACKING_URI": self.tracking.uri}

    def _start_head(self) -> None:
        self.head = RayNode(self._machine("head"), self.token, self._environment, redis=self.redis)
        write_project(self.head.machine.files / "project")
        self.head.start_head()

    def _machine(self, name: str) -> Machine:
        switch = self._machines[0] if self._machines else None
        machine = Machine(name, next(self._numbers), self.root, switch)
        self._machines.append(machine)
        return machine
