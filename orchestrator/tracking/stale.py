"""Close the runs that a crashed driver left RUNNING.

Why: a process that is killed cannot tell the tracker, which then shows the run as going on for ever. Contract: only
runs of this machine are judged, since nobody can tell from here whether a process of another one lives, and with them
the runs below them; runs that this product did not write are never touched.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.tracking.connect import connect, find_experiment, guard
from orchestrator.tracking.names import HOST_TAG, PID_TAG, START_TAG, host_filter, parent_filter
from orchestrator.tracking.process import process_is_alive

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STALE_TAG = "orchestrator.closed_as"
"""Why the run was closed from outside."""


def close_stale(
    uri: str, experiment: str, is_alive: Callable[[int, str], bool] = process_is_alive, host: str | None = None
) -> list[str]:
    """Mark the runs of this machine whose process is gone as FAILED.

    Args:
        uri: the tracking store.
        experiment: the MLflow experiment; nothing happens if there is none of that name.
        is_alive: (pid, start) -> whether that process still runs.
        host: the machine to judge; this one by default.

    Returns:
        MLflow's ids of the runs that were closed.

    Raises:
        TrackingError: the store cannot be used.
    """
    client = connect(uri)
    experiment_id = find_experiment(client, uri, experiment)
    if experiment_id is None:
        return []
    here = host or socket.gethostname()
    with guard(uri, "close the runs of crashed drivers"):
        running = client.search_runs([experiment_id], host_filter(here))
        stale = [run.info.run_id for run in running if _is_orphan(run, is_alive)]
        stale += [run_id for parent in stale for run_id in _children_elsewhere(client, experiment_id, parent, here)]
        for run_id in stale:
            client.set_tag(run_id, STALE_TAG, "crashed: its process is gone")
            client.set_terminated(run_id, status="FAILED")
    return stale


def _is_orphan(run: Run, is_alive: Callable[[int, str], bool]) -> bool:
    """Whether the process that the run names is gone; a run that names none is nobody's business."""
    pid = run.data.tags.get(PID_TAG, "")
    return pid.isdigit() and not is_alive(int(pid), run.data.tags.get(START_TAG, ""))


def _children_elsewhere(client: MlflowClient, experiment_id: str, parent: str, here: str) -> list[str]:
    """The running trials on other machines of a sweep whose driver is gone: Ray ends a driver's actors with it."""
    below = client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {parent_filter(parent)}")
    return [run.info.run_id for run in below if run.data.tags.get(HOST_TAG, here) != here]
