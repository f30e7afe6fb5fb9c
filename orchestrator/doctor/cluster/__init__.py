"""`doctor --cluster`: numbered findings about every node of a Ray cluster, within half a minute whatever is broken.

How: a program of its own asks (`ask.py`), with one actor pinned to each node (`probe.py`); what comes back in time is
put together (`facts.py`), and pure functions judge it (`access.py`, `nodes.py`, `links.py`, `stores.py`).
Promises: never a hang, never a traceback, one finding for one trouble, no credentials in any of them; nothing stays
behind on nodes or in the storage.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.doctor import places
from orchestrator.doctor.cluster import access, links, nodes, stores
from orchestrator.doctor.cluster.facts import Cluster, gather
from orchestrator.doctor.cluster.measures import USUAL_S
from orchestrator.doctor.finding import Finding
from orchestrator.errors import OrchestratorError
from orchestrator.runtime.job import submission_id
from orchestrator.storage import local_path


@dataclass(frozen=True)
class Request:
    """What to look at."""

    address: str
    """Ray's, as RAY_ADDRESS has it."""
    storage: str | None = None
    """Where runs are to live: a path or URI that every node must be able to write."""
    data: str | None = None
    """Prepared data, or the place for it: the same."""
    cache: str | None = None
    """`data.cache`: a folder of each node."""
    seconds: float = USUAL_S
    """After which the answers that are there are taken; single questions have their parts of it."""


def examine_cluster(request: Request) -> list[Finding]:
    """Look at a whole cluster."""
    request = replace(request, storage=_absolute(request.storage), data=_absolute(request.data))
    tracking: list[Finding] = []
    beside = threading.Thread(target=lambda: tracking.append(_tracking(request)), daemon=True)
    beside.start()
    deadline = time.monotonic() + request.seconds
    cluster = ask(request)
    beside.join(max(0.1, deadline - time.monotonic()))
    return [
        *judge(cluster, in_job=submission_id() is not None),
        *access.working_dir(Path.cwd()),
        *(tracking or [Finding("MLflow", "no answer in time", False, "is its server overloaded, or away?")]),
    ]


def judge(cluster: Cluster, *, in_job: bool) -> list[Finding]:
    """All findings about what was heard of a cluster."""
    first = access.head(cluster)
    if not cluster.joined:
        return [first]
    others = [*nodes.judge(cluster), *links.judge(cluster), *stores.judge(cluster)]
    return [first, *access.token(cluster), *others, *access.stop(cluster, in_job)]


def ask(request: Request) -> Cluster:
    """Ask a cluster for its facts, for at most as long as the request says."""
    command = [sys.executable, "-m", "orchestrator.doctor.cluster.ask"]
    asking = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that all it starts ends with it
    )
    assert asking.stdin is not None and asking.stderr is not None
    errors: list[str] = []
    threading.Thread(target=errors.extend, args=(asking.stderr,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # it broke down at once, which its errors tell
        print(json.dumps(asdict(request)), file=asking.stdin, flush=True)
    try:
        lines = list(_lines(asking, request.seconds))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(asking.pid, signal.SIGKILL)
        broke_down = asking.wait() not in (0, -signal.SIGKILL)
    cluster = gather(lines, request.address)
    cluster.asked_s = request.seconds
    if broke_down and errors:
        cluster.last_words = " ".join(errors[-1].split())[:300]
    return cluster


def _lines(asking: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """Its lines as they come, until it ends or time is up."""
    assert asking.stdout is not None
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def hear(stream: Iterator[str]) -> None:
        for line in stream:
            said.put(line)
        said.put(None)

    threading.Thread(target=hear, args=(asking.stdout,), daemon=True).start()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            line = said.get(timeout=left)
            if line is None:
                asking.wait(max(0.1, deadline - time.monotonic()))
                return
            yield line


def _absolute(where: str | None) -> str | None:
    """The same place for everybody: nodes have other working directories."""
    path = None if where is None else local_path(where)
    return where if path is None else str(path.expanduser().absolute())


def _tracking(request: Request) -> Finding:
    """MLflow from here: the driver alone records, so no node needs to reach it."""
    folder = None if request.storage is None else local_path(request.storage)
    if not os.environ.get("MLFLOW_TRACKING_URI") and folder is None:
        text = "no MLFLOW_TRACKING_URI: the driver records into SQLite in the run's storage folder"
        return Finding("MLflow", text, hint="with `storage` in object storage, give a server; nodes need not reach it")
    try:
        found = places.tracking(request.storage or ".")
    except OrchestratorError as error:
        return Finding("MLflow", error.message, False, error.hint)
    return replace(found, found=f"{found.found}, by the driver, which alone records") if found.ok else found
