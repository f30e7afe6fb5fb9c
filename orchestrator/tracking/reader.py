"""Read recorded runs back: for status, for reports and for charts.

Contract: plain frozen data, no MLflow objects, so that callers need not know the tracker; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.tracking.connect import connect, find_experiment, guard
from orchestrator.tracking.names import KEY_TAG, PARENT_TAG, key_filter, parent_filter
from orchestrator.tracking.store import run_url

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class RunRecord:
    """One recorded run as it stands."""

    run_id: str
    """MLflow's id."""
    experiment_id: str
    """MLflow's id of its experiment."""
    name: str
    """What MLflow shows."""
    key: str
    """Our own id of the run."""
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    parent_run_id: str | None
    """MLflow's id of the run above, e.g. of the sweep."""
    params: dict[str, str]
    """Settings under dotted names."""
    metrics: dict[str, float]
    """The last value of every metric."""
    tags: dict[str, str]
    """All tags."""
    url: str | None
    """Its page on the tracking server, if there is one."""


def find_run(uri: str, experiment: str, key: str) -> RunRecord | None:
    """The run with this key, or none.

    Raises:
        TrackingError: the store cannot be used.
    """
    found = _search(uri, experiment, key_filter(key))
    return found[0] if found else None


def child_runs(uri: str, experiment: str, parent_run_id: str) -> list[RunRecord]:
    """The runs right below one run, oldest first.

    Raises:
        TrackingError: the store cannot be used.
    """
    return _search(uri, experiment, parent_filter(parent_run_id))


def read_history(uri: str, run_id: str, metrics: Iterable[str]) -> list[dict[str, float]]:
    """The values of the given metrics as rows `{"step": ..., metric: ...}` in order of steps, as charts want them.

    Raises:
        TrackingError: the store cannot be used, or has no such run.
    """
    client = connect(uri)
    rows: dict[int, dict[str, float]] = {}
    with guard(uri, "read the history of a run"):
        for name in metrics:
            for point in client.get_metric_history(run_id, name):
                rows.setdefault(point.step, {"step": point.step})[name] = point.value
    return [rows[step] for step in sorted(rows)]


def _search(uri: str, experiment: str, condition: str) -> list[RunRecord]:
    """Every run of the experiment that meets the condition, oldest first."""
    client = connect(uri)
    experiment_id = find_experiment(client, uri, experiment)
    if experiment_id is None:
        return []
    records: list[RunRecord] = []
    token: str | None = None
    with guard(uri, "look up runs"):
        while True:
            page = client.search_runs([experiment_id], condition, order_by=["start_time ASC"], page_token=token)
            records += [_record(uri, run) for run in page]
            token = page.token
            if not token:
                return records


def _record(uri: str, run: Run) -> RunRecord:
    """Our view of an MLflow run."""
    info, tags = run.info, dict(run.data.tags)
    return RunRecord(
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name or "",
        key=tags.get(KEY_TAG, ""),
        status=info.status,
        parent_run_id=tags.get(PARENT_TAG),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=tags,
        url=run_url(uri, info.experiment_id, info.run_id),
    )
