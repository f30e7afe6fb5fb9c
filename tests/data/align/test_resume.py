"""Stopping and going on: nothing finished is repeated, nothing half-made looks whole, and the bytes are the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.run import align_finish, align_local, align_plan
from orchestrator.data.align.unit import AlignUnit, align_unit
from orchestrator.data.work import ClipDone, ClipStarted
from orchestrator.errors import DataError, RunError, StorageError

from .face_video import Placement, Scene, still, write_face_video

CONFIG = AlignConfig(min_seconds=0.4, max_seconds=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `raw`, two short videos of two speakers, and `out`, where they are aligned."""
    folder = tmp_path_factory.mktemp("finished")
    write_face_video(folder / "raw/ann/one.mp4", [Scene(14)])
    write_face_video(folder / "raw/bob/one.mp4", [Scene(14, (still(x=200),)), Scene(12, (), 3)])
    align_local(folder / "raw", folder / "out", CONFIG)
    return folder


@pytest.fixture
def raw(finished: Path, tmp_path: Path) -> Path:
    """The two videos, in `tmp_path`."""
    return Path(shutil.copytree(finished / "raw", tmp_path / "raw"))


@pytest.fixture
def out(finished: Path, raw: Path, tmp_path: Path) -> Path:
    """Them aligned, also there."""
    return Path(shutil.copytree(finished / "out", tmp_path / "out"))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_the_list_says_of_language_and_tag_is_in_the_table_without_aligning_again(raw: Path, out: Path) -> None:
    table = "source,speaker,language,tag\nann/one.mp4,ann,en,site\nbob/one.mp4,bob,,\n"
    (raw / "clips.csv").write_text(table)
    assert align_plan(raw, out, CONFIG).units == ()
    align_finish(raw, out, CONFIG)
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    assert {(row["speaker"], row["language"], row["tag"]) for row in rows} == {("ann", "en", "site"), ("bob", "", "")}


def test_running_again_repeats_nothing_and_gives_the_same_bytes(raw: Path, out: Path, tmp_path: Path) -> None:
    before, first = content(raw), content(out)
    assert align_plan(raw, out, CONFIG).units == ()
    align_local(raw, out, CONFIG)
    assert content(out) == first
    align_local(raw, tmp_path / "other", CONFIG)
    assert content(tmp_path / "other") == first
    assert content(raw) == before
    assert sum(name.endswith(".mp4") for name in first) == 2


def test_only_what_changed_is_done_again(raw: Path, out: Path) -> None:
    write_face_video(raw / "ann/one.mp4", [Scene(14, (), 4)])
    os.utime(raw / "bob/one.mp4", (1, 1))  # another time, but the same content
    assert [unit.sources for unit in align_plan(raw, out, CONFIG).units] == [("ann/one.mp4",)]
    assert align_finish(raw, out, CONFIG).pending == 1
    summary = align_local(raw, out, CONFIG)
    assert (summary.clips, summary.pending, summary.rejected) == (1, 0, {"no_face": 2})
    assert not [name for name in content(out) if name.startswith("ann/")]  # the old video's clip is gone


@pytest.mark.parametrize("victim", ["*.mp4", "records/*.json"])
def test_a_lost_clip_or_a_damaged_record_is_made_again(raw: Path, out: Path, victim: str) -> None:
    first = content(out)
    path = next(path for path in sorted(out.rglob(victim)) if path.name != "preparation.json")
    path.unlink() if victim == "*.mp4" else path.write_text("[")
    assert len(align_plan(raw, out, CONFIG).units) == 1
    align_local(raw, out, CONFIG)
    assert content(out) == first


@pytest.mark.slow
def test_killed_in_the_middle_of_a_video(tmp_path: Path) -> None:
    def swaying(frame: int) -> Placement:
        return Placement(240 + 20 * (frame % 50 - 25) / 25)

    raw, out = tmp_path / "raw", tmp_path / "out"
    write_face_video(raw / "ann/long.mp4", [Scene(24, (swaying,), seed) for seed in range(4)])
    code = (
        "import sys; from orchestrator.data.align.run import align_local; "
        "from orchestrator.data.align.config import AlignConfig; "
        "align_local(sys.argv[1], sys.argv[2], AlignConfig(min_seconds=0.4, max_seconds=2))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(raw), str(out)])
    try:
        while not (begun := list(out.glob("ann/.*.tmp/*.mp4"))) and process.poll() is None:
            time.sleep(0.01)
        assert begun, "the process ended before it could be killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    visible = [name for name in content(out) if not any(part.startswith(".") for part in Path(name).parts)]
    assert visible == ["records/preparation.json"]
    summary = align_local(raw, out, CONFIG)
    assert summary.clips == 4
    align_local(raw, tmp_path / "uninterrupted", CONFIG)
    assert content(out) == content(tmp_path / "uninterrupted")


def test_a_disk_that_fails_is_no_fault_of_the_video(raw: Path, tmp_path: Path) -> None:
    unit = align_plan(raw, tmp_path / "out", CONFIG).units[0]
    (tmp_path / "out/ann").write_text("a file where the speaker's folder must be")
    with pytest.raises(StorageError, match="clips cannot be written to"):
        align_unit(unit)
    assert not list((tmp_path / "out/records").glob("[0-9a-f]*.json"))


def test_a_unit_tells_what_becomes_of_its_video(raw: Path, tmp_path: Path) -> None:
    first, second = align_plan(raw, tmp_path / "out", CONFIG).units
    assert list(first.run()) == [ClipStarted("ann/one.mp4"), ClipDone("ann/one.mp4", seconds=0.56)]
    assert list(first.run())[1] == ClipDone("ann/one.mp4", seconds=0.56, reused=True)
    assert list(second.without("bob/one.mp4", "crashes", "kills the process").run())[1] == ClipDone(
        "bob/one.mp4", "crashes", "kills the process"
    )
    summary = align_finish(raw, tmp_path / "out", CONFIG)
    assert (summary.clips, summary.rejected, summary.pending) == (1, {"crashes": 1}, 0)


def test_another_speaker_is_another_folder(raw: Path, out: Path) -> None:
    align_local(raw, out, CONFIG.model_copy(update={"speaker": "regex:^(.)"}))
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    assert [row["speaker"] for row in rows] == ["a", "b", "b"] and (out / rows[0]["source"]).exists()


def test_other_settings_need_another_folder(raw: Path, tmp_path: Path) -> None:
    align_plan(raw, tmp_path / "out", CONFIG)
    with pytest.raises(DataError, match="crf is 12 there, but 20 here") as error:
        align_plan(raw, tmp_path / "out", CONFIG.model_copy(update={"crf": 20}))
    assert error.value.reason == "other_settings"


def test_the_output_does_not_lie_among_the_sources(raw: Path) -> None:
    for out in (raw, raw / "aligned"):
        with pytest.raises(DataError, match="lies in the folder of raw videos"):
            align_plan(raw, out, CONFIG)


@pytest.mark.parametrize("package", ["cv2", "scenedetect"])
def test_without_the_extra_one_error_says_what_to_install(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError, match=f"needs the optional package {package}") as error:
        align_plan(raw, tmp_path / "out", CONFIG)
    assert "pip install 'syncnet-orchestrator[align]'" in error.value.hint


def test_importing_it_imports_none_of_the_optional_packages() -> None:
    code = (
        "import sys, orchestrator.data.align.run; "
        "print([name for name in ('cv2', 'scenedetect', 'facenet_pytorch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_unit_is_small(raw: Path, tmp_path: Path) -> None:
    import pickle

    unit = align_plan(raw, tmp_path / "out", CONFIG).units[0]
    packed = pickle.dumps(unit)
    assert len(packed) < 3000 and pickle.loads(packed) == unit and isinstance(unit, AlignUnit)
