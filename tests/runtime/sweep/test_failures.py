"""What a sweep goes through, each caused for real: a trial that always dies, a tracking server that is away, a full
disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, apply_settings
from orchestrator.runtime.journal import read_journal
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.train import tracking_uri
from orchestrator.tracking import RunRecord, child_runs, find_run, read_history
from orchestrator.training.retention import checkpoints_in
from tests.lab.hosts import Loopback
from tests.lab.servers import TrackingServer
from tests.runtime.processes import Driver, descendants
from tests.runtime.sweep.test_restore import curves, reached, steps_taken

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS, EVERY, TRIALS = 90, 10, 3
Start = Callable[..., Driver]


@pytest.fixture
def config(swept: RunConfig) -> RunConfig:
    """Three trials that take seconds each, two at a time."""
    space = {"optim.lr": {"loguniform": [1e-4, 1e-2]}}
    settings: dict[str, Any] = {"train.steps": STEPS, "eval.every": EVERY, "checkpoint.every": EVERY}
    return apply_settings(swept, {**settings, "sweep": {"space": space, "trials": TRIALS, "max_concurrent": 2}})


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the sweep's command; it does not outlive the test."""
    started: list[Driver] = []

    def begun(config: RunConfig, **settings: Any) -> Driver:
        changed = {name.replace("__", "."): value for name, value in settings.items()}
        started.append(Driver(apply_settings(config, changed), "search", command="sweep", warm=True))
        return started[-1]

    yield begun
    for driver in started:
        driver.dispose()


def recorded(config: RunConfig) -> tuple[RunRecord, list[RunRecord]]:
    """The sweep's run and those of its trials, by their ids, each of which is there once."""
    parent = find_run(tracking_uri(config), config.tracking.experiment, "search")
    assert parent is not None
    children = child_runs(tracking_uri(config), config.tracking.experiment, parent.run_id)
    children.sort(key=lambda child: child.tags["trial"])
    assert [child.tags["trial"] for child in children] == [f"{number:03d}" for number in range(TRIALS + 1)]
    return parent, children


def check_whole(config: RunConfig) -> None:
    """Every trial took its last step, and all that it reported is recorded, once."""
    paths, uri = RunPaths.of(config.storage, "search"), tracking_uri(config)
    parent, children = recorded(config)
    assert {run.status for run in (parent, *children)} == {"FINISHED"}
    for child in children:
        expected = curves(paths)[child.tags["trial"]]
        history = read_history(uri, child.run_id, ["val/loss"])
        assert [(row["step"], row["val/loss"]) for row in history] == expected
        assert expected[-1][0] == (STEPS if child.tags["kind"] == "trial" else 0)
        status = read_json(paths.trial(child.tags["trial"]).status) or {}
        assert status["heard"]["journal.jsonl"] == paths.trial(child.tags["trial"]).journal.stat().st_size


# --- a trial whose process dies


def starts(journal: Path) -> list[int]:
    """The steps at which a trial was started."""
    return [row["facts"]["start"]["step"] for row, _ in read_journal(journal, 0) if "start" in row.get("facts", {})]


def all_starts(paths: RunPaths) -> list[str]:
    """Every trial's id, as often as it was started."""
    journals = paths.folder.glob("trials/*/journal.jsonl")
    return [journal.parent.name for journal in journals for _ in starts(journal)]


def holder(driver: Driver, file: Path) -> int | None:
    """The process below a driver that has a file open."""
    for pid in descendants(driver.pid):
        try:
            opened = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:  # it ended meanwhile
            continue
        if str(file) in opened:
            return pid
    return None


def saved_since_start(paths: RunPaths) -> bool:
    """Whether a trial has a checkpoint that is newer than its latest start."""
    began, saved = starts(paths.journal), checkpoints_in(paths.folder)
    return bool(began and saved) and int(saved[-1].name.removeprefix("step-")) > began[-1]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are found in /proc")
def test_a_trial_whose_process_always_dies_is_marked_and_the_others_go_on(config: RunConfig, start: Start) -> None:
    driver = start(config, scale__max_failures=2)
    trial = RunPaths.of(config.storage, "search").trial("002")
    killed: list[int] = []
    while driver.code is None and len(killed) < 3:
        pid = holder(driver, trial.journal)
        if pid is not None and pid not in killed and saved_since_start(trial):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.05)
    assert len(killed) == 3, driver.said
    driver.finish()
    began = starts(trial.journal)
    assert len(began) == 3 and began[0] == 0 < began[1] < began[2], "every try goes on from the trial's own checkpoint"
    assert driver.said.count("trial 002 failed, and is tried again: its process died") == 2
    parent, children = recorded(config)
    assert [child.status for child in children] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert parent.status == "FINISHED" and children[2].tags["ended"] == "its process died"
    assert parent.metrics["trials/failed"] == 1 and parent.metrics["trials/finished"] == 2
    start(config).finish()
    check_whole(config)


# --- a tracking server that is away


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/files"]
    server = TrackingServer(Loopback(tmp_path), store)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def test_a_server_that_comes_back_has_everything(config: RunConfig, start: Start, server: TrackingServer) -> None:
    config = apply_settings(config, {"tracking.uri": server.uri})
    driver, paths = start(config), RunPaths.of(config.storage, "search")
    driver.until(lambda: steps_taken(paths) > STEPS // 2, "some steps")
    server.kill()
    driver.until(lambda: reached(paths) == TRIALS * STEPS, "the end of all trials, which nothing could record")
    server.start()
    driver.finish()
    assert "cannot be written, and is tried again" in driver.said and "nothing of it was lost" in driver.said
    assert steps_taken(paths) == TRIALS * STEPS
    check_whole(config)
    _, children = recorded(config)
    assert sum(child.tags.get("champion") == "true" for child in children) == 1


def test_a_server_that_stays_away_is_one_error(config: RunConfig, start: Start, server: TrackingServer) -> None:
    config = apply_settings(config, {"tracking.uri": server.uri, "checkpoint.retry_s": 3})
    driver, paths = start(config), RunPaths.of(config.storage, "search")
    driver.until(lambda: steps_taken(paths) > STEPS // 2, "some steps")
    server.kill()
    assert driver.wait() == 2
    assert driver.said.count("hint: is the server running") == 1 + driver.said.count("is tried again")
    assert f"the tracking server at {server.uri} does not answer" in driver.said and "Traceback" not in driver.said
    assert driver.status["state"] == "failed" and "does not answer" in driver.status["error"]
    server.start()
    start(config).finish()
    check_whole(config)


# --- a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of the test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no `mount` on this machine, which would make a small disk")
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; removing the file makes room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@pytest.fixture
def on_disk(config: RunConfig, disk: Path, tmp_path: Path) -> RunConfig:
    """The sweep with everything on the small disk but what its command says."""
    (disk / "runs").mkdir()
    (disk / "runs" / "search.txt").symlink_to(tmp_path / "said.txt")
    return apply_settings(config, {"storage": str(disk / "runs")})


def test_a_disk_that_stays_full_is_one_error_and_one_that_is_full_for_a_while_costs_nothing(
    on_disk: RunConfig, start: Start, disk: Path
) -> None:
    impatient, paths = start(on_disk, checkpoint__retry_s=3), RunPaths.of(on_disk.storage, "search")
    impatient.until(lambda: steps_taken(paths) > STEPS // 2, "some steps")
    ballast = fill(disk)
    assert impatient.wait() == 2
    assert "Traceback" not in impatient.said
    assert re.search(r"error: .*(No space left on device|database or disk is full)", impatient.said)
    ballast.unlink()

    patient, before = start(on_disk), len(all_starts(paths))
    patient.until(lambda: len(all_starts(paths)) >= before + 2, "trials that go on")
    ballast = fill(disk)
    patient.until(lambda: "is tried again" in patient.said, "a word about the disk")
    time.sleep(5)
    ballast.unlink()
    patient.finish()
    assert max(Counter(all_starts(paths)).values()) <= 2, "no trial has failed meanwhile"
    check_whole(on_disk)
