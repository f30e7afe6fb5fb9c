"""Augmentation: a pure function of seed and position, and a batch at once gives what each sample would get alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.data import AugmentConfig
from orchestrator.data.stream.augment import Augmenter, Changes, augment_frames, augment_mel

COLUMNS = 16
STRONG = AugmentConfig(flip=0.5, brightness=0.6, contrast=0.7, mel_time=9, mel_bins=30, gain_db=30)
seeds = st.integers(0, 2**64 - 1)


def windows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (count, 6, 5, 7), dtype=torch.uint8, generator=generator)
    return frames, (torch.randn((count, 1, 80, COLUMNS), generator=generator) * 3).clamp(-4, 4)


@given(seeds, st.integers(0, 10**12))
def test_a_change_depends_on_seed_and_position_only(seed: int, index: int) -> None:
    first = Augmenter(STRONG, COLUMNS, seed)
    change = first.change(index)
    first.change(index + 1)
    assert first.change(index) == change == Augmenter(STRONG, COLUMNS, seed).change(index)


def test_changes_never_change_between_versions() -> None:
    """Known values: another result would silently move every run that is resumed."""
    change = Augmenter(STRONG, COLUMNS, 7).change(3)
    assert (change.flip, change.columns, change.bins) == KNOWN_PLACES
    assert [change.brightness, change.contrast, change.gain_db] == pytest.approx(KNOWN_AMOUNTS)


@given(seeds, st.integers(0, 10**9))
def test_changes_stay_within_the_settings(seed: int, index: int) -> None:
    change = Augmenter(STRONG, COLUMNS, seed).change(index)
    assert abs(change.brightness) <= 0.6 and abs(change.contrast) <= 0.7 and abs(change.gain_db) <= 30
    for (first, end), most, total in ((change.columns, 9, COLUMNS), (change.bins, 30, 80)):
        assert 0 <= first <= end <= total and end - first <= most


def test_changes_are_spread_evenly() -> None:
    changes = [Augmenter(STRONG, COLUMNS, 1).change(index) for index in range(4000)]
    assert abs(sum(change.flip for change in changes) - 2000) < 160
    assert abs(np.mean([change.gain_db for change in changes])) < 1.4
    assert {end - first for first, end in (change.columns for change in changes)} == set(range(10))
    assert {place for change in changes for place in range(*change.columns)} == set(range(COLUMNS))


def test_a_batch_gets_what_each_sample_would_get_alone() -> None:
    augmenter, positions = Augmenter(STRONG, COLUMNS, 5), range(100, 164)
    frames, mel = windows(len(positions))
    changes = augmenter.changes(positions)
    changed_frames, changed_mel = augment_frames(frames, changes), augment_mel(mel, changes)
    assert (changed_frames.dtype, changed_mel.dtype) == (torch.uint8, torch.float32)
    for place, position in enumerate(positions):
        expected = reference(augmenter, position, frames[place].numpy(), mel[place].numpy())
        assert np.array_equal(changed_frames[place].numpy(), expected[0])
        assert np.array_equal(changed_mel[place].numpy(), expected[1])


def reference(augmenter: Augmenter, position: int, frames: np.ndarray, mel: np.ndarray) -> tuple[np.ndarray, ...]:
    """One sample, step by step, as the settings are documented."""
    change = augmenter.change(position)
    factor = np.float32((1 + change.brightness) * (1 + change.contrast))
    bright = frames.astype(np.float32) * factor + np.float32(-127.5 * change.contrast)
    frames = np.rint(bright.clip(0, 255)).astype(np.uint8)
    frames = frames[..., ::-1] if change.flip else frames
    mel = np.where(mel > -4, (mel + np.float32(0.08 * change.gain_db)).clip(-4, 4), mel)
    mel[:, :, slice(*change.columns)] = -4
    mel[:, slice(*change.bins), :] = -4
    return frames, mel


def test_what_is_off_is_not_touched() -> None:
    frames, mel = windows(4)
    changes = Augmenter(AugmentConfig(), COLUMNS, 5).changes(range(4))
    assert changes == Changes()
    assert augment_frames(frames, changes) is frames and augment_mel(mel, changes) is mel
    gained = Augmenter(AugmentConfig(gain_db=3), COLUMNS, 5).changes(range(4))
    assert augment_frames(frames, gained) is frames
    quiet = torch.full((4, 1, 80, COLUMNS), -4.0)
    assert torch.equal(augment_mel(quiet, gained), quiet)  # silence stays silence, however much louder


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    changes = Augmenter(STRONG, COLUMNS, 5).changes(range(64))
    frames, mel = windows(64)
    there = changes.to(torch.device("cuda"))
    assert torch.equal(augment_frames(frames.cuda(), there).cpu(), augment_frames(frames, changes))
    assert torch.equal(augment_mel(mel.cuda(), there).cpu(), augment_mel(mel, changes))


KNOWN_PLACES = (False, (12, 16), (61, 80))
KNOWN_AMOUNTS = [-0.5297547294946202, 0.20470822614917616, -28.485779524720268]
