"""Checkpoints beside training: one at a time, whole or absent, tried again when refused, passed over when damaged."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.checkpoint import TrainState, is_complete, read_state, save_state, state_hash
from orchestrator.checkpoint.partials import partial_name
from orchestrator.config.schema import CheckpointConfig
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import build_model
from orchestrator.training import saver as room
from orchestrator.training.context import Request
from orchestrator.training.local import LocalContext
from orchestrator.training.retention import best_of, checkpoint_folder, checkpoints_in, stale
from orchestrator.training.saver import Saver, latest_undamaged


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, event: threading.Event, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep()


@pytest.fixture(scope="module")
def weights(tiny_model_config: Any) -> dict[str, torch.Tensor]:
    return dict(build_model(tiny_model_config, seed=1).state_dict())


@pytest.fixture
def at(tiny_model_config: Any, weights: dict[str, torch.Tensor]) -> Callable[..., TrainState]:
    """The state of a step, perhaps with a validation figure."""

    def make(step: int, accuracy: float | None = None) -> TrainState:
        metrics = {} if accuracy is None else {"val/accuracy": accuracy}
        return TrainState(tiny_model_config, weights, step=step, samples=8 * step, progress={"metrics": metrics})

    return make


@pytest.fixture
def told() -> list[str]:
    return []


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoints_in(folder)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_saver(folder: Path, told: list[str], clock: Clock | None = None, **settings: Any) -> Saver:
    clock = clock or Clock()
    return Saver(folder, settings=CheckpointConfig(**settings), tell=told.append, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_what_is_saved_comes_back(tmp_path: Path, at: Any, told: list[str], asynchronous: bool) -> None:
    saver = make_saver(tmp_path / "run", told, asynchronous=asynchronous)
    for step in (1, 2, 3):
        saver.save(at(step))
    saver.wait()
    latest = latest_undamaged(tmp_path / "run", told.append)
    assert latest is not None and state_hash(latest) == state_hash(at(3))
    assert names(tmp_path / "run") == ["step-000000003"] and told == []


def test_training_goes_on_while_it_writes_and_waits_for_one_in_flight(
    tmp_path: Path, at: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go, active, most = threading.Event(), 0, 0

    def slow(state: TrainState, folder: Path) -> Any:
        nonlocal active, most
        active += 1
        most = max(most, active)
        assert go.wait(60)
        active -= 1
        return save_state(state, folder)

    monkeypatch.setattr(room, "save_state", slow)
    saver = make_saver(tmp_path, told, keep=9, keep_every=1)
    saver.save(at(1))  # returns although nothing is written yet
    assert steps(tmp_path) == []
    second = threading.Thread(target=saver.save, args=(at(2),))
    second.start()
    second.join(0.05)
    assert second.is_alive() and active == 1  # waits for the first
    go.set()
    second.join()
    saver.wait()
    assert steps(tmp_path) == [1, 2] and most == 1


def test_a_checkpoint_that_is_there_already_is_kept(tmp_path: Path, at: Any, told: list[str]) -> None:
    folder = checkpoint_folder(tmp_path, 4)
    save_state(at(4), folder)
    before = folder.stat().st_ino
    saver = make_saver(tmp_path, told)
    saver.save(at(4))
    saver.wait()
    assert folder.stat().st_ino == before and steps(tmp_path) == [4]


def test_a_folder_in_the_way_that_is_no_checkpoint_is_set_aside(tmp_path: Path, at: Any, told: list[str]) -> None:
    folder = checkpoint_folder(tmp_path, 4)
    save_state(at(4), folder)
    (folder / "manifest.json").unlink()
    saver = make_saver(tmp_path, told)
    saver.save(at(4))
    saver.wait()
    assert names(tmp_path) == ["damaged-step-000000004", "step-000000004"] and steps(tmp_path) == [4]


def test_what_cannot_be_saved_at_all_is_an_error_at_once(tmp_path: Path, at: Any, told: list[str]) -> None:
    clock = Clock()
    saver = make_saver(tmp_path, told, clock)
    saver.save(replace(at(1), progress={"a tensor": torch.zeros(1)}))
    with pytest.raises(CheckpointError) as caught:
        saver.save(at(2))
    assert caught.value.reason is RefusalReason.UNSUPPORTED and clock.slept == []


# --- a storage that refuses


def test_a_storage_that_refuses_for_a_while_is_asked_again(tmp_path: Path, at: Any, told: list[str]) -> None:
    """The run's folder is a file for a while: even root cannot write into that."""
    run, clock = tmp_path / "run", Clock()
    run.write_text("in the way")
    clock.on_sleep = lambda: run.unlink() if len(clock.slept) == 4 else None
    saver = make_saver(run, told, clock, retry_s=100, minutes=1)
    clock.now = 60
    assert saver.overdue
    saver.save(at(1))
    saver.wait()
    assert steps(run) == [1] and clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert len(told) == 2 and "step 1 was refused" in told[0] and "step 1 is safe" in told[1]
    assert not saver.overdue


def test_a_storage_that_refuses_for_too_long_ends_the_run(tmp_path: Path, at: Any, told: list[str]) -> None:
    run, clock = tmp_path / "run", Clock()
    saver = make_saver(run, told, clock, retry_s=20)
    saver.save(at(1))
    saver.wait()
    shutil.move(run, tmp_path / "elsewhere")
    run.write_text("in the way")
    saver.save(at(2))
    with pytest.raises(
        CheckpointError, match="refused checkpoints for 20 s, now that of step 2, and the latest"
    ) as caught:
        saver.wait()
    assert caught.value.reason is RefusalReason.STORAGE and "step 1" in str(caught.value) and caught.value.hint
    assert sum(clock.slept) == 20 and clock.slept[:5] == [0.5, 1, 2, 4, 8]


def test_without_patience_the_first_refusal_ends_the_run(tmp_path: Path, at: Any, told: list[str]) -> None:
    (tmp_path / "run").write_text("in the way")
    saver = make_saver(tmp_path / "run", told, retry_s=0, asynchronous=False)
    with pytest.raises(CheckpointError, match="none is safe"):
        saver.save(at(1))


def test_a_refused_state_gives_way_to_a_newer_one(tmp_path: Path, at: Any, told: list[str]) -> None:
    """Nobody waits for the storage: the newer state takes the place of the refused one."""
    run = tmp_path / "run"
    run.write_text("in the way")
    clock = Clock()
    pause = threading.Event.wait  # really waits, until the newer one comes
    saver = Saver(run, settings=CheckpointConfig(retry_s=600), tell=told.append, clock=clock, sleep=pause)
    for step in (1, 2, 3):
        saver.save(at(step))
    run.unlink()
    saver.save(at(4))
    saver.wait()
    assert steps(run) == [4]
    dropped = [line for line in told if "dropped in favour" in line]
    assert "step 1," in dropped[0] and "in favour of step 2" in dropped[0] and "step 2," in dropped[1]
    assert sum("was refused" in line for line in told) == 1


def test_newer_states_do_not_lengthen_the_patience(tmp_path: Path, at: Any, told: list[str]) -> None:
    run = tmp_path / "run"
    run.write_text("in the way")
    clock = Clock()

    def sleep(event: threading.Event, seconds: float) -> None:
        event.wait()  # until the newer one comes, which is 40 s later
        clock.now += 40

    saver = Saver(run, settings=CheckpointConfig(retry_s=100), tell=told.append, clock=clock, sleep=sleep)
    with pytest.raises(CheckpointError, match="refused checkpoints for 120 s"):
        for step in range(1, 9):
            saver.save(at(step))
    assert clock.now == 120


_FULL = """
import os, resource, sys
from pathlib import Path
import torch
from orchestrator.checkpoint import TrainState
from orchestrator.config import load_model_config
from orchestrator.config.schema import CheckpointConfig
from orchestrator.models import build_model
from orchestrator.training.saver import Saver
from tests.conftest import TINY_MODEL

disk, big = Path(sys.argv[1]), None
config = load_model_config(TINY_MODEL)
state = TrainState(config, dict(build_model(config, seed=1).state_dict()), step=int(sys.argv[2]))
size = sum(t.numel() * t.element_size() for t in state.weights.values())

def pause(event, seconds):
    print("ASKED AGAIN", flush=True)
    if sys.stdin.readline().strip() == "free":
        make_room()

if sys.argv[3] == "tmpfs":
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(free - size // 2))
    make_room = (disk / "ballast").unlink
else:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limit[1]))
    make_room = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)

def tell(line):
    print("TOLD", line, flush=True)

saver = Saver(disk / "run", settings=CheckpointConfig(retry_s=100), tell=tell, sleep=pause)
saver.save(state)
saver.wait()
print("LEFT", *sorted(path.name for path in (disk / "run").iterdir()), flush=True)
"""


def on_a_full_disk(folder: Path) -> tuple[list[str], str]:
    """The command that runs Python with a small disk of its own at `folder`, and what kind of disk it is."""
    script = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(folder)]
    try:
        permitted = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        permitted = False
    return (command, "tmpfs") if permitted else ([], "limit")


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """A real one (ENOSPC) where namespaces are permitted, otherwise a limit to the size of files (EFBIG)."""
    command, kind = on_a_full_disk(tmp_path)
    program = subprocess.Popen(
        [*command, sys.executable, "-c", _FULL, str(tmp_path), "7", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert program.stdin is not None and program.stdout is not None
    answers = iter(["wait\n", "wait\n", "free\n"])
    lines = []
    for line in program.stdout:
        lines.append(line.strip())
        if line.startswith("ASKED AGAIN"):
            program.stdin.write(next(answers))
            program.stdin.flush()
    assert program.wait() == 0
    why = os.strerror(errno.ENOSPC if kind == "tmpfs" else errno.EFBIG)
    told = [line for line in lines if line.startswith("TOLD")]
    assert len(told) == 2 and why in told[0] and "step 7 is safe" in told[1]
    assert lines.count("ASKED AGAIN") == 3 and lines[-1] == "LEFT step-000000007"


# --- killed while writing

_WRITE = """
import sys
from pathlib import Path
import torch
from orchestrator.checkpoint import TrainState
from orchestrator.config import load_model_config
from orchestrator.config.schema import CheckpointConfig
from orchestrator.models import build_model
from orchestrator.training.saver import Saver
from tests.conftest import TINY_MODEL

config = load_model_config(TINY_MODEL)
weights = dict(build_model(config, seed=1).state_dict())
saver = Saver(Path(sys.argv[1]), settings=CheckpointConfig(keep=1), tell=print)
for step in range(int(sys.argv[2]), 10**8):
    saver.save(TrainState(config, weights, step=step, progress={"metrics": {"val/accuracy": step % 7}}))
    print(step, flush=True)
"""


def test_killed_while_it_writes_every_checkpoint_is_whole_or_none(tmp_path: Path, told: list[str]) -> None:
    chance = random.Random(5)
    begin, found = 1, False
    for _ in range(6):
        program = subprocess.Popen(
            [sys.executable, "-c", _WRITE, str(tmp_path), str(begin)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert program.stdout is not None
        for _ in range(chance.randrange(2, 9)):
            assert program.stdout.readline()
        # a random moment within about one checkpoint: busy, so that the moment is not that of a scheduler's tick
        moment = time.perf_counter() + chance.random() * 0.03
        while time.perf_counter() < moment:
            pass
        program.send_signal(signal.SIGKILL)
        program.wait()
        named = sorted(tmp_path.glob("step-*"))
        assert named and all(is_complete(path) and read_state(path).step for path in named)
        found = found or any(path.name.startswith(".partial-") for path in tmp_path.iterdir())
        make_saver(tmp_path, told)
        assert all(name.startswith("step-") for name in names(tmp_path))  # the next run sweeps what is half
        latest = latest_undamaged(tmp_path, told.append)
        assert latest is not None
        begin = latest.step + 1
    assert found and told == []


def test_only_what_dead_processes_left_is_swept(tmp_path: Path, told: list[str]) -> None:
    mine, dead, same_number = partial_name("mine"), partial_name("dead"), partial_name("same")
    dead = dead.replace(f"-{os.getpid()}@", f"-{_dead_process()}@")
    same_number = same_number[:-1] + ("0" if same_number[-1] != "0" else "1")  # by a namesake in an earlier container
    for name in (mine, dead, same_number):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - 60,) * 2)
    make_saver(tmp_path, told)
    assert names(tmp_path) == [mine]


def _dead_process() -> int:
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    return program.pid


# --- damaged on disk


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 4
    path.write_bytes(damaged)


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the weights": lambda folder: flip(folder / "model.safetensors"),
    "cut short": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "a file is gone": lambda folder: (folder / "state.json").unlink(),
    "the manifest": lambda folder: flip(folder / "manifest.json"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty": empty,
}


@pytest.fixture
def three(tmp_path: Path, at: Any) -> Iterator[Path]:
    for step in (4, 8, 12):
        save_state(at(step), checkpoint_folder(tmp_path, step))
    yield tmp_path


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(three: Path, told: list[str], kind: str) -> None:
    DAMAGE[kind](checkpoint_folder(three, 12))
    latest = latest_undamaged(three, told.append)
    assert latest is not None and latest.step == 8
    assert names(three) == ["damaged-step-000000012", "step-000000004", "step-000000008"]
    (line,) = told
    assert "step-000000012 is damaged and now damaged-step-000000012" in line


def test_when_the_same_one_is_damaged_again_both_are_kept(three: Path, at: Any, told: list[str]) -> None:
    for _ in range(2):
        flip(checkpoint_folder(three, 12) / "model.safetensors")
        assert latest_undamaged(three, told.append) is not None
        save_state(at(12), checkpoint_folder(three, 12))
    assert {"damaged-step-000000012", "damaged-step-000000012-2"} < set(names(three)) and len(told) == 2


def test_nothing_starts_from_scratch_in_silence(three: Path, told: list[str]) -> None:
    for path in checkpoints_in(three):
        flip(path / "model.safetensors")
    for _ in range(2):  # and neither does the next try
        with pytest.raises(CheckpointError, match="3 of 3 are damaged") as caught:
            latest_undamaged(three, told.append)
        assert caught.value.reason is RefusalReason.CORRUPT and "remove the damaged ones" in caught.value.hint
    assert len(told) == 3


def test_a_newer_program_s_checkpoint_is_no_damaged_one(three: Path, told: list[str]) -> None:
    manifest = checkpoint_folder(three, 12) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 2', '"format_version": 99'))
    with pytest.raises(CheckpointError) as caught:
        latest_undamaged(three, told.append)
    assert caught.value.reason is RefusalReason.UNSUPPORTED and manifest.is_file() and told == []


def test_a_run_without_a_checkpoint_has_none(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "step-of-something-else").mkdir()
    assert latest_undamaged(tmp_path, told.append) is None
    assert latest_undamaged(tmp_path / "none", told.append) is None and told == []


# --- what is kept


@given(
    st.dictionaries(st.integers(0, 60), st.none() | st.sampled_from([0.1, 0.5, 0.9]), max_size=20),
    st.integers(1, 4),
    st.integers(0, 6),
)
def test_retention(figures: dict[int, float | None], keep: int, keep_every: int) -> None:
    saved = [checkpoint_folder(Path("run"), step) for step in sorted(figures)]
    scores = {checkpoint_folder(Path("run"), step): figure for step, figure in figures.items()}
    gone = stale(saved, scores, keep, keep_every)
    kept = [path for path in saved if path not in gone]
    assert saved[-1:] == kept[-1:]
    multiples = {path for path in saved if keep_every and (step := int(path.name[5:])) and step % keep_every == 0}
    assert multiples <= set(kept)
    scored = sorted((-(scores[path] or 0), path) for path in saved if scores[path] is not None)
    assert {path for _, path in scored[:keep]} <= set(kept)
    assert len(kept) <= keep + 1 + len(multiples)
    assert stale(kept, scores, keep, keep_every) == []  # what is kept once is kept until something better comes


def test_the_best_the_last_and_every_so_many_stay(tmp_path: Path, at: Any, told: list[str]) -> None:
    saver = make_saver(tmp_path, told, keep=1, keep_every=4)
    for step, accuracy in enumerate([0.5, 0.9, None, 0.6, 0.7, 0.9, 0.8]):
        saver.save(at(step, accuracy))
    saver.wait()
    assert steps(tmp_path) == [1, 4, 6] and len(names(tmp_path)) == 3 and told == []


def test_the_best_is_the_best_of_those_that_are_there(tmp_path: Path, at: Any, told: list[str]) -> None:
    """A run's best validation may have no checkpoint: the storage refused it, or it was damaged later."""
    saver = make_saver(tmp_path, told, keep=3)
    for step, accuracy in enumerate([0.5, 0.7, 0.9, 0.7, None]):
        saver.save(at(step, accuracy))
    saver.wait()
    assert best_of(checkpoints_in(tmp_path), "val/accuracy").name == "step-000000002"
    shutil.rmtree(checkpoint_folder(tmp_path, 2))
    assert best_of(checkpoints_in(tmp_path), "val/accuracy").name == "step-000000001"
    assert best_of(checkpoints_in(tmp_path)[-1:], "val/accuracy").name == "step-000000004"


def test_a_checkpoint_that_vanishes_meanwhile_does_no_harm(
    tmp_path: Path, at: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def also_by_another(saved: list[Path], *args: Any) -> list[Path]:
        gone = stale(saved, *args)
        for path in gone[:1]:
            shutil.rmtree(path)
        return gone

    monkeypatch.setattr(room, "stale", also_by_another)
    saver = make_saver(tmp_path, told, keep=1)
    for step in range(5):
        saver.save(at(step, float(step)))
    saver.wait()
    assert names(tmp_path) == ["step-000000004"] and told == []


# --- the context of one worker


def test_it_saves_when_the_latest_is_old_enough_and_stops_when_asked(tmp_path: Path, told: list[str]) -> None:
    asked = False
    context = LocalContext(
        tmp_path,
        settings=CheckpointConfig(),
        on_report=lambda _: None,
        on_announce=lambda _: None,
        tell=told.append,
        stop_requested=lambda: asked,
    )
    clock = Clock()
    context.saver = make_saver(tmp_path, told, clock, minutes=2)
    assert context.poll(1) == Request()
    clock.now = 119
    assert context.poll(2) == Request()
    clock.now = 120
    assert context.poll(3) == Request(save=True)
    asked = True
    assert context.poll(4) == Request(save=True, stop=True)


def test_nothing_is_overdue_while_a_checkpoint_is_on_its_way(tmp_path: Path, at: Any, told: list[str]) -> None:
    """Or else a storage slower than `minutes` would be asked, and waited for, at every poll."""
    run, clock, refused, go_on = tmp_path / "run", Clock(), threading.Event(), threading.Event()
    run.write_text("in the way")
    saver = make_saver(run, told, clock, minutes=1)

    def hold() -> None:
        refused.set()
        go_on.wait(60)

    clock.on_sleep = hold
    saver.save(at(1))
    assert refused.wait(60)
    clock.now += 60
    assert not saver.overdue
    run.unlink()
    go_on.set()
    saver.wait()
    assert not saver.overdue
    clock.now += 60
    assert saver.overdue


def test_how_long_a_checkpoint_took_and_how_old_it_is(tmp_path: Path, at: Any, told: list[str]) -> None:
    run, clock = tmp_path / "run", Clock()
    run.write_text("in the way")
    clock.on_sleep = lambda: run.unlink() if len(clock.slept) == 2 else None
    saver = make_saver(run, told, clock)
    clock.now = 10
    assert saver.figures() == {"checkpoint_age_seconds": 10}, "counted from its own start while there is none"
    saver.save(at(1))
    saver.wait()
    clock.now += 7
    assert saver.figures() == {"checkpoint_age_seconds": 7, "checkpoint_seconds": 1.5}, "with the refusals before"


def test_without_minutes_time_asks_for_nothing(tmp_path: Path, told: list[str]) -> None:
    settings, ignore = CheckpointConfig(), lambda _: None
    context = LocalContext(tmp_path, settings=settings, on_report=ignore, on_announce=ignore, tell=told.append)
    clock = Clock()
    context.saver = make_saver(tmp_path, told, clock)
    clock.now = 1e9
    assert context.poll(1) == Request()
