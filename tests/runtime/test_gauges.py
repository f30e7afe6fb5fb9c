"""What Prometheus hears of runs: every figure, under fixed labels, as long as the run lasts, and never to its harm."""

from __future__ import annotations

import gc
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime import recorder
from orchestrator.runtime.gauges import EXPORTED, LEARNING_STATES, PREFIX, RUN_STATES, Exported, Exporter, Gauges
from orchestrator.runtime.sweep import sweep
from orchestrator.runtime.train import train

T = TypeVar("T")
Seen = dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]


class Fakes:
    """Gauges that remember what they were set to."""

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.made: list[str] = []

    def make(self, metric: Exported) -> Any:
        self.made.append(metric.name)
        fakes = self

        class Fake:
            def set(self, value: float, tags: dict[str, str]) -> None:
                assert set(tags) == set(metric.labels)
                fakes.seen.setdefault((metric.name, tuple(sorted(tags.items()))), []).append(value)

        return Fake()

    def latest(self, run: str, trial: str = "") -> dict[str, float]:
        """The latest values of a run by metric, without the prefix that all share."""
        labels = (("run", run), ("trial", trial))
        return {name.removeprefix("syncnet_"): v[-1] for (name, found), v in self.seen.items() if found == labels}


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def exporter(fakes: Fakes) -> Exporter:
    """It sets again only when a test says so."""
    return Exporter(fakes.make, lambda: True, every_s=0)


REPORT = {
    "step": 30.0,
    "samples": 240.0,
    "train/samples_per_s": 80.0,
    "train/data_wait": 0.25,
    "train/loss": 0.6931,
    "train/lr": 1e-4,
    "train/skipped": 2.0,
    "val/auc": 0.75,
    "best/value": 0.7,
    "best/step": 20.0,
    "learning/state": 2.0,
    "system/checkpoint_seconds": 1.5,
    "system/checkpoint_age_seconds": 60.0,
    "system/cpu_percent": 90.0,
}


def test_a_report_is_shown(exporter: Exporter, fakes: Fakes) -> None:
    shown = Gauges("first", exporter=exporter)
    shown.take({"state": "running", "restarts": 1, "total_steps": 100})
    assert fakes.latest("first") == {"run_state": 0, "restarts": 1}, "nothing is known of its steps yet"
    shown.take({"metrics": REPORT, "steps_per_s": 10.0, "reported": 1000.0, "total_steps": 100, "step": 30})
    found = fakes.latest("first")
    assert found == {
        "run_state": 0,
        "restarts": 1,
        "step": 30,
        "total_steps": 100,
        "samples": 240,
        "steps_per_second": 10,
        "samples_per_second": 80,
        "data_wait_ratio": 0.25,
        "train_loss": 0.6931,
        "learning_rate": 1e-4,
        "skipped_steps": 2,
        "val_auc": 0.75,
        "best_value": 0.7,
        "best_step": 20,
        "learning_state": 2,
        "checkpoint_seconds": 1.5,
        "checkpoint_timestamp_seconds": 940,
        "report_timestamp_seconds": 1000,
    }
    assert LEARNING_STATES[int(found["learning_state"])] == "LEARNING"


def test_they_are_set_again_while_the_run_lasts(exporter: Exporter, fakes: Fakes) -> None:
    """Ray forgets what was not set since it exported last."""
    shown = Gauges("first", "001", exporter)
    shown.take({"state": "running"})
    key = ("syncnet_run_state", (("run", "first"), ("trial", "001")))
    before = len(fakes.seen[key])
    assert exporter.refresh() and len(fakes.seen[key]) == before + 1
    shown.take({"state": "failed", "error": "out of memory"})
    assert RUN_STATES[int(fakes.seen[key][-1])] == "failed"
    shown.take({"notes": []})
    before = len(fakes.seen[key])
    assert not exporter.refresh() and len(fakes.seen[key]) == before, "it has ended, and is forgotten"


def test_a_run_that_nobody_records_any_more_is_forgotten(exporter: Exporter, fakes: Fakes) -> None:
    shown = Gauges("first", exporter=exporter)
    shown.take({"state": "running"})
    assert exporter.refresh()
    del shown
    gc.collect()
    assert not exporter.refresh()


def test_a_thread_sets_them_and_ends_with_the_last(fakes: Fakes) -> None:
    enough = threading.Event()

    def make(metric: Exported) -> Any:
        fake = fakes.make(metric)

        class Counting:
            def set(self, value: float, tags: dict[str, str]) -> None:
                fake.set(value, tags)
                if len(fakes.seen["syncnet_run_state", (("run", "first"), ("trial", ""))]) == 4:
                    enough.set()

        return Counting()

    exporter = Exporter(make, lambda: True, every_s=0.001)
    shown = Gauges("first", exporter=exporter)
    for _ in range(2):  # a run that goes on is shown again
        enough.clear()
        fakes.seen.clear()
        shown.take({"state": "running"})
        thread = exporter._thread
        assert thread is not None and enough.wait(30)
        shown.take({"state": "finished"})
        thread.join(30)
        assert not thread.is_alive()


def test_the_trials_of_a_sweep_by_state(exporter: Exporter, fakes: Fakes) -> None:
    shown = Gauges("first", exporter=exporter)
    shown.take({"state": "running", "trials": 9})
    shown.trials({"waiting": 1, "stopped early": 3})
    assert fakes.latest("first")["total_trials"] == 9
    labels = (("run", "first"), ("state", "stopped early"), ("trial", ""))
    assert fakes.seen["syncnet_trials", labels] == [3]


def test_without_ray_nothing_is_exported_nor_made(fakes: Fakes) -> None:
    exporter = Exporter(fakes.make, lambda: False, every_s=0)
    shown = Gauges("first", exporter=exporter)
    shown.take({"state": "running", "metrics": REPORT, "total_steps": 1})
    exporter.refresh()
    assert (fakes.made, fakes.seen) == ([], {})


def test_a_run_goes_on_without_gauges_when_ray_refuses_them(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def refuse(metric: Exported) -> Any:
        asked.append(metric.name)
        raise RuntimeError("the agent is gone")

    shown = Gauges("first", exporter=Exporter(refuse, lambda: True, every_s=0))
    with caplog.at_level(logging.WARNING, "orchestrator"):
        shown.take({"state": "running"})
        shown.take({"restarts": 1})
    assert asked == ["syncnet_run_state"], "it is asked once"
    assert [record.getMessage() for record in caplog.records] == [
        "no metrics are exported any more: RuntimeError: the agent is gone"
    ]


def test_names_labels_and_states_are_of_fixed_lists() -> None:
    names = [metric.name for metric in EXPORTED]
    assert len(set(names)) == len(names) and all(name.startswith("syncnet_") for name in names)
    assert {label for metric in EXPORTED for label in metric.labels} == {"run", "trial", "state"}
    assert set(RUN_STATES) == {"running", *recorder._ENDS}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, exporter: Exporter) -> None:
    """What runs in this process say goes to the fakes."""
    monkeypatch.setattr(recorder, "Gauges", lambda run, trial="": Gauges(run, trial, exporter))


def test_a_run_shows_all_there_is(tiny_config: RunConfig, fakes: Fakes, shown: None) -> None:
    train(tiny_config, "run")
    found = fakes.latest("run")
    of_runs = {metric.name.removeprefix("syncnet_") for metric in EXPORTED if "trials" not in metric.name}
    short = {"checkpoint_seconds"}  # measured once a second: this run is over before
    assert of_runs - short <= found.keys()
    assert (found["step"], found["total_steps"], found["run_state"]) == (12, 12, RUN_STATES.index("finished"))
    assert 0 < found["checkpoint_timestamp_seconds"] <= found["report_timestamp_seconds"] <= time.time()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_prometheus_sees_a_run_and_a_sweep_and_their_end(tiny_config: RunConfig) -> None:
    config = apply_settings(tiny_config, {"scale.num_workers": 1, "train.steps": 4, "eval.every": 2})
    train(config, "seen")
    seen = eventually(lambda: ended(scraped(), "seen"))
    names = {metric.name for metric in EXPORTED if "trials" not in metric.name} - {"syncnet_checkpoint_seconds"}
    assert names <= {sample.name.removeprefix(PREFIX) for sample in seen}
    sweep(apply_settings(config, {"sweep": {"space": {"optim.lr": {"grid": [1e-3, 1e-5]}}, "search": "grid"}}), "tried")
    samples = eventually(lambda: ended(scraped(), "tried"))
    trials = {(sample.labels["state"], sample.value) for sample in samples if sample.name == f"{PREFIX}syncnet_trials"}
    assert ("finished", 2) in trials and ("failed", 0) in trials and len(trials) == 5
    assert {sample.labels["trial"] for sample in samples} == {"", "000", "001"}
    assert eventually(lambda: not any(sample.labels["run"] == "seen" for sample in scraped())), "it is forgotten"


def eventually(look: Callable[[], T]) -> T:
    """What there is to see once there is something: Ray exports every ten seconds."""
    deadline = time.monotonic() + 120
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def scraped() -> list[Any]:
    """What is exported of runs by the node here."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [one for family in families for one in family.samples if one.name.startswith(f"{PREFIX}syncnet_")]


def ended(samples: list[Any], run: str) -> list[Any]:
    """The samples of a run, once they tell that it has ended."""
    own = [sample for sample in samples if sample.labels["run"] == run]
    state = [s.value for s in own if s.name == f"{PREFIX}syncnet_run_state" and not s.labels["trial"]]
    return own if state == [RUN_STATES.index("finished")] else []
