"""Preparation that is stopped anywhere: finished clips are kept, and the result is the same, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.data.prepare import finish, plan_units, prepare_local
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.data.work import ClipDone
from orchestrator.errors import StorageError
from orchestrator.storage import LocalFolder, open_folder

from ..conftest import Writer

CONFIG = PreparationConfig(resolution=32, clips_per_shard=4)
CLIPS = 10


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_clip: Writer) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number in range(CLIPS):
        write_clip(root / f"speaker{number % 3}" / f"{number}.mp4", seed=number, sound=number != 4)
    return root


@pytest.fixture(scope="module")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed preparation leaves."""
    out = tmp_path_factory.mktemp("whole")
    prepare_local(videos, out, CONFIG)
    return content(out)


def content(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_an_undisturbed_run_leaves_shards_records_and_manifest_only(whole: dict[str, bytes]) -> None:
    kinds = {Path(name).suffix for name in whole}
    assert kinds == {".arrow", ".json", ".parquet"}
    assert not any(name.startswith("parts/") for name in whole)


@pytest.mark.parametrize("stop_after", range(0, CLIPS, 3))
def test_stopped_after_any_clip_the_rest_is_done_and_nothing_twice(
    videos: Path, whole: dict[str, bytes], tmp_path: Path, stop_after: int
) -> None:
    first: list[ClipDone] = []

    def stop(done: ClipDone) -> None:
        first.append(done)
        if len(first) > stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_local(videos, tmp_path, CONFIG, stop)
    again: list[ClipDone] = []
    prepare_local(videos, tmp_path, CONFIG, again.append)
    assert content(tmp_path) == whole
    anew = [done.source for done in again if not done.reused]
    assert sorted([*anew, *(done.source for done in first)]) == sorted(clip for clip in sources(videos))


def sources(videos: Path) -> list[str]:
    return [path.relative_to(videos).as_posix() for path in videos.rglob("*.mp4")]


PROGRAM = """
import sys
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.data.prepare import prepare_local

config = PreparationConfig(resolution=32, clips_per_shard=4)
prepare_local(sys.argv[1], sys.argv[2], config, lambda done: print(done.source, flush=True))
"""


def test_killed_outright_it_goes_on_and_repeats_no_finished_clip(
    videos: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    told: list[str] = []
    for wanted in (2, 5):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(videos), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        ) as process:
            assert process.stdout is not None
            for _ in range(wanted):
                told.append(process.stdout.readline().strip())
            time.sleep(0.01)  # somewhere in the next clip
            process.send_signal(signal.SIGKILL)
    again: list[ClipDone] = []
    prepare_local(videos, tmp_path, CONFIG, again.append)
    assert content(tmp_path) == whole
    repeated = {done.source for done in again if not done.reused} & set(told)
    assert repeated == set()


def test_a_finished_clip_whose_source_changes_meanwhile_is_done_anew(
    videos: Path, tmp_path: Path, write_clip: Writer
) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for number in range(3):
        write_clip(root / f"{number}.mp4", seed=number)
    unit = plan_units(root, out, CONFIG).units[0]
    steps = unit.run()
    for _ in range(2):
        next(steps)
    steps.close()
    assert len(list((out / "parts").glob("*.arrow"))) == 1
    write_clip(root / "0.mp4", seed=7)
    done: list[ClipDone] = []
    prepare_local(root, out, CONFIG, done.append)
    assert [clip.reused for clip in done] == [False, False, False]
    assert not list((out / "parts").iterdir())


def test_a_full_disk_ends_it_with_one_error_and_blames_no_clip(
    videos: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: LocalFolder, name: str) -> None:
        if name.endswith(".arrow"):
            raise StorageError(f"{name} cannot be written: the disk is full", path=name)
        return original(self, name)

    original = LocalFolder.writer
    monkeypatch.setattr(LocalFolder, "writer", full)
    with pytest.raises(StorageError, match="disk is full"):
        prepare_local(videos, tmp_path, CONFIG)
    monkeypatch.undo()
    assert finish(videos, tmp_path, CONFIG).rejected == {}
    prepare_local(videos, tmp_path, CONFIG)
    assert content(tmp_path) == whole


def test_sources_and_output_in_object_storage(videos: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    root = open_folder(f"memory://prepare-{tmp_path.name}/videos")
    for source in sources(videos):
        with root.writer(source) as file:
            file.write((videos / source).read_bytes())
    out = f"memory://prepare-{tmp_path.name}/out"
    summary = prepare_local(root.uri, out, CONFIG)
    assert (summary.ok, summary.rejected) == (CLIPS - 1, {"no_audio": 1})
    stored = open_folder(out)
    shards = {entry.name: stored.read(entry.name) for entry in stored.entries() if entry.name.endswith(".arrow")}
    assert shards == {name: data for name, data in whole.items() if name.endswith(".arrow")}
    assert plan_units(root.uri, out, CONFIG).units == ()
