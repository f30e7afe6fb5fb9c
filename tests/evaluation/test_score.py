"""Videos with a known offset get it told; what cannot be judged says why; a batch survives any of its videos."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.checkpoint import save_state
from orchestrator.checkpoint.state import TrainState
from orchestrator.cli import main
from orchestrator.config import load_model_config
from orchestrator.config.model import JoonsonSyncNetConfig, JoonsonTrainerConfig
from orchestrator.data.media.decode import decode_clip
from orchestrator.data.media.features import log_mel
from orchestrator.errors import ConfigError, DataError, RunError
from orchestrator.evaluation.faces import choose
from orchestrator.evaluation.mfcc import mfcc_of
from orchestrator.evaluation.score import VideoScore, score, score_video
from orchestrator.evaluation.scores import write_scores
from orchestrator.evaluation.towers import Towers
from orchestrator.evaluation.verdicts import VideoStatus
from orchestrator.evaluation.videos import PIECE_FRAMES, Video, check_readable, find_videos, read_video
from orchestrator.models import build_model
from tests.conftest import TINY_MODEL
from tests.evaluation.talking import loudness_net, write_talk


@pytest.fixture(scope="module")
def towers() -> Towers:
    """A network that truly tells sync."""
    return Towers(loudness_net(load_model_config(TINY_MODEL)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network as a state."""
    folder = tmp_path_factory.mktemp("state") / "state"
    config = load_model_config(TINY_MODEL)
    save_state(TrainState(config, build_model(config).state_dict()), folder)
    return folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video in sync."""
    return write_talk(tmp_path_factory.mktemp("talk") / "talk.mp4")


@pytest.mark.parametrize(
    ("late", "status"),
    [(0, VideoStatus.IN_SYNC), (1, VideoStatus.IN_SYNC), (5, VideoStatus.OUT_OF_SYNC), (-4, VideoStatus.OUT_OF_SYNC)],
)
def test_a_known_offset_is_told(towers: Towers, tmp_path: Path, late: int, status: VideoStatus) -> None:
    found = score_video(write_talk(tmp_path / "talk.mp4", late=late), towers, face="aligned")
    assert found.status is status
    assert found.offset_frames == pytest.approx(late, abs=0.4)
    assert found.offset_ms == pytest.approx(found.offset_frames * 40)
    assert found.confidence is not None and found.confidence > 0.95
    assert (" after " in found.why) == (late > 0) and (" before " in found.why) == (late < 0)
    assert len(found.curve) == 31 and np.nanargmin(found.curve) == 15 + late
    assert {moment.offset for moment in found.timeline} <= {late - 1, late, late + 1}


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"other": True}, VideoStatus.UNSURE, "no offset stands out"),
        ({"late": 19}, VideoStatus.UNSURE, ""),
        ({"frames": 40}, VideoStatus.TOO_SHORT, "too few"),
        ({"level": 1e-5}, VideoStatus.NO_SPEECH, "0.0 s only"),
        ({"late": [-3, 5], "frames": 300}, VideoStatus.DIFFERS, "of its parts say"),
    ],
)
def test_what_has_no_offset_to_believe(
    towers: Towers, tmp_path: Path, changes: dict[str, Any], status: VideoStatus, word: str
) -> None:
    found = score_video(write_talk(tmp_path / "talk.mp4", **changes), towers, face="aligned")
    assert found.status is status and word in found.why


def test_more_offsets_are_tried_when_asked(towers: Towers, tmp_path: Path) -> None:
    file = write_talk(tmp_path / "talk.mp4", late=19, frames=200)
    found = score_video(file, towers, face="aligned", max_offset=25)
    assert found.offset_frames == pytest.approx(19, abs=0.4) and len(found.curve) == 51


def test_a_long_video_is_judged_piece_by_piece(towers: Towers, tmp_path: Path) -> None:
    file = write_talk(tmp_path / "talk.mp4", frames=PIECE_FRAMES + 50, late=2, size=(16, 16))
    found = score_video(file, towers, face="aligned")
    assert found.status is VideoStatus.OUT_OF_SYNC and len(found.pieces) == 2 and not found.notes
    assert found.pieces[0].end_s == found.pieces[1].start_s
    assert found.seconds == pytest.approx((PIECE_FRAMES + 50) / 25)
    seconds = [moment.seconds for moment in found.timeline]
    assert seconds == sorted(seconds) and seconds[-1] > 60
    for piece in found.pieces:
        assert piece.offset and piece.offset.frames == pytest.approx(2, abs=0.4)
    first = score_video(file, towers, face="aligned", max_seconds=5)
    assert first.seconds == 5 and first.status is VideoStatus.OUT_OF_SYNC and "first 5 s" in first.notes[0]


def test_windows_are_those_of_preparation(talk: Path, tiny_model_config: Any) -> None:
    (video,) = find_videos([talk])
    with video.local() as content:
        decoded = read_video(content, tiny_model_config)
    whole = decode_clip(talk, tiny_model_config.resolution, lower_half=True)
    assert np.array_equal(decoded.clip.frames_TCHW, whole.frames_THWC.transpose(0, 3, 1, 2))
    assert np.array_equal(decoded.clip.mel_ML, log_mel(torch.from_numpy(whole.wave)).numpy())


def test_syncnet_v2_hears_mfcc(talk: Path) -> None:
    config = JoonsonSyncNetConfig(n_out=8)
    check_readable(config)
    (video,) = find_videos([talk])
    with video.local() as content:
        decoded = read_video(content, config, max_frames=12)
    assert decoded.cut and decoded.clip.frames_TCHW.shape == (12, 3, 224, 224)
    mfcc = mfcc_of(decode_clip(talk).wave[: 12 * 640])
    ((_, clip, _),) = decoded.pieces()
    starts = clip.audio_starts(5, 3)
    assert starts.tolist() == list(range(7))
    assert np.array_equal(clip.mel_window(6, 5), mfcc[:, 24:44])
    embeds = Towers(build_model(config)).embed(clip, np.arange(2), starts)
    assert embeds.vision_VE.shape == (2, 8) and embeds.audio_AE.shape == (7, 8) and not embeds.unit


@pytest.mark.parametrize(
    "config", [load_model_config({**TINY_MODEL, "latent_space": True}), JoonsonTrainerConfig(temporal_stride=1)]
)
def test_networks_that_read_something_else_are_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match=r"latents|waveforms") as caught:
        check_readable(config)
    assert "syncnet_v2" in caught.value.hint


def test_broken_videos_are_rows(talk: Path, checkpoint: Path, tmp_path: Path) -> None:
    silent = write_talk(tmp_path / "silent.mp4", sound=False)
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    names = [silent, tmp_path / "text.mp4", tmp_path / "none.mp4", tmp_path / "empty.mp4", talk]
    told: list[VideoScore] = []
    found = score(names, checkpoint, face="aligned", on_done=told.append)
    assert told == found
    assert [each.reason for each in found] == ["no_audio", "unreadable", "missing", "empty_file", ""]
    assert [each.judged for each in found] == [False] * 4 + [True]
    assert all(each.status is VideoStatus.FAILED and each.why for each in found[:4])
    assert all(str(tmp_path) not in each.why for each in found[:4])


def test_videos_are_found_once_in_folders_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/one.mp4", "a/deep/two.MKV", "b/one.mp4", "a/.hidden.mp4", "a/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("b/one.mp4\n")
    monkeypatch.chdir(tmp_path)
    found = find_videos([tmp_path / "b" / "one.mp4", tmp_path / "a", tmp_path / "list.txt", "b/one.mp4"])
    names = [Path(each.name).resolve().relative_to(tmp_path).as_posix() for each in found]
    assert names[0] == "b/one.mp4" and sorted(names[1:3]) == ["a/deep/two.MKV", "a/one.mp4"]
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="no video"):
        find_videos([tmp_path / "c"])


def test_a_square_picture_is_taken_as_it_is_and_another_needs_the_aligner(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    wide = write_talk(tmp_path / "wide.mp4", frames=20, size=(64, 48))
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with _local(talk) as content:
        assert choose("auto", content).face == "aligned"
    with _local(wide) as content, pytest.raises(DataError, match="64x48") as caught:
        choose("auto", content)
    assert "pip install" in caught.value.hint and "--face aligned" in caught.value.hint
    with pytest.raises(RunError) as refused:
        score([wide], checkpoint, face="align")
    assert "pip install" in refused.value.hint and "--face aligned" in refused.value.hint
    (row,) = score([wide], checkpoint)
    assert row.reason == "needs_align" and "pip install" in row.why


def test_faces_are_found_and_each_stretch_is_judged(towers: Towers, tmp_path: Path) -> None:
    pytest.importorskip("facenet_pytorch", reason="needs the extra align")
    from tests.data.align.face_video import Scene, still, write_face_video

    scenes = [Scene(40), Scene(12, faces=(), background=3), Scene(40, faces=(still(x=200.0),), background=5)]
    video = write_face_video(tmp_path / "raw" / "talk.mp4", scenes)
    found = score_video(video, towers, max_seconds=3)
    assert found.face.startswith("align: the picture is 480x360")
    kinds = [(round(piece.start_s * 25), piece.report is not None) for piece in found.pieces]
    assert kinds == [(0, True), (40, False), (52, True)]
    assert found.pieces[1].verdict.status is VideoStatus.NO_FACE
    assert found.pieces[2].end_s == 3 and "first 3 s" in found.notes[0]
    assert [path.name for path in video.parent.iterdir()] == ["talk.mp4"]
    (tmp_path / "bad.mp4").write_text("not a video")
    assert score_video(tmp_path / "bad.mp4", towers, face="align").reason == "unreadable"


def test_files_of_a_batch_do_not_collide(towers: Towers, tmp_path: Path) -> None:
    files = [write_talk(tmp_path / place / "talk.mp4", seed=seed) for seed, place in enumerate(("a", "b"))]
    scores = [score_video(file, towers, face="aligned") for file in files]
    write_scores(tmp_path / "out", [*scores, score_video(tmp_path / "none.mp4", towers)], "net.pt")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:video/webm") == len(scores) and "none.mp4" in page and "net.pt" in page
    plain = json.loads((tmp_path / "out" / "scores.json").read_text())
    charts = [each["chart"] for each in plain]
    assert len(set(charts)) == 3 and charts[2] == ""
    assert all((tmp_path / "out" / chart).read_bytes().startswith(b"\x89PNG") for chart in charts[:2])
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [row["status"] for row in rows] == ["in sync", "in sync", "failed"]
    assert float(rows[0]["offset_frames"]) == pytest.approx(scores[0].offset_frames, abs=1e-3)


def test_the_command(talk: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["score", str(talk), str(tmp_path / "none.mp4"), "--checkpoint", str(checkpoint), "--face", "aligned"]
    assert main([*asked, "--csv", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "verdict" in shown and "LSE-D" in shown and "no such file" in shown
    assert (tmp_path / "t.csv").read_text() == (tmp_path / "out" / "scores.csv").read_text()
    assert main([*asked, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [each["reason"] for each in plain] == ["", "missing"] and len(plain[0]["curve"]) == 31


def test_the_command_says_when_nothing_was_judged(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    options = ["--checkpoint", str(checkpoint)]
    assert main(["score", str(tmp_path / "text.mp4"), *options]) == 1
    assert "is no video or is damaged" in capsys.readouterr().out
    (tmp_path / "void").mkdir()
    assert main(["score", str(tmp_path / "void"), *options]) == 2
    assert "no video" in capsys.readouterr().err


def _local(path: Path) -> Any:
    (video,) = find_videos([path])
    assert isinstance(video, Video)
    return video.local()
