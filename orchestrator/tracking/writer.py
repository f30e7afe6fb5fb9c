"""One writer of one MLflow run: started or continued under a stable key, closed with the truth about how it ended.

Why: Ray's MLflow callback makes a second run after every recovery and logs steps twice. Contract: the run with a given
key exists once per experiment; no metric has two values at one step; every failure is a `TrackingError`; nothing is
kept in MLflow's global state, so several runs can be written side by side. A writer belongs to one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from orchestrator.errors import TrackingError
from orchestrator.tracking.connect import connect, ensure_experiment, guard
from orchestrator.tracking.names import CHANGED_PREFIX, HOST_TAG, KEY_TAG, PARENT_TAG, PID_TAG, START_TAG, key_filter
from orchestrator.tracking.params import clean_tags, flatten, safe_name
from orchestrator.tracking.process import this_process
from orchestrator.tracking.redaction import redact, redact_tree
from orchestrator.tracking.steps import StepFilter
from orchestrator.tracking.store import run_url

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run can end."""

_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100
_Item = TypeVar("_Item")


class RunWriter:
    """Writes one run; use `start` to get one, and as a context manager to have it closed whatever happens.

    Leaving the `with` block marks the run FINISHED, on KeyboardInterrupt KILLED, on any other exception FAILED.
    """

    def __init__(
        self, client: MlflowClient, uri: str, run: Run, *, continued: bool, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._uri = uri
        self._clock = clock
        self._params = dict(run.data.params)
        self._tags = dict(run.data.tags)
        self._latest = dict(run.data.metrics)
        self._steps = StepFilter(self._last_logged, self._tags)
        self._ended = False
        self.run_id: str = run.info.run_id
        """MLflow's id of the run; give it as `parent_run_id` to nest others below."""
        self.experiment_id: str = run.info.experiment_id
        """MLflow's id of the experiment."""
        self.continued = continued
        """Whether the run existed before."""

    @classmethod
    def start(
        cls,
        uri: str,
        experiment: str,
        name: str,
        key: str,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Continue the run with this key, or make it.

        Args:
            uri: the tracking store, as `resolve_uri` gives it.
            experiment: the MLflow experiment, made if missing.
            name: what MLflow shows; a continued run keeps the name that it has.
            key: our own id of the run within the experiment, the same whenever it is started again.
            parent_run_id: MLflow's id of the run to nest this one under.
            tags: further tags.
            clock: seconds since the epoch.

        Raises:
            TrackingError: the store cannot be used.
        """
        client = connect(uri)
        experiment_id = ensure_experiment(client, uri, experiment)
        mark = this_process()
        own = {KEY_TAG: key, HOST_TAG: mark.host, PID_TAG: str(mark.pid), START_TAG: mark.start}
        own |= {PARENT_TAG: parent_run_id} if parent_run_id else {}
        all_tags = {**clean_tags(tags or {}), **own}
        with guard(uri, f"start the run {name!r}"):
            found = client.search_runs([experiment_id], key_filter(key), max_results=1, order_by=["start_time ASC"])
            if not found:
                run = client.create_run(experiment_id, tags=all_tags, run_name=name)
                return cls(client, uri, run, continued=False, clock=clock)
            writer = cls(client, uri, found[0], continued=True, clock=clock)
            client.update_run(writer.run_id, status="RUNNING")
        writer._write_tags(all_tags)
        return writer

    @property
    def url(self) -> str | None:
        """The page of the run on its tracking server; none for a store without pages (see `open_hint`)."""
        return run_url(self._uri, self.experiment_id, self.run_id)

    def log_params(self, settings: Mapping[str, Any]) -> None:
        """Record settings, nested ones under dotted names.

        A setting that has the value it was first logged with is left alone. MLflow refuses to change a param, so a
        different value becomes the tag `changed.<setting>` (and the tag goes when the first value is back).
        """
        wanted = flatten(settings)
        new = {name: value for name, value in wanted.items() if name not in self._params}
        for chunk in _chunks(new.items(), _PARAMS_PER_CALL):
            self._batch(params=dict(chunk))
            self._params.update(chunk)
        self.set_tags({CHANGED_PREFIX + n: v for n, v in wanted.items() if v != self._params[n]})
        for name in (CHANGED_PREFIX + n for n, v in wanted.items() if v == self._params[n]):
            if name in self._tags:
                self._delete_tag(name)

    def log_metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Record the metrics of one step (>= 0), one call to the store per thousand.

        A metric that already has a value at this step or a later one is left out. So is a value that is NaN or
        infinite: the tag `nonfinite.<metric>` counts those, with their first and last step.
        """
        finite, odd = self._steps.split({safe_name(name): value for name, value in values.items()}, step)
        for chunk in _chunks(finite.items(), _METRICS_PER_CALL):
            self._batch(metrics=[(name, value, step) for name, value in chunk])
            self._steps.commit(dict(chunk), step)
        if odd:
            self._write_tags(self._steps.count(odd, step))
            self._steps.commit(odd, step)

    def log_standing(self, values: Mapping[str, Any], step: int) -> None:
        """Record how something stands now, e.g. counts: at `step`, or right after the latest step where that is not
        before it; nothing when it stands as it did."""
        named = {safe_name(name): float(value) for name, value in values.items()}
        if any(self._latest.get(name) != value for name, value in named.items()):
            self.log_metrics(named, max(step, *(self._steps.last(name) + 1 for name in named)))
            self._latest.update(named)

    def log_history(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Record the metrics of many steps, each as `log_metrics` does, in one call to the store per thousand.

        After an error nobody knows which of them the store has: a new writer asks it.

        Args:
            rows: (step, metrics), oldest first.
        """
        points: list[tuple[str, float, int]] = []
        for step, values in rows:
            finite, odd = self._steps.split({safe_name(name): value for name, value in values.items()}, step)
            points += [(name, value, step) for name, value in finite.items()]
            if odd:
                self._write_tags(self._steps.count(odd, step))
            self._steps.commit([*finite, *odd], step)
        for chunk in _chunks(points, _METRICS_PER_CALL):
            self._batch(metrics=chunk)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; a tag that already has the value is left alone."""
        self._write_tags({name: value for name, value in clean_tags(tags).items() if self._tags.get(name) != value})

    def log_text(self, text: str, artifact_file: str) -> None:
        """Keep a text as a file of the run, e.g. `reports/normalize.txt`, credentials in addresses hidden."""
        with self._guard(f"log {artifact_file}"):
            self._client.log_text(self.run_id, redact(text), artifact_file)

    def log_dict(self, value: Mapping[str, Any], artifact_file: str) -> None:
        """Keep nested settings or results as a `.json` or `.yaml` file of the run, secrets hidden."""
        with self._guard(f"log {artifact_file}"):
            self._client.log_dict(self.run_id, redact_tree(dict(value)), artifact_file)

    def log_figure(self, figure: Figure, artifact_file: str) -> None:
        """Keep a chart as a file of the run, e.g. `charts/loss.png`; logging it again replaces it."""
        with self._guard(f"log {artifact_file}"):
            self._client.log_figure(self.run_id, figure, artifact_file)

    def log_file(self, path: str | Path, artifact_path: str | None = None) -> None:
        """Keep a copy of a local file, or of a whole folder, in the folder `artifact_path` of the run."""
        log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        with self._guard(f"log {path}"):
            log(self.run_id, str(path), artifact_path)

    def finish(self, status: EndStatus = "FINISHED") -> None:
        """Close the run; closing it again changes nothing."""
        if self._ended:
            return
        with self._guard("close the run"):
            self._client.set_terminated(self.run_id, status=status, end_time=self._now())
        self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish(_end_status(kind))
        except TrackingError as tracking_error:
            if error is None:
                raise
            error.add_note(f"besides, the run could not be closed in MLflow: {tracking_error}")

    def _last_logged(self, name: str) -> int | None:
        """The highest step of a metric in the store; read only for metrics that the run had when it was continued."""
        if name not in self._latest:
            return None
        with self._guard(f"read the history of {name}"):
            history = self._client.get_metric_history(self.run_id, name)
        return max((metric.step for metric in history), default=None)

    def _batch(
        self, params: Mapping[str, str] | None = None, metrics: Iterable[tuple[str, float, int]] | None = None
    ) -> None:
        """Send params, or metrics as (name, value, step), in one call."""
        from mlflow.entities import Metric, Param

        now = self._now()
        points = [Metric(name, value, now, step) for name, value, step in (metrics or ())]
        settings = [Param(name, value) for name, value in (params or {}).items()]
        with self._guard("log metrics" if metrics else "log params"):
            self._client.log_batch(self.run_id, metrics=points, params=settings)

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        """Send tags as they are, and remember them."""
        from mlflow.entities import RunTag

        for chunk in _chunks(tags.items(), _PARAMS_PER_CALL):
            with self._guard("set tags"):
                self._client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in chunk])
            self._tags.update(chunk)

    def _delete_tag(self, name: str) -> None:
        with self._guard(f"delete the tag {name}"):
            self._client.delete_tag(self.run_id, name)
        del self._tags[name]

    def _guard(self, action: str) -> AbstractContextManager[None]:
        return guard(self._uri, action)

    def _now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock() * 1000)


def _end_status(kind: type[BaseException] | None) -> EndStatus:
    """How a run ended whose `with` block was left by an exception of this kind, or by none."""
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
