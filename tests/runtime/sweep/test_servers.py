"""Sweeps recorded on a real tracking server, over SQLite and over PostgreSQL, whose driver is killed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator.checkpoint import load_state
from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.train import tracking_uri
from orchestrator.tracking import RunRecord, child_runs, find_run
from orchestrator.tracking.registry import WEIGHTS
from tests.lab.hosts import Loopback
from tests.lab.servers import PostgresServer, TrackingServer, missing
from tests.runtime.processes import Driver
from tests.runtime.sweep.test_restore import steps_taken

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS, EVERY, TRIALS = 60, 10, 3
STARTED = ("start.verb", "start.state", "pairs_hash", "learning.state", "restarts")
"""Tags of every child."""


@pytest.fixture
def begin(swept: RunConfig) -> Iterator[Callable[[str], Driver]]:
    """Start the sweep's command with a tracking server; it does not outlive the test."""
    space = {"optim.lr": {"loguniform": [1e-4, 1e-2]}, "train.global_batch": {"grid": [8, 16, 24]}}
    settings: dict[str, Any] = {"train.steps": STEPS, "eval.every": EVERY, "checkpoint.every": EVERY}
    sweep = {"space": space, "trials": 1, "max_concurrent": 2}
    config = apply_settings(swept, {**settings, "optim.warmup_steps": 0, "sweep": sweep})
    started: list[Driver] = []

    def begun(uri: str) -> Driver:
        started.append(Driver(apply_settings(config, {"tracking.uri": uri}), "search", command="sweep", warm=True))
        return started[-1]

    yield begun
    for driver in started:
        driver.dispose()


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own."""
    if reason := missing():
        pytest.skip(reason)
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrackingServer]:
    """A tracking server that runs; the parameter names its store and who writes artifacts."""
    store, _, artifacts = request.param.partition(", ")
    uri = request.getfixturevalue("postgres").uri if store == "postgres" else f"sqlite:///{tmp_path}/server.db"
    place = tmp_path / "artifacts"
    direct = ["--no-serve-artifacts", "--default-artifact-root", place.as_uri()]
    options = ["--artifacts-destination", str(place)] if artifacts == "proxied" else direct
    server = TrackingServer(Loopback(tmp_path), ["--backend-store-uri", uri, *options])
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("server", ["sqlite, proxied", "postgres, direct"], indirect=True)
def test_a_sweep_on_a_server(begin: Callable[[str], Driver], server: TrackingServer, swept: RunConfig) -> None:
    paths = RunPaths.of(swept.storage, "search")
    first = begin(server.uri)
    first.until(lambda: steps_taken(paths) > STEPS, "some steps")
    first.kill()
    second = begin(server.uri)
    second.finish()
    assert find_run(tracking_uri(swept), "syncnet", "search") is None, "nothing is recorded anywhere else"
    parent = find_run(server.uri, "syncnet", "search")
    assert parent is not None and parent.url is not None and parent.url.startswith(server.uri)
    children = child_runs(server.uri, "syncnet", parent.run_id)
    client = MlflowClient(tracking_uri=server.uri)
    _check_runs(client, parent, children)
    for child in children:
        _check_child(client, child)
    _check_champion(client, parent, children, paths)
    begin(server.uri).finish()
    assert [str(version.version) for version in client.search_model_versions()] == ["1"], "once more registers nothing"
    assert len(child_runs(server.uri, "syncnet", parent.run_id)) == len(children)


def _check_runs(client: MlflowClient, parent: RunRecord, children: list[RunRecord]) -> None:
    every = client.search_runs([parent.experiment_id])
    status = Counter(run.info.status for run in every)
    assert status == {"FINISHED": len(children) + 1}, "no run is left open, and there is none but these"
    assert [child.tags["trial"] for child in sorted(children, key=lambda each: each.name)] == [
        f"{number:03d}" for number in range(TRIALS + 1)
    ]
    assert parent.tags["kind"] == "sweep" and parent.metrics["trials/finished"] == TRIALS
    files = {file.path for file in client.list_artifacts(parent.run_id)}
    assert {"report.html", "ranking.json", "charts"} <= files
    found = client.search_runs([parent.experiment_id], "tags.sweep = 'search' and tags.kind = 'baseline'")
    assert len(found) == 1


def _check_child(client: MlflowClient, child: RunRecord) -> None:
    kind = "baseline" if child.tags["trial"] == "000" else "trial"
    assert child.tags["kind"] == kind and child.tags["sweep"] == "search"
    assert not [tag for tag in STARTED if not child.tags.get(tag)]
    assert len(client.list_artifacts(child.run_id, "charts")) == 2
    batch, last = 8, 0
    if kind == "trial":
        batch, last = int(child.tags["swept.train.global_batch"]), int(child.metrics["best/step"])
        assert (
            child.params["train.global_batch"] == str(batch)
            and child.params["optim.lr"] == child.tags["swept.optim.lr"]
        )
        last = STEPS * 8 // batch
    steps = _steps(client, child, "val/accuracy")
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == last, "no step twice, none missing"
    assert _steps(client, child, "by_samples/val/accuracy") == [batch * step for step in steps]
    assert _steps(client, child, "system/memory_gib")[0] == 0


def _steps(client: MlflowClient, child: RunRecord, metric: str) -> list[int]:
    return [point.step for point in client.get_metric_history(child.run_id, metric)]


def _check_champion(client: MlflowClient, parent: RunRecord, children: list[RunRecord], paths: RunPaths) -> None:
    (crowned,) = [child for child in children if child.tags.get("champion") == "true"]
    assert crowned.tags["trial"] == parent.tags["champion"]
    version = client.get_model_version_by_alias("syncnet.search", "champion")
    assert (version.run_id, str(version.version)) == (crowned.run_id, "1")
    assert version.tags["trial"] == crowned.tags["trial"] and version.tags["start.state"] == crowned.tags["start.state"]
    assert [file.path for file in client.list_artifacts(crowned.run_id, "model")] == [WEIGHTS]
    file = client.download_artifacts(crowned.run_id, WEIGHTS)
    stored, saved = load_state(file), load_state(paths.trial(crowned.name).checkpoint(int(version.tags["step"])))
    assert stored.weights.keys() == saved.weights.keys()
    assert all(bool((stored.weights[name] == saved.weights[name]).all()) for name in saved.weights)
