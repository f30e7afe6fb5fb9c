"""The contact sheet: what is drawn is what training reads, and picture and sound stand under each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.config.media import mel_columns, mel_start
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.sheet import Shown, draw_sheet, drawable
from orchestrator.data.corpus.show import choose_samples, contact_sheet
from orchestrator.data.manifest import read_manifest, write_manifest
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.errors import DataError
from orchestrator.storage import open_folder

from ..flash_clip import FlashClip, write_flash_clip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three speakers, one of them with most of the clips, and one clip with an offset."""
    root, out = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("prepared")
    for name in ("ann/1", "ann/2", "ann/3", "bob 李/$1$", "eve/1"):
        write_flash_clip(root / f"{name}.mp4", FlashClip(seconds=2.4))
    prepare_local(root, out, PreparationConfig(resolution=32))
    rows = [replace(row, av_offset_s=0.2 if row.speaker == "eve" else 0.0) for row in read_manifest(open_folder(out))]
    write_manifest(open_folder(out), rows)
    return Corpus.open(out)


def pixels(png: bytes) -> NDArray[np.int64]:
    """A PNG as `(H, W, 3)`."""
    packet = av.Packet(png)
    packet.is_keyframe = True
    (frame,) = av.CodecContext.create("png", "r").decode(packet)
    return frame.to_ndarray(format="rgb24").astype(np.int64)


def test_a_sheet_is_a_picture_and_the_same_one_every_time(corpus: Corpus, tmp_path: Path) -> None:
    path = contact_sheet(corpus, tmp_path / "new" / "sheet.png", count=2)
    assert path == tmp_path / "new" / "sheet.png"
    height, width, _ = pixels(path.read_bytes()).shape
    assert width > 16 * 100 and height > 2 * 200
    assert contact_sheet(corpus, tmp_path / "again.png", count=2).read_bytes() == path.read_bytes()
    assert contact_sheet(corpus, tmp_path / "other.png", count=2, seed=1).read_bytes() != path.read_bytes()


def test_a_sheet_that_cannot_be_written(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written") as caught:
        contact_sheet(corpus, tmp_path, count=1)
    assert caught.value.reason == "not_written" and not list(tmp_path.glob(".*"))


def test_what_is_shown_is_what_training_reads(corpus: Corpus) -> None:
    split = corpus.split("all")
    for sample in choose_samples(corpus, 5):
        clip = split.clip_ids.index(sample.clip_id)
        window = split.window(clip, sample.start, 16).reshape(16, 3, 16, 32)
        assert np.array_equal(sample.frames_THWC, window.transpose(0, 2, 3, 1))
        assert np.array_equal(sample.mel_ML, split.mel_window(clip, sample.start, 16))
        assert (sample.offset_columns, sample.av_offset_s) == ((16, 0.2) if sample.speaker == "eve" else (0, 0.0))


def test_every_speaker_comes_once_before_any_comes_again(corpus: Corpus) -> None:
    assert {sample.speaker for sample in choose_samples(corpus, 3)} == {"ann", "bob 李", "eve"}
    assert len({sample.clip_id for sample in choose_samples(corpus, 5)}) == 5
    assert len(choose_samples(corpus, 12)) == 12


def test_windows_are_lively(corpus: Corpus) -> None:
    """Of noise with one click, those with the click in them."""
    clicks = [sample.loudness_L.max() > sample.loudness_L.min() + 0.5 for sample in choose_samples(corpus, 5)]
    assert sum(clicks) >= 4


def test_asking_for_clips(corpus: Corpus) -> None:
    samples = choose_samples(corpus, 3, clips=["eve/1.mp4"])
    assert [sample.speaker for sample in samples] == ["eve"] * 3
    starts = [sample.start for sample in samples]
    assert starts == sorted(starts) and starts[-1] - starts[0] > 10
    names = [corpus.split("all").clip_ids[0], "eve/1.mp4", "bob 李/$1$.mp4", "eve/1.mp4"]
    assert [sample.speaker for sample in choose_samples(corpus, 1, clips=names)] == ["ann", "eve", "bob 李"]
    with pytest.raises(DataError, match=r"did you mean ann/3\.mp4") as caught:
        choose_samples(corpus, clips=["an/3.mp4"])
    assert caught.value.reason == "no_such_clip"


@pytest.mark.parametrize("num_frames", [1, 5, 1000])
def test_any_number_of_frames(corpus: Corpus, tmp_path: Path, num_frames: int) -> None:
    (sample,) = choose_samples(corpus, 1, num_frames=num_frames)
    assert len(sample.frames_THWC) == len(sample.movement_T) == len(sample.speech_T) == min(num_frames, 60)
    assert contact_sheet(corpus, tmp_path / "sheet.png", 1, num_frames=num_frames).stat().st_size > 1000


def test_without_any_frame_with_sound(corpus: Corpus, tmp_path: Path) -> None:
    rows = [replace(row, av_offset_s=30.0) for row in corpus.rows]
    far = Corpus(corpus.folder, rows)
    with pytest.raises(DataError) as caught:
        contact_sheet(far, tmp_path / "sheet.png")
    assert caught.value.reason == "no_usable_clips"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", [0, 3, 7])
def test_a_flash_stands_over_its_click(start: int) -> None:
    """Frame 5 is white and so is the mel at its time: on the sheet, one is right above the other."""
    frames = np.zeros((12, 20, 40, 3), dtype=np.uint8)
    frames[5] = 255
    mel = np.full((80, mel_columns(12)), -4.0, dtype=np.float32)
    click = round((start + 5.5) * 3.2) - mel_start(start)  # the column nearest to the middle of the frame's place
    mel[:, click] = 4
    nothing = np.zeros(12, dtype=np.float32)
    sample = Shown("x", "x", "train", start, 0.0, 0, frames, nothing, mel.mean(axis=0), mel, nothing.astype(bool))
    picture = pixels(draw_sheet([sample], "x"))
    top = 62 + 24
    near = slice(64 + round(136 * 4.5), 64 + round(136 * 6.5))  # the page itself is white too
    flash = np.flatnonzero((picture[top + 30, near] == 255).all(axis=1)) + 136 * 4.5
    bright = np.flatnonzero(picture[top + 68 + 58 + 40, near].sum(axis=1) > 500) + 136 * 4.5
    assert abs(flash.mean() - 136 * 5.5) < 4
    assert abs(bright.mean() - flash.mean()) <= 136 / 3.2 / 2 + 2


def test_text_that_the_font_does_not_know(recwarn: pytest.WarningsRecorder) -> None:
    assert drawable("café $1$ 李\ud800") == "café $1$ \\u674e\\ud800"
    frames, silence = np.zeros((2, 8, 8, 3), dtype=np.uint8), np.full((80, 7), -4, dtype=np.float32)
    nothing = np.zeros(2, dtype=np.float32)
    sample = Shown("李 $x$", "%s", "", 0, 0.0, 0, frames, nothing, silence.mean(axis=0), silence, nothing.astype(bool))
    assert draw_sheet([sample], "").startswith(b"\x89PNG")
    assert [str(warning.message) for warning in recwarn] == []
