"""Every way of bringing clips, through preparation: each one flashes and clicks together in what is stored."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.corpus import usable_frames
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.storage import open_folder

from ..flash_clip import FlashClip, times_of, write_flash_clip
from ..media.test_frame_folder import make_frame_folder

CONFIG = PreparationConfig(resolution=32, min_frames=16)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, one with its sound too late, and two folders of frames."""
    root = tmp_path_factory.mktemp("sources")
    write_flash_clip(root / "videos" / "ann" / "1.mp4", FlashClip())
    write_flash_clip(root / "videos" / "bob b" / "李.mp4", FlashClip(event_s=0.8))
    write_flash_clip(root / "late" / "eve" / "1.mp4", shifted(0.2))
    write_flash_clip(root / "late" / "kim" / "1.mp4", shifted(-0.2))
    make_frame_folder(root / "frames" / "ann" / "00001", 40, click=25)
    make_frame_folder(root / "frames" / "bob" / "00001", 40, click=20)
    return root


def shifted(seconds: float) -> FlashClip:
    """A clip whose click comes later than its flash, although its timestamps say nothing of it."""
    return FlashClip(event_s=1.0, click_after_s=seconds)


@pytest.fixture(params=["local", "remote"])
def root(request: pytest.FixtureRequest, sources: Path, tmp_path: Path) -> Iterator[str]:
    """Where the sources are: this machine or remote storage."""
    if request.param == "local":
        yield str(sources)
        return
    uri = f"memory://{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    memory.put(str(sources), uri, recursive=True)
    yield uri
    memory.rm(uri, recursive=True)


def moments(out: Path) -> dict[str, tuple[str, float, float]]:
    """Source -> (speaker, time of the flash, time of the click) of every usable clip, offsets applied."""
    clips = Corpus.open(out).split("all")
    found = {}
    for index, clip in enumerate(clips.clips):
        first, count = usable_frames(clip)
        frames_TCHW = clips.window(index, first, count).reshape(count, 3, clip.height, clip.width)
        flash, click = times_of(frames_TCHW, clips.mel_window(index, first, count))
        found[clip.source] = (clip.speaker, round(first / 25 + flash, 2), round(first / 25 + click, 2))
    return found


def near(speaker: str, event_s: float) -> object:
    return (speaker, pytest.approx(event_s, abs=0.02), pytest.approx(event_s, abs=0.02))


def test_videos(root: str, tmp_path: Path) -> None:
    prepare_local(f"{root}/videos", tmp_path / "out", CONFIG)
    assert moments(tmp_path / "out") == {"ann/1.mp4": near("ann", 1.0), "bob b/李.mp4": near("bob b", 0.8)}


def test_folders_of_frames(root: str, tmp_path: Path) -> None:
    prepare_local(f"{root}/frames", tmp_path / "out", CONFIG)
    assert moments(tmp_path / "out") == {"ann/00001": near("ann", 1.0), "bob/00001": near("bob", 0.8)}


def test_a_list_that_names_files_elsewhere(sources: Path, tmp_path: Path) -> None:
    lines = [f"{sources}/videos/ann/1.mp4", f"{sources}/videos/bob b/李.mp4", f"{sources}/videos/gone.mp4"]
    (tmp_path / "my list.txt").write_text("\n".join(lines), encoding="utf-8")
    summary = prepare_local(tmp_path / "my list.txt", tmp_path / "out", CONFIG)
    assert summary.rejected == {"missing": 1}
    assert moments(tmp_path / "out") == {lines[0]: near("ann", 1.0), lines[1]: near("bob b", 0.8)}


def test_a_table_with_offsets_brings_sound_and_picture_together(root: str, tmp_path: Path) -> None:
    with open_folder(f"{root}/late").writer("clips.csv") as file:
        file.write(b"source,speaker,av_offset_s,split\neve/1.mp4,Eve,0.2,val\nkim/1.mp4,Kim,-0.2,train\n")
    prepare_local(f"{root}/late", tmp_path / "out", CONFIG)
    assert moments(tmp_path / "out") == {"eve/1.mp4": near("Eve", 1.0), "kim/1.mp4": near("Kim", 1.0)}
    assert [clip.speaker for clip in Corpus.open(tmp_path / "out").clips("val")] == ["Eve"]
    prepare_local(f"{root}/late", tmp_path / "uncorrected", CONFIG.model_copy(update={"layout": "folder"}))
    uncorrected = moments(tmp_path / "uncorrected")
    apart = np.array([click - flash for _, flash, click in uncorrected.values()])
    assert apart == pytest.approx([0.2, -0.2], abs=0.02)
