"""Runs that live in object storage: whole runs and sweeps, and what a working copy promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import orchestrator
from orchestrator.checkpoint import read_state, shelf, weights_hash
from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import RunError, RunStopped, StorageError
from orchestrator.runtime import execute
from orchestrator.runtime.home import WorkingCopy, at_home, copy_of
from orchestrator.runtime.journal import Journal
from orchestrator.runtime.lease import Lease
from orchestrator.runtime.paths import RunPaths, write_json
from orchestrator.runtime.status import RunState, read_statuses
from orchestrator.runtime.stopping import StopFile
from orchestrator.runtime.sweep.ledger import Ledger
from orchestrator.runtime.usage import SYSTEM
from orchestrator.storage import Folder, RemoteFolder, join, open_folder
from orchestrator.training.retention import checkpoints_in
from tests.runtime.processes import wait_for
from tests.runtime.sameness import TIMES


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[str]:
    """Object storage of this process alone, empty."""
    uri = f"memory://{tmp_path.name}/runs"
    yield uri
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def remote_config(tiny_config: RunConfig, storage: str, tmp_path: Path) -> RunConfig:
    """The tiny run, whose folder lies there."""
    return moved(tiny_config, storage, tmp_path)


def moved(config: RunConfig, storage: str, folder: Path) -> RunConfig:
    return apply_settings(config, {"storage": storage, "tracking.uri": f"sqlite:///{folder / 'mlflow.db'}"})


def names(home: Folder) -> set[str]:
    return {entry.name for entry in home.entries()}


def test_a_run_in_object_storage_is_the_run_in_a_folder(
    tiny_config: RunConfig, remote_config: RunConfig, storage: str
) -> None:
    here, there = orchestrator.train(tiny_config, "one"), orchestrator.train(remote_config, "one")
    assert (there.step, there.best, there.best_step) == (here.step, here.best, here.best_step)
    states = [read_state(run.best_checkpoint) for run in (here, there)]
    assert weights_hash(states[0].weights) == weights_hash(states[1].weights)
    saved = [[shelf.name_of(path) for path in checkpoints_in(run.folder)] for run in (here, there)]
    assert saved[0] == saved[1]
    home = open_folder(there.folder)
    assert {"run.json", "status.json", "pairs/val.parquet", "pairs/best.parquet"} <= names(home)
    assert not [name for name in names(home) if name.startswith("drivers/")]
    parts = sorted(name for name in names(home) if name.startswith("journal/"))
    kept = [line for name in parts for line in home.read(name).splitlines()]
    written = (Path(here.folder) / "journal.jsonl").read_bytes().splitlines()
    assert [_told(line) for line in kept] == [_told(line) for line in written]
    (status,) = read_statuses(storage)
    assert (status.name, status.state, status.step, status.checkpoint) == ("one", RunState.FINISHED, 12, 12)
    assert status.folder == there.folder
    assert not list(RunPaths.of(storage, "one").storage.iterdir())  # nothing stays behind here
    assert orchestrator.train(remote_config, "one").step == 12  # finished already


def test_a_stopped_run_continues_exactly_on_another_machine(
    tiny_config: RunConfig, remote_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = orchestrator.train(tiny_config, "one")
    monkeypatch.setattr(execute, "seldom", lambda ask: _asks_at(ask, 5))
    with pytest.raises(RunStopped):
        orchestrator.train(remote_config, "one")
    monkeypatch.undo()
    (status,) = read_statuses(remote_config.storage)
    assert status.state is RunState.STOPPED and 0 < status.step < 12
    again = orchestrator.train(remote_config, "one")
    ends = [read_state(checkpoints_in(run.folder)[-1]) for run in (whole, again)]
    assert weights_hash(ends[0].weights) == weights_hash(ends[1].weights)
    assert again.best == whole.best and read_statuses(remote_config.storage)[0].restarts == 1


def test_another_run_of_the_name_and_another_driver_are_refused(remote_config: RunConfig, storage: str) -> None:
    orchestrator.train(apply_settings(remote_config, {"train.steps": 0}), "one")
    with pytest.raises(RunError, match=r"exists with other settings: `train.steps` was 0 and is 12"):
        orchestrator.train(remote_config, "one")
    elsewhere = {"host": "another", "pid": 1, "start": ""}
    open_folder(join(storage, "two")).write("drivers/another.json", json.dumps(elsewhere).encode())
    alive = threading.Event()
    driver = threading.Thread(target=_sign_until, args=(join(storage, "two/drivers"), elsewhere, alive))
    driver.start()
    try:
        with pytest.raises(RunError, match="another process is driving the run 'two'"):
            orchestrator.train(remote_config, "two")
    finally:
        alive.set()
        driver.join()
    assert not [name for name in names(open_folder(join(storage, "two"))) if "step-" in name]


def test_what_is_written_here_is_at_home_and_what_others_write_comes_here(storage: str) -> None:
    paths = RunPaths.of(storage, "one")
    home = open_folder(paths.where)
    home.write("run.json", b"{}")
    home.write("trials/000/journal/00001-000000-abc.jsonl", b'{"at": 1}\n')
    home.write("step-000000001/model.safetensors", b"heavy")
    with at_home(paths) as copy:
        assert copy_of(paths) is copy and copy_of(paths.trial("000")) is copy
        assert paths.identity.read_text() == "{}" and not paths.folder.joinpath("step-000000001").exists()
        assert paths.trial("000").journal.read_text() == '{"at": 1}\n'
        write_json(paths.status, {"step": 1})
        (paths.folder / "pairs").mkdir()
        paths.pairs.write_bytes(b"pairs")
        Journal(paths.journal, keep=copy.flush).append(note="hello")
        copy.flush()
        assert {"status.json", "pairs/val.parquet"} <= names(home)
        assert b"hello" in home.read(next(name for name in names(home) if name.startswith("journal/")))
        paths.pairs.unlink()
        home.write("trials/000/journal/00001-000000-abc.jsonl", b'{"at": 1}\n{"at": 2}\n')
        copy.follow("trials/000/journal.jsonl")
        copy.fetch()
        assert paths.trial("000").journal.read_text() == '{"at": 1}\n{"at": 2}\n'
        write_json(paths.status, {"step": 2})
    assert json.loads(home.read("status.json")) == {"step": 2} and "pairs/val.parquet" not in names(home)
    assert home.read("step-000000001/model.safetensors") == b"heavy" and not paths.folder.exists()


def test_anybody_may_ask_a_run_to_stop_and_what_an_earlier_start_was_asked_is_done_with(storage: str) -> None:
    paths = RunPaths.of(storage, "one")
    home = open_folder(paths.where)
    home.write("stop", b"stop\n")
    with at_home(paths) as copy:
        file = StopFile(paths.folder)
        file.clear()
        copy.flush()
        assert home.read("stop") == b"" and not file.asked()
        home.write("stop", b"please\n")  # by hand, say
        copy.fetch()
        assert file.asked()
        file.clear()
        copy.flush()
        copy.fetch()
        assert home.read("stop") == b"" and not file.asked()
        file.ask()
    assert home.read("stop") == b"stop\n"


def test_a_storage_that_refuses_is_asked_again_and_nothing_is_lost(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses, told = threading.Event(), list[str]()
    refuses.set()
    write = RemoteFolder.write

    def sometimes(folder: RemoteFolder, name: str, content: bytes) -> None:
        if refuses.is_set():
            raise StorageError(f"{folder.name} is full")
        write(folder, name, content)

    monkeypatch.setattr(RemoteFolder, "write", sometimes)
    copy = WorkingCopy(tmp_path, open_folder(storage), tell=told.append)
    journal = Journal(tmp_path / "journal.jsonl", keep=copy.flush)
    journal.append(note="one")
    with pytest.raises(OSError, match="is full"):
        journal.sync()
    copy.start()
    wait_for(lambda: len(told) == 1, "the refusal to be told", 60)
    journal.append(note="two")
    refuses.clear()
    wait_for(lambda: len(told) == 2, "the storage to take it again", 60)
    copy.end()
    assert "refuses" in told[0] and "nothing of it was lost" in told[1]
    (part,) = [name for name in names(open_folder(storage)) if name.startswith("journal/")]
    rows = [json.loads(line) for line in open_folder(storage).read(part).splitlines()]
    assert [row["note"] for row in rows] == ["one", "two"]


def test_an_error_of_the_run_is_what_is_told_when_the_storage_refuses_too(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths.of(storage, "one")
    with pytest.raises(RunError, match="the first") as caught, at_home(paths):
        write_json(paths.status, {})
        monkeypatch.setattr(RemoteFolder, "write", _refuse)
        raise RunError("the first")
    assert "not all of the run's record is at home" in caught.value.__notes__[0]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_two_workers_without_a_shared_folder_train_the_same_run(tiny_config: RunConfig, tmp_path: Path) -> None:
    """`local:` is a folder behind a URI: the processes of a test share it, and it is used like any other storage."""
    config = apply_settings(tiny_config, {"scale.num_workers": 2})
    here = orchestrator.train(config, "one")
    there = orchestrator.train(moved(config, f"local://{tmp_path}/store", tmp_path), "one")
    states = [read_state(checkpoints_in(run.folder)[-1]) for run in (here, there)]
    assert weights_hash(states[0].weights) == weights_hash(states[1].weights)
    assert there.best == here.best and there.step == 12
    assert read_statuses(f"local://{tmp_path}/store")[0].state is RunState.FINISHED


@pytest.mark.usefixtures("ray_session")
def test_a_sweep_without_a_shared_folder_has_its_trials_its_answer_and_goes_on(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    storage = f"local://{tmp_path}/store"
    space = {"trials": 2, "space": {"optim.lr": {"choice": [1e-3, 1e-4]}}, "scheduler": "none"}
    settings = {"sweep": space, "scale.num_workers": 1, "train.steps": 6, "checkpoint.every": 6}
    config = moved(apply_settings(tiny_config, settings), storage, tmp_path)
    result = orchestrator.sweep(config, "search")
    assert {trial.state for trial in result.ranking} == {"finished"}
    home = open_folder(result.folder)
    assert {"report.html", "trials.jsonl", "pairs/val.parquet", "trials/001/pairs/best.parquet"} <= names(home)
    for trial in result.ranking:
        assert trial.curve[-1].step == 6 and trial.checkpoint.startswith(storage)
        assert read_state(trial.checkpoint).step in (0, 6)
    before = {entry.name: entry.mtime_ns for entry in home.entries() if "/step-" in entry.name}
    again = orchestrator.sweep(config, "search")
    assert [trial.trial for trial in again.ranking] == [trial.trial for trial in result.ranking]
    assert {entry.name: entry.mtime_ns for entry in home.entries() if "/step-" in entry.name} == before
    (status,) = read_statuses(storage, "search")
    assert status.state is RunState.FINISHED and [trial.state for trial in status.trials] == [RunState.FINISHED] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_population_without_a_shared_folder_copies_its_best(tiny_config: RunConfig, tmp_path: Path) -> None:
    storage = f"local://{tmp_path}/store"
    rates = {"optim.lr": {"loguniform": [1e-5, 1e-1]}}
    population = {"trials": 2, "space": rates, "scheduler": "pbt", "interval_steps": 6}
    settings = {"sweep": population, "scale.num_workers": 1, "eval.every": 6, "optim.warmup_steps": 0}
    settings |= {"checkpoint.metric": "val/loss", "checkpoint.keep": 9}
    config = moved(apply_settings(tiny_config, settings), storage, tmp_path)
    result = orchestrator.sweep(config, "population")
    with at_home(paths := RunPaths.of(storage, "population")):
        ledger = Ledger(paths.ledger)
        assert ledger.rounds == 2
        (copy,) = [entry for entry in ledger.trials() if entry.copies]
        ((number, donor),) = copy.copies
        mine, theirs = (paths.trial(trial).checkpoint(6) for trial in (copy.trial, donor))
        assert number == 1 and weights_hash(read_state(mine).weights) == weights_hash(read_state(theirs).weights)
    assert all(trial.curve[-1].step == 12 for trial in result.ranking)


def _told(line: bytes) -> dict[str, Any]:
    """What a row of a journal says, without what depends on the machine and the moment."""
    row = json.loads(line)
    figures = {k: v for k, v in row.get("figures", {}).items() if k not in TIMES and not k.startswith(SYSTEM)}
    return {key: value for key, value in row.items() if key not in ("at", "figures")} | {"figures": figures}


def _asks_at(ask: Any, times: int) -> Any:
    """The same question, which is answered with yes after it was put so often."""
    count = 0

    def answer() -> bool:
        nonlocal count
        count += 1
        return bool(ask()) or count > times

    return answer


def _sign_until(drivers: str, who: dict[str, Any], ended: threading.Event) -> None:
    """What a driver elsewhere does."""
    while not ended.wait(0.2):
        open_folder(drivers).write("another.json", json.dumps(who).encode())


def _refuse(folder: RemoteFolder, name: str, content: bytes) -> None:
    raise StorageError(f"{folder.name} is full")


def test_one_that_has_ended_and_that_nobody_asked_how_is_dead(storage: str) -> None:
    home = open_folder(storage)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
    with Lease(home, "one"):
        (mine,) = [entry.name for entry in home.entries()]
        said = {**json.loads(home.read(mine)), "pid": ended.pid}
    home.write("drivers/zombie.json", json.dumps(said).encode())
    with Lease(home, "one"):
        assert "drivers/zombie.json" not in names(home)
    ended.wait()


def test_a_dead_driver_is_outlived(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, told = open_folder(storage), list[str]()
    monkeypatch.setattr("orchestrator.runtime.lease._DEAD_AFTER_S", 0.2)
    monkeypatch.setattr("orchestrator.runtime.lease._PAUSE_S", 0.05)
    home.write("drivers/old.json", json.dumps({"host": "gone", "pid": 1, "start": ""}).encode())
    with Lease(home, "one", told.append):
        assert [name for name in names(home) if name.startswith("drivers/")] != ["drivers/old.json"]
        assert len(names(home)) == 1 and len(told) == 1
        with pytest.raises(RunError, match="another process is driving"), Lease(home, "one"):
            pass
        assert len(names(home)) == 1
    assert names(home) == set()
