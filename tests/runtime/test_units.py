"""Units as Ray tasks: every clip is told once; workers that die or hang cost one clip; other faults end the run."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.data.work import ClipDone, ClipStarted, Message
from orchestrator.errors import DataError, RunError, StorageError
from orchestrator.runtime.stage import run_stage
from orchestrator.runtime.units import TaskShape, run_units

pytestmark = pytest.mark.usefixtures("ray_session")


@dataclass(frozen=True)
class Clips:
    """A unit whose clips do what their names say, and remember that they were begun."""

    folder: str
    sources: tuple[str, ...]
    given_up: dict[str, tuple[str, str]] = field(default_factory=dict)

    def without(self, source: str, reason: str, detail: str) -> Clips:
        return replace(self, given_up={**self.given_up, source: (reason, detail)})

    def run(self) -> Iterator[Message]:
        for source in self.sources:
            yield ClipStarted(source)
            reason, detail = self.given_up.get(source, ("", ""))
            if not reason:
                self._do(source)
            yield ClipDone(source, reason, detail, seconds=1.0)

    def _do(self, source: str) -> None:
        with (Path(self.folder) / source).open("a") as file:
            file.write("x")
        begun = self.begun(source)
        if source.startswith("kill") or (source.startswith("once") and begun == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if source.startswith("hang"):
            time.sleep(600)
        if source.startswith("disk"):
            raise StorageError("the disk is full", path="/disk", hint="make room")
        if source.startswith("bug"):
            raise ValueError("no such thing")

    def begun(self, source: str) -> int:
        """How often a clip was begun."""
        return (Path(self.folder) / source).stat().st_size


def run(units: list[Clips], **shape: float) -> list[ClipDone]:
    done: list[ClipDone] = []
    run_units(units, done.append, TaskShape(**shape))
    return done


def test_every_clip_is_told_once_and_many_units_take_turns(tmp_path: Path) -> None:
    units = [Clips(str(tmp_path), (f"a{k}", f"b{k}")) for k in range(30)]
    done = run(units)
    assert sorted(clip.source for clip in done) == sorted(source for unit in units for source in unit.sources)
    assert all(unit.begun(source) == 1 for unit in units for source in unit.sources)


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    unit = Clips(str(tmp_path), ("a", "once", "b"))
    assert [(clip.source, clip.reason) for clip in run([unit])] == [("a", ""), ("once", ""), ("b", "")]
    assert unit.begun("once") == 2


def test_a_clip_that_always_kills_its_worker_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    unit = Clips(str(tmp_path), ("a", "kill", "b"))
    done = {clip.source: clip for clip in run([unit, Clips(str(tmp_path), ("c",))])}
    assert {source: clip.reason for source, clip in done.items()} == {"a": "", "b": "", "c": "", "kill": "crashes"}
    assert "3 times" in done["kill"].detail
    # a worker that is killed at once may take along the word that it has begun, and is not counted
    assert unit.begun("kill") >= 3


def test_a_clip_that_hangs_is_stopped_and_rejected(tmp_path: Path) -> None:
    unit = Clips(str(tmp_path), ("a", "hang", "b"))
    done = {clip.source: clip.reason for clip in run([unit], clip_timeout_s=0.5)}
    assert done == {"a": "", "hang": "hangs", "b": ""}


def test_a_fault_that_is_no_clip_s_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="disk is full") as caught:
        run([Clips(str(tmp_path), ("a", "disk"))])
    assert caught.value.hint == "make room"
    with pytest.raises(RunError, match="ValueError: no such thing"):
        run([Clips(str(tmp_path), ("bug",))])


def test_a_rejected_clip_of_any_name_is_one_line(tmp_path: Path) -> None:
    name = "caf\udce9\nb"
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # as strict as a pipe
    unit = Clips(str(tmp_path), (name,)).without(name, "bad", "why")
    run_stage("look", [unit], Console(file=shown))
    shown.seek(0)
    assert shown.readline() == "rejected caf\\udce9\\nb: bad, why\n"


def test_tasks_that_no_node_could_run_are_refused_at_once(tmp_path: Path) -> None:
    unit = Clips(str(tmp_path), ("a",))
    with pytest.raises(RunError, match=r"each task asks for 0\.5 GPUs, but the cluster has 0"):
        run_stage("look", [unit], Console(quiet=True), TaskShape(gpus=0.5))
    assert not (tmp_path / "a").exists()


def test_a_data_error_of_the_unit_itself_is_not_swallowed() -> None:
    class Refusing(Clips):
        def run(self) -> Iterator[Message]:
            raise DataError("nothing fits", reason="bad")
            yield

    with pytest.raises(DataError, match="nothing fits"):
        run([Refusing("", ("a",))])
