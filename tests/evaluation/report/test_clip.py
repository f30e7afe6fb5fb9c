"""Clips hold every frame, sound and picture at the same time, and the same bytes every time."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.evaluation.report.clip import enlarged, playable


def decoded(content: bytes) -> tuple[list[tuple[float, NDArray[np.uint8]]], NDArray[np.float32], float, int]:
    """Times and pictures; the wave, when it begins and its rate."""
    with av.open(io.BytesIO(content)) as container:
        pictures = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    with av.open(io.BytesIO(content)) as container:
        sounds = list(container.decode(audio=0))
    wave = np.concatenate([sound.to_ndarray()[0] for sound in sounds])
    return pictures, wave, float(sounds[0].pts * sounds[0].time_base), sounds[0].sample_rate


@pytest.mark.parametrize(("event", "fps"), [(7, 25), (31, 25), (12, 30)])
def test_a_flash_and_a_click_stay_together(event: int, fps: int) -> None:
    frames = np.full((40, 64, 96, 3), 30, np.uint8)
    frames[event] = 255
    wave = np.zeros(40 * 16_000 // fps, np.float32)
    wave[event * 16_000 // fps :][:48] = 0.9
    pictures, heard, start, rate = decoded(playable(frames, wave, fps))
    assert len(pictures) == 40
    brightest = max(range(40), key=lambda place: pictures[place][1].mean())
    assert brightest == event
    assert pictures[brightest][0] == pytest.approx(event / fps, abs=0.001)
    click = start + float(np.abs(heard).argmax()) / rate
    assert click == pytest.approx(event / fps, abs=0.005)
    assert start + len(heard) / rate == pytest.approx(40 / fps, abs=0.03)


def test_colours_stay() -> None:
    frames = np.zeros((10, 128, 128, 3), np.uint8)
    frames[:, :, :64], frames[:, :, 64:] = (200, 40, 40), (40, 60, 190)
    picture = decoded(playable(frames, np.zeros(6400, np.float32)))[0][5][1].astype(int)
    assert np.abs(picture[64, 20] - (200, 40, 40)).max() < 8
    assert np.abs(picture[64, 108] - (40, 60, 190)).max() < 8


def test_bytes_are_the_same_and_few() -> None:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 1, (50, 128, 128, 3)), axis=0) + np.linspace(60, 180, 128)[:, None, None]
    frames, wave = smooth.clip(0, 255).astype(np.uint8), rng.normal(0, 0.2, 32_000).astype(np.float32)
    content = playable(frames, wave)
    assert content == playable(frames, wave)
    assert len(content) < 80_000
    assert b"Lavf6" not in content and b"Lavc6" not in content, "a version would change the bytes"


def test_sound_that_is_too_long_is_cut_and_short_sound_is_no_fault() -> None:
    frames = np.zeros((25, 32, 32, 3), np.uint8)
    pictures, heard, start, rate = decoded(playable(frames, np.full(64_000, 0.1, np.float32)))
    assert len(pictures) == 25 and start + len(heard) / rate < 1.05
    assert len(decoded(playable(frames, np.full(100, 0.1, np.float32)))[0]) == 25


@pytest.mark.parametrize(("size", "shown"), [((16, 32), (64, 128)), ((31, 33), (124, 132)), ((201, 255), (202, 256))])
def test_small_pictures_are_enlarged_to_even_sides(size: tuple[int, int], shown: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, *size, 3), dtype=np.uint8)
    assert enlarged(frames).shape == (2, *shown, 3)
    factor = shown[0] // size[0]
    assert np.array_equal(enlarged(frames)[:, : size[0] * factor : factor, : size[1] * factor : factor], frames)
    with av.open(io.BytesIO(playable(frames, np.zeros(1280, np.float32)))) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == shown and stream.average_rate == Fraction(25)
