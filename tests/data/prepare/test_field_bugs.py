"""The clips on which loaders of this field went wrong, each prepared for real and looked at in the shard.

Every usable clip flashes and clicks at one moment. What is stored must show both within half a frame (20 ms) of each
other and of the truth; every other clip must be rejected for the reason it has, and must cost nobody else anything.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from orchestrator.data.corpus import Corpus
from orchestrator.data.prepare import PreparationConfig, prepare_local

from ..flash_clip import FlashClip, copied_from, cut_in_half, times_of, write_flash_clip
from ..media.test_decode import turn_by

HALF_A_FRAME = 0.02 + 1e-6
CLIP = FlashClip()
B_FRAMES = {"crf": "15", "preset": "veryfast", "bf": "3", "b-pyramid": "normal", "g": "20"}
OLD = {"video": "mpeg1video", "audio": "mp2", "rate": 44_100, "options": {"qscale": "2"}}
NUMBERED = {"video": "mpeg4", "options": {"qscale": "2"}}
JITTER = np.random.default_rng(4).uniform(-0.012, 0.012, 48)
UNEVEN = tuple(sorted({*(k / 30 + JITTER[k] for k in range(1, 48) if k % 7 not in (3, 4) and k != 30), 0.0, 1.0}))

USABLE: dict[str, FlashClip] = {
    "same name/ann/00001.mp4": replace(CLIP, event_s=0.6),
    "same name/bob/00001.mp4": replace(CLIP, event_s=0.92),
    "same name/bob/deep/00001.mp4": replace(CLIP, event_s=1.24),
    "rates/23.976.mp4": replace(CLIP, fps=Fraction(24_000, 1001)),
    "rates/24.mp4": replace(CLIP, fps=24),
    "rates/29.97.mkv": replace(CLIP, fps=Fraction(30_000, 1001)),
    "rates/30.mp4": replace(CLIP, fps=30, rate=44_100, layout="stereo"),
    "rates/50.mp4": replace(CLIP, fps=50),
    "rates/60.mp4": replace(CLIP, fps=60),
    "rates/12.5.mp4": replace(CLIP, fps=Fraction(25, 2), event_s=0.96),
    "rates/variable.mp4": replace(CLIP, fps=30, times=UNEVEN),
    "rates/variable.mkv": replace(CLIP, fps=30, times=UNEVEN),
    "rates/frozen for a while.mp4": replace(CLIP, times=tuple(k / 25 for k in range(50) if not 3 <= k < 24), seconds=2),
    "sound/44.1 kHz stereo.mp4": replace(CLIP, rate=44_100, layout="stereo"),
    "sound/48 kHz 5.1.mp4": replace(CLIP, rate=48_000, layout="5.1"),
    "sound/48 kHz 5.1, only the centre.mkv": replace(CLIP, rate=48_000, layout="5.1", audio="ac3", voice=2),
    "sound/one silent channel.mp4": replace(CLIP, rate=44_100, layout="stereo", voice=1),
    "sound/8 kHz.mkv": replace(CLIP, rate=8_000, audio="pcm_s16le"),
    "sound/starts late.mp4": replace(CLIP, sound_start_s=0.4),
    "sound/starts late.mkv": replace(CLIP, sound_start_s=0.4, rate=44_100),
    "sound/starts late.mpg": replace(CLIP, sound_start_s=0.4, **OLD),
    "sound/ends early.mp4": replace(CLIP, seconds=2.0, sound_end_s=1.3),
    "sound/goes on.mp4": replace(CLIP, sound_end_s=2.6),
    "sound/two tracks.mp4": replace(CLIP, more_tracks=1),
    "sound/three tracks.mkv": replace(CLIP, more_tracks=2, rate=48_000),
    "sound/has a hole.mkv": replace(CLIP, audio="pcm_s16le", hole_s=(0.3, 0.7)),
    "picture/starts late.mp4": replace(CLIP, picture_start_s=0.5),
    "picture/starts late.mkv": replace(CLIP, picture_start_s=0.5, fps=30),
    "picture/starts late, b-frames.mp4": replace(CLIP, picture_start_s=0.3, options=B_FRAMES),
    "picture/clock begins at 100 s.mkv": replace(CLIP, picture_start_s=100, sound_start_s=100),
    "picture/clock begins at 100 s.mp4": replace(CLIP, picture_start_s=100, sound_start_s=100),
    "picture/b-frames.mp4": replace(CLIP, options=B_FRAMES),
    "picture/b-frames.mkv": replace(CLIP, options=B_FRAMES),
    "picture/cut without encoding.mp4": replace(CLIP, event_s=1.48, seconds=2.4, afterwards=copied_from(0.48)),
    "picture/cut without encoding, b-frames.mp4": replace(
        CLIP, event_s=1.48, seconds=2.4, options=B_FRAMES | {"g": "250"}, afterwards=copied_from(0.48)
    ),
    "picture/101x77.mp4": replace(CLIP, size=(101, 77), pix_fmt="yuv444p"),
    "picture/640x362.mp4": replace(CLIP, size=(640, 362)),
    "picture/turned 90.mp4": replace(CLIP, size=(96, 64), afterwards=lambda path: turn_by(path, 90)),
    "picture/turned 270.mov": replace(CLIP, size=(96, 64), afterwards=lambda path: turn_by(path, 270)),
    "picture/cover.mp4": replace(CLIP, cover=True),
    "container/quicktime.mov": replace(CLIP, audio="pcm_s16le", rate=48_000),
    "container/fragmented.mp4": replace(CLIP, container={"movflags": "frag_keyframe+delay_moov"}),
    "container/web.webm": replace(CLIP, video="libvpx", audio="libopus", rate=48_000, options={"deadline": "realtime"}),
    "container/old.mpg": replace(CLIP, **OLD),
    "container/old with b-frames.mpeg": replace(CLIP, **(OLD | {"options": {"qscale": "2", "bf": "2", "g": "12"}})),
    "container/pcm.avi": replace(CLIP, audio="pcm_s16le", **NUMBERED),
    "container/mp3.avi": replace(CLIP, audio="libmp3lame", rate=44_100, sound_start_s=0.04, **NUMBERED),
    "container/apple.m4v": CLIP,
    "container/CAPITALS.MP4": CLIP,
    "names/çelik 李 😀/a clip; $(rm -rf) 'x' \"y\" %d.mp4": CLIP,
    "names/ leading and trailing /#1.mp4": CLIP,
    "names/-i.mp4": CLIP,
    "length/one window.mp4": replace(CLIP, seconds=0.64, event_s=0.32),
}
REJECTED: dict[str, tuple[FlashClip | bytes, str]] = {
    "bad/no sound.mp4": (replace(CLIP, audio=""), "no_audio"),
    "bad/sound with a cover.mp4": (replace(CLIP, video="", cover=True), "no_video"),
    "bad/silent.mp4": (replace(CLIP, level=0.0), "silent"),
    "bad/less than a window.mp4": (replace(CLIP, seconds=0.6, event_s=0.3), "too_short"),
    "bad/cut off.mp4": (replace(CLIP, afterwards=cut_in_half), "unreadable"),
    "bad/cut off.mkv": (replace(CLIP, seconds=4.0, afterwards=cut_in_half), "truncated"),
    "bad/0 bytes.mp4": (b"", "empty_file"),
    "bad/a web page.mp4": (b"<!DOCTYPE html><html><body>Not found</body></html>" * 20, "unreadable"),
    "bad/a text.avi": (b"no video\n", "unreadable"),
    "bad/noise.mkv": (np.random.default_rng(0).bytes(50_000), "unreadable"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """All of them in one folder, prepared together."""
    root, out = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("prepared")
    for source, clip in USABLE.items():
        write_flash_clip(root / source, clip)
    for source, (content, _) in REJECTED.items():
        if isinstance(content, FlashClip):
            write_flash_clip(root / source, content)
        else:
            (root / source).parent.mkdir(exist_ok=True)
            (root / source).write_bytes(content)
    prepare_local(root, out, PreparationConfig(resolution=32, min_frames=16))
    return Corpus.open(out)


@pytest.mark.parametrize("source", USABLE)
def test_flash_and_click_stay_together(corpus: Corpus, source: str) -> None:
    clips = corpus.split("all")
    index = [clip.source for clip in clips.clips].index(source)
    clip = clips.clips[index]
    frames_TCHW = clips.window(index, 0, clip.num_frames).reshape(clip.num_frames, 3, clip.height, clip.width)
    flash, click = times_of(frames_TCHW, clips.mel_window(index, 0, clip.num_frames))
    truth = 1.0 if "cut without" in source else USABLE[source].event_s
    assert abs(flash - truth) <= HALF_A_FRAME, f"the flash is at {flash:.3f} s instead of {truth}"
    assert abs(click - truth) <= HALF_A_FRAME, f"the click is at {click:.3f} s instead of {truth}"
    assert abs(flash - click) <= HALF_A_FRAME


@pytest.mark.parametrize("source", REJECTED)
def test_what_cannot_be_used_is_rejected_for_its_reason(corpus: Corpus, source: str) -> None:
    (row,) = (row for row in corpus.rows if row.source == source)
    assert (row.status, row.reason) == ("rejected", REJECTED[source][1]), row.detail


def test_every_clip_is_accounted_for(corpus: Corpus) -> None:
    assert {row.source for row in corpus.rows if row.ok} == set(USABLE)
    assert len(corpus.rows) == len(USABLE) + len(REJECTED)
    assert len({row.clip_id for row in corpus.rows}) == len(corpus.rows)


def test_lengths_are_those_of_the_picture(corpus: Corpus) -> None:
    frames = {row.source: row.num_frames for row in corpus.rows if row.ok}
    assert frames.pop("length/one window.mp4") == 16
    for source in ("sound/ends early.mp4", "rates/frozen for a while.mp4"):
        assert frames.pop(source) == 50
    for source in list(frames):
        if "cut without" in source:
            assert abs(frames.pop(source) - 48) <= 1
    assert {source: count for source, count in frames.items() if abs(count - 40) > 1} == {}


def test_a_clip_of_exactly_one_window_gives_that_window(corpus: Corpus) -> None:
    clips = corpus.split("all")
    index = [clip.source for clip in clips.clips].index("length/one window.mp4")
    assert clips.window(index, 0, 16).shape == (48, 16, 32)
    assert clips.mel_window(index, 0, 16).shape == (80, 52)


def test_after_its_end_the_sound_is_silence(corpus: Corpus) -> None:
    clips = corpus.split("all")
    index = [clip.source for clip in clips.clips].index("sound/ends early.mp4")
    mel = clips.mel_window(index, 0, 50)
    assert (mel[:, 112:] == -4).all(), "1.4 s and later"
    assert (mel[:, 40:70].max(axis=0) > -4).all()


@pytest.mark.parametrize(
    ("source", "brighter"), [("picture/turned 90.mp4", "left"), ("picture/turned 270.mov", "right")]
)
def test_a_turned_video_is_upright(corpus: Corpus, source: str, brighter: str) -> None:
    """Pictures get brighter from top to bottom; turned clockwise by 90 degrees, the top is on the right."""
    clips = corpus.split("all")
    index = [clip.source for clip in clips.clips].index(source)
    columns = clips.window(index, 0, 1).mean(axis=(0, 1))
    left, right = columns[:8].mean(), columns[-8:].mean()
    assert (left > right + 30) if brighter == "left" else (right > left + 30)
