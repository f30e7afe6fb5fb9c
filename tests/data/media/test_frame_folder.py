"""Clips stored as numbered pictures and a wav: order, timing, and every way in which they can be incomplete."""

from __future__ import annotations

import shutil
import wave as wavefile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.data.media.frame_folder import decode_frame_folder, frame_folder_fingerprint, numbered_pictures
from orchestrator.data.media.frames import FrameChunks
from orchestrator.errors import DataError

PICTURES = 30
CLICK = 20
"""The picture that is white and at whose time a click is heard."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 30 pictures of different sizes, as crops are."""
    return make_frame_folder(tmp_path_factory.mktemp("made") / "spk 李" / "clip", PICTURES, click=CLICK)


@pytest.fixture
def clip(made: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return shutil.copytree(made, tmp_path / "clip")


def make_frame_folder(folder: Path, count: int, click: int | None = None, rate: int = 16_000) -> Path:
    """Write `0.jpg ... audio.wav`: grey pictures, the one at `click` white, with a click at its time."""
    folder.mkdir(parents=True)
    for number in range(count):
        picture = np.full((48 + number % 3, 40 + number % 2, 3), 255 if number == click else 60, dtype=np.uint8)
        (folder / f"{number}.jpg").write_bytes(encoded(picture, "mjpeg"))
    sound = np.random.default_rng(0).uniform(-0.01, 0.01, count * rate // 25)
    if click is not None:
        sound[click * rate // 25 :][: rate // 500] = 0.9
    write_wav(folder / "audio.wav", sound, rate)
    return folder


def encoded(picture_HWC: NDArray[np.uint8], codec: str) -> bytes:
    """A picture as the bytes of a jpg (`mjpeg`) or png file."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = picture_HWC.shape[1], picture_HWC.shape[0]
    encoder.pix_fmt, encoder.time_base = "yuvj420p" if codec == "mjpeg" else "rgb24", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")
    return b"".join(bytes(packet) for part in (frame, None) for packet in encoder.encode(part))


def write_wav(path: Path, sound: NDArray[np.float64], rate: int) -> None:
    """A mono wav of 16 bits."""
    with wavefile.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def decode(folder: Path, resolution: int | None = 32) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames `(T, 3, H, W)` and the wave."""
    chunks: list[NDArray[np.uint8]] = []
    sink = FrameChunks(lambda chunk: chunks.append(chunk.copy()), resolution=resolution, chunk=7)
    sound = decode_frame_folder(folder, folder / "audio.wav", sink)
    sink.finish()
    return np.concatenate(chunks), sound


def test_pictures_come_in_the_order_of_their_numbers_at_25_per_second(made: Path) -> None:
    frames, sound = decode(made)
    assert frames.shape == (PICTURES, 3, 32, 32)
    assert sound.shape == (PICTURES * 640,)
    brightness = frames.mean(axis=(1, 2, 3))
    assert brightness.argmax() == CLICK and brightness.max() > 250
    assert abs(np.delete(brightness, CLICK) - 60).max() < 2
    assert abs(int(np.abs(sound).argmax()) - CLICK * 640) <= 32


def test_the_sound_may_have_any_rate(tmp_path: Path) -> None:
    frames, sound = decode(make_frame_folder(tmp_path / "clip", PICTURES, CLICK, rate=44_100))
    assert len(sound) == len(frames) * 640
    assert abs(int(np.abs(sound).argmax()) - CLICK * 640) <= 40


@pytest.mark.parametrize("samples", [-1000, 1000])
def test_a_sound_of_nearly_the_length_is_cut_or_filled(clip: Path, samples: int) -> None:
    write_wav(clip / "audio.wav", np.full(PICTURES * 640 + samples, 0.5), 16_000)
    _, sound = decode(clip)
    assert len(sound) == PICTURES * 640
    assert bool(sound[-500:].any()) == (samples > 0)


def test_png_and_padded_numbers(clip: Path) -> None:
    for number in range(PICTURES):
        (clip / f"{number}.jpg").unlink()
        picture = np.full((20, 24, 3), number * 8, dtype=np.uint8)
        (clip / f"{number:05d}.png").write_bytes(encoded(picture, "png"))
    (clip / "cover.png").write_bytes(b"not one of them")
    frames, _ = decode(clip, resolution=None)
    assert (frames == (np.arange(PICTURES, dtype=np.uint8) * 8)[:, None, None, None]).all()


def replace_picture(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content((folder / name).read_bytes()))


def silence_for(seconds: float) -> Callable[[Path], object]:
    return lambda folder: write_wav(folder / "audio.wav", np.zeros(round(seconds * 16_000)), 16_000)


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (lambda folder: (folder / "11.jpg").unlink(), "missing_frame", "11.jpg is missing, the next picture is 12.jpg"),
        (lambda folder: (folder / "0.jpg").unlink(), "missing_frame", "0.jpg is missing"),
        (lambda folder: shutil.copy(folder / "3.jpg", folder / "03.jpg"), "double_frame", "same number as"),
        (replace_picture("7.jpg", lambda content: b""), "empty_file", "7.jpg"),
        (replace_picture("7.jpg", lambda content: content[: len(content) // 2]), "unreadable", "7.jpg"),
        (replace_picture("7.jpg", lambda content: b"<html>" * 50), "unreadable", "7.jpg"),
        (replace_picture("audio.wav", lambda content: b"no sound at all" * 9), "unreadable", "audio.wav"),
        (replace_picture("audio.wav", lambda content: b""), "empty_file", "audio.wav"),
        (lambda folder: (folder / "audio.wav").unlink(), "no_audio", "audio.wav"),
        (silence_for(30 / 30), "length_differs", "lasts 1.00 s, but 30 pictures at 25 per second last 1.20 s"),
        (silence_for(1.4), "length_differs", "some were left out"),
    ],
)
def test_what_is_wrong_is_named(clip: Path, spoil: Callable[[Path], object], reason: str, words: str) -> None:
    spoil(clip)
    with pytest.raises(DataError) as caught:
        decode(clip)
    assert (caught.value.reason, words in caught.value.message) == (reason, True), caught.value


def test_without_pictures_or_folder(tmp_path: Path) -> None:
    for folder, reason in ((tmp_path, "no_video"), (tmp_path / "absent", "missing")):
        with pytest.raises(DataError) as caught:
            numbered_pictures(folder)
        assert caught.value.reason == reason


def test_what_the_sink_refuses_names_the_picture(made: Path) -> None:
    with pytest.raises(DataError, match=r"1\.jpg: the picture size changes") as caught:
        decode(made, resolution=None)
    assert caught.value.reason == "varying_size"


def test_the_fingerprint_is_that_of_pictures_and_sound(made: Path, clip: Path) -> None:
    def fingerprint(folder: Path) -> str:
        return frame_folder_fingerprint(folder, folder / "audio.wav")

    assert fingerprint(clip) == fingerprint(made)
    (clip / "notes.txt").write_text("nothing to do with it")
    assert fingerprint(clip) == fingerprint(made)
    shutil.copy(clip / "5.jpg", clip / "20.jpg")
    assert fingerprint(clip) != fingerprint(made)
    shutil.copy(made / "20.jpg", clip / "20.jpg")
    assert fingerprint(clip) == fingerprint(made)
    write_wav(clip / "audio.wav", np.zeros(PICTURES * 640), 16_000)
    assert fingerprint(clip) != fingerprint(made)
