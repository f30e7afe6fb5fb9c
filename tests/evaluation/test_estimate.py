"""The A/V offset without a checkpoint: drawn heads with known shifts, and all that must come back as unknown."""

# T frames, C channels, H W pixels, M mel bins, L mel columns

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orchestrator.data.media.decode import decode_clip
from orchestrator.data.media.features import log_mel
from orchestrator.data.synthetic import make_corpus
from orchestrator.errors import DataError
from orchestrator.evaluation.estimate import Estimate, estimate_offset

FRAMES, FIRST = 62, 10
"""Of the drawn clips of 3.3 s: what is cut out, so that every shift has its real sound."""
SHIFTS = (-10.0, -7.3, -4.5, -2.0, -0.7, 0.0, 0.4, 1.5, 3.0, 5.6, 8.2, 10.0)


@dataclass(frozen=True)
class Source:
    """A drawn clip in sync."""

    frames: NDArray[np.uint8]
    wave: NDArray[np.float32]

    def later(self, frames: float) -> NDArray[np.float32]:
        """The mel of the part that is cut out, with its sound so many frames later."""
        start = FIRST * 640 - round(frames * 640)
        return log_mel(torch.from_numpy(self.wave[start : start + FRAMES * 640].copy())).numpy()

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The frames of the part that is cut out."""
        return self.frames[FIRST : FIRST + FRAMES]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Twelve clips of 3.3 s, lower halves of 32 pixels."""
    folder = tmp_path_factory.mktemp("heads")
    paths = make_corpus(folder, speakers=6, clips_per_speaker=2, seconds=3.32, size=64, seed=11)
    clips = [decode_clip(path, resolution=32, lower_half=True) for path in paths]
    return [Source(np.ascontiguousarray(c.frames_THWC.transpose(0, 3, 1, 2)), c.wave) for c in clips]


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    """numpy warns where it divides by nothing: no clip may get there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_known_shifts_are_found_to_a_fraction_of_a_frame(sources: list[Source]) -> None:
    found = [estimate_offset(s.picture, s.later(shift)) for s, shift in zip(sources, SHIFTS, strict=True)]
    errors = np.array([e.offset_frames for e in found]) - SHIFTS
    assert (np.abs(errors) <= 1).sum() >= 10  # all twelve when this was written
    assert np.median(np.abs(errors)) < 0.3
    assert all(e.confidence > 0.5 for e, error in zip(found, errors, strict=True) if abs(error) < 0.3)


def test_positive_means_that_the_sound_comes_later(sources: list[Source]) -> None:
    late, early = (estimate_offset(sources[0].picture, sources[0].later(shift)) for shift in (6.0, -6.0))
    assert late.offset_frames == pytest.approx(6, abs=1)
    assert early.offset_frames == pytest.approx(-6, abs=1)
    assert late.curve.shape == (31,)
    assert late.curve.argmax() - 15 == round(late.offset_frames)


def test_the_same_arrays_give_the_same_bits(sources: list[Source]) -> None:
    one, two = (estimate_offset(sources[1].picture, sources[1].later(2.0)) for _ in range(2))
    assert (one.offset_frames, one.confidence) == (two.offset_frames, two.confidence)
    assert np.array_equal(one.curve, two.curve)


def test_light_loudness_and_size_change_nothing_that_matters(sources: list[Source]) -> None:
    source, mel = sources[2], sources[2].later(3.0)
    usual = estimate_offset(source.picture, mel)
    rng = np.random.default_rng(0)
    flicker = rng.integers(-30, 30, (FRAMES, 1, 1, 1))
    changed = {
        "darker": (source.picture // 2, mel),
        "flickering": ((source.picture.astype(int) // 2 + 60 + flicker).astype(np.uint8), mel),
        "larger": (source.picture.repeat(3, axis=2).repeat(3, axis=3), mel),
        "whole face": (np.concatenate([np.zeros_like(source.picture), source.picture], axis=2), mel),
        "latents": (source.picture[:, [0, 1, 2, 0]].astype(np.float16) / 64 - 2, mel),
        "quieter": (source.picture, (mel - 0.5).astype(np.float32)),
    }
    for name, (frames, sound) in changed.items():
        assert estimate_offset(frames, sound).offset_frames == pytest.approx(usual.offset_frames, abs=0.3), name


def test_somebody_elses_sound_is_less_sure_than_ones_own(sources: list[Source]) -> None:
    own = [estimate_offset(s.picture, s.later(0.0)).confidence for s in sources]
    foreign = [estimate_offset(s.picture, sources[n - 5].later(0.0)).confidence for n, s in enumerate(sources)]
    assert np.mean(own) > 0.8
    assert np.mean(foreign) < 0.5


@pytest.mark.parametrize("reason", ["static_mouth", "grainy still", "silent", "steady_sound", "too_short", "one frame"])
def test_where_nothing_can_be_found_the_confidence_is_0(sources: list[Source], reason: str) -> None:
    rng = np.random.default_rng(0)
    frames, mel = sources[0].picture, sources[0].later(0.0)
    still = frames[:1].repeat(FRAMES, axis=0)
    noise = torch.from_numpy(rng.normal(0, 0.1, FRAMES * 640).astype(np.float32))
    cases = {
        "static_mouth": (still, mel),
        "grainy still": ((still + rng.normal(0, 8, still.shape)).clip(0, 255).astype(np.uint8), mel),
        "silent": (frames, np.full_like(mel, -4)),
        "steady_sound": (frames, log_mel(noise).numpy()),
        "too_short": (frames[:38], mel),
        "one frame": (frames[:1], mel),
    }
    found = estimate_offset(*cases[reason])
    expected = {"grainy still": "static_mouth", "one frame": "too_short"}.get(reason, reason)
    assert (found.offset_frames, found.confidence, found.reason) == (0.0, 0.0, expected)
    assert not found.curve.any()


def test_noise_gives_numbers_and_little_confidence() -> None:
    rng = np.random.default_rng(3)
    found: list[Estimate] = []
    for _ in range(8):
        frames = np.cumsum(rng.normal(0, 3, (60, 3, 16, 32)), axis=0)
        mel = np.cumsum(rng.normal(0, 0.2, (80, 193)), axis=1).clip(-4, 4).astype(np.float32)
        found.append(estimate_offset((frames + 128).clip(0, 255).astype(np.uint8), mel))
    assert all(np.isfinite([e.offset_frames, e.confidence, *e.curve]).all() for e in found)
    assert np.mean([e.confidence for e in found]) < 0.4
    assert all(e.reason for e in found if e.confidence < 0.5)


def test_the_last_offset_that_is_looked_at_is_not_believed(sources: list[Source]) -> None:
    found = estimate_offset(sources[3].picture, sources[3].later(6.0), max_offset=5)
    assert (found.confidence, found.reason) == (0.0, "at_edge")


def test_pauses_are_left_out_where_speech_is_known(sources: list[Source]) -> None:
    source, speech = sources[4], np.zeros(FRAMES, dtype=np.bool_)
    assert estimate_offset(source.picture, source.later(0.0), speech_T=speech).reason == "little_speech"
    speech[30:55] = True
    found = estimate_offset(source.picture, source.later(-4.0), speech_T=speech)
    assert found.offset_frames == pytest.approx(-4, abs=1)


def test_arrays_of_another_shape_are_refused(sources: list[Source]) -> None:
    frames, mel = sources[0].picture, sources[0].later(0.0)
    for bad in (frames[0], frames[:, :0]):
        with pytest.raises(DataError, match="frames must be"):
            estimate_offset(bad, mel)
    for bad_mel in (mel[:40], mel[:, :100], np.full_like(mel, np.nan)):
        with pytest.raises(DataError, match="mel"):
            estimate_offset(frames, bad_mel)
    with pytest.raises(DataError, match="finite"):
        estimate_offset(np.full(frames.shape, np.nan, dtype=np.float16), mel)
    with pytest.raises(ValueError, match="max_offset"):
        estimate_offset(frames, mel, max_offset=2)
