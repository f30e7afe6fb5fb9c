"""Decoding: picture and sound stay together at any rate, and every broken file gives one clear error."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from orchestrator.data.media.decode import DecodedClip, decode_clip
from orchestrator.data.media.frames import upright
from orchestrator.errors import DataError

from ..conftest import Writer

ALIGNED = {
    "25 fps": {},
    "30 fps, 44.1 kHz stereo": {"fps": 30, "rate": 44_100, "stereo": True},
    "50 fps, 48 kHz": {"fps": 50, "rate": 48_000},
    "late sound": {"audio_start_s": 0.4},
    "late sound at 30 fps, 44.1 kHz": {"fps": 30, "rate": 44_100, "audio_start_s": 0.3},
    "variable frame rate": {"frame_times": [k / 25 for k in range(40) if k not in (5, 6, 17, 31)]},
}


@pytest.mark.parametrize(
    ("kind", "container"), [*itertools.product(ALIGNED, ["mp4", "mkv"]), ("25 fps", "avi"), ("50 fps, 48 kHz", "avi")]
)
def test_flash_and_click_stay_together(tmp_path: Path, write_clip: Writer, kind: str, container: str) -> None:
    path = write_clip(tmp_path / f"clip.{container}", event_s=1.0, **ALIGNED[kind])
    clip = decode_clip(path)
    assert len(clip.wave) == 640 * len(clip.frames_THWC)
    assert len(clip.frames_THWC) == 40
    flash, click = event_times(clip)
    assert abs(flash - 1.0) <= 0.02
    assert abs(click - 1.0) <= 0.005
    assert abs(flash - click) <= 0.02


def event_times(clip: DecodedClip) -> tuple[float, float]:
    """When the white frame and the click are, in seconds."""
    brightness = clip.frames_THWC.mean(axis=(1, 2, 3))
    return float(brightness.argmax()) / 25, float(np.abs(clip.wave).argmax()) / 16_000


def test_sound_before_its_start_is_silence_and_after_it_is_not(tmp_path: Path, write_clip: Writer) -> None:
    wave = decode_clip(write_clip(tmp_path / "late.mp4", audio_start_s=0.5)).wave
    assert not wave[: int(0.35 * 16_000)].any()  # the encoder's own window reaches a little before the first sample
    assert wave[int(0.55 * 16_000) : -1600].std() > 0.05


def test_a_stereo_copy_keeps_the_level(tmp_path: Path, write_clip: Writer) -> None:
    mono = decode_clip(write_clip(tmp_path / "mono.mp4")).wave
    stereo = decode_clip(write_clip(tmp_path / "stereo.mp4", stereo=True)).wave
    assert stereo.std() == pytest.approx(mono.std(), rel=0.05)


def test_frames_at_25_fps_are_the_decoder_s_own(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(decode_clip(path).frames_THWC, np.stack(expected))


def test_one_converter_serves_frames_of_any_kind() -> None:
    rng, converter = np.random.default_rng(0), VideoReformatter()
    frames = [
        VideoFrame.from_ndarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8), format="rgb24").reformat(format=kind)
        for size, kind in itertools.product([(32, 32), (63, 49)], ["yuv420p", "gray", "yuv422p10le", "rgb24"])
    ]
    for frame in (*frames, *frames[::-3]):
        assert np.array_equal(upright(frame, converter), frame.to_ndarray(format="rgb24"))


def test_lower_half_is_the_bottom_of_the_resized_frame(tmp_path: Path, write_clip: Writer) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=0.4)
    whole = decode_clip(path, 96).frames_THWC
    assert whole.shape == (10, 96, 96, 3)
    assert np.array_equal(decode_clip(path, 96, lower_half=True).frames_THWC, whole[:, 48:])


@pytest.mark.parametrize("angle, turns", [(90, 3), (180, 2), (270, 1)])
def test_a_turned_video_comes_out_upright(tmp_path: Path, write_clip: Writer, angle: int, turns: int) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=0.2)
    plain = decode_clip(path).frames_THWC
    turn_by(path, angle)
    turned = decode_clip(path).frames_THWC
    assert np.array_equal(turned, np.rot90(plain, turns, axes=(1, 2)))


def turn_by(path: Path, angle: int) -> None:
    """Set the display matrix of the video track (the first one) to a clockwise turn, as phones do."""
    one, zero, minus = (1 << 16).to_bytes(4, "big"), bytes(4), (-(1 << 16)).to_bytes(4, "big", signed=True)
    a, b, c, d = {90: (zero, one, minus, zero), 180: (minus, zero, zero, minus), 270: (zero, minus, one, zero)}[angle]
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 20] = a + b + zero + c + d
    path.write_bytes(content)


def test_broken_files_are_named_by_reason(tmp_path: Path, write_clip: Writer) -> None:
    whole = write_clip(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    write_clip(tmp_path / "mute.mp4", sound=False)
    reasons = {
        "absent": "missing",
        "empty": "empty_file",
        "text": "unreadable",
        "half": "unreadable",
        "mute": "no_audio",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError) as caught:
            decode_clip(tmp_path / f"{name}.mp4")
        assert (caught.value.reason, "\n" in str(caught.value)) == (reason, False)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_cut_off_file_with_its_header_in_front_is_truncated(tmp_path: Path, write_clip: Writer, kind: str) -> None:
    options = {"movflags": "faststart"} if kind == "mp4" else {}
    path = write_clip(tmp_path / f"clip.{kind}", seconds=3.0, options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        decode_clip(path)
    assert caught.value.reason in ("truncated", "unreadable")


def test_an_audio_file_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="no video stream"):
        decode_clip(path)


def test_a_clip_that_is_too_long_stops_early(tmp_path: Path, write_clip: Writer) -> None:
    # One second of pictures and then a jump of a day, as broken timestamps make it.
    path = write_clip(tmp_path / "jump.mkv", seconds=1.0, frame_times=[*(k / 25 for k in range(25)), 86_400.0])
    with pytest.raises(DataError, match="more than 100 frames"):
        decode_clip(path, 32, max_frames=100)


def test_the_centre_of_surround_sound_is_not_drowned(tmp_path: Path) -> None:
    path = tmp_path / "surround.mkv"
    voice = np.random.default_rng(0).uniform(-0.3, 0.3, 16_000).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        audio = container.add_stream("flac", rate=16_000, layout="5.1")
        for t in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
            picture.pts, picture.time_base = t, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        sound = np.zeros((6, 16_000), dtype=np.int16)
        sound[2] = voice * 32_767  # front left, front right, centre, ...
        for first in range(0, 16_000, 1000):
            interleaved = np.ascontiguousarray(sound[:, first : first + 1000].T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="5.1")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, first, Fraction(1, 16_000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    loss_db = 20 * np.log10(voice.std() / decode_clip(path, 16).wave.std())
    assert loss_db < 12  # the mean of six channels would lose 15.6


def test_the_soundtrack_that_is_marked_as_the_default_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        tracks = [container.add_stream("flac", rate=16_000, layout="mono") for _ in range(2)]
        tracks[0].disposition, tracks[1].disposition = Disposition.comment, Disposition.default
        for t in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
            picture.pts, picture.time_base = t, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        for track, level in zip(tracks, (0, 9000), strict=True):
            sound = np.full((1, 16_000), level, dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    assert decode_clip(path, 16).wave.mean() > 0.2
