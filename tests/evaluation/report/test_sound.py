"""A mel becomes a sound that has this mel again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from orchestrator.data.corpus import Corpus
from orchestrator.data.media.features import log_mel
from orchestrator.evaluation.report.sound import sound_of_mel


def mel_of(corpus: Corpus, place: int) -> np.ndarray:
    return np.array(corpus.stored(corpus.clips("all")[place]).mel)


@pytest.mark.parametrize("place", [0, 5])
def test_speech_has_its_mel_again(corpus: Corpus, place: int) -> None:
    mel = mel_of(corpus, place)
    wave = sound_of_mel(mel)
    assert wave.shape == (200 * (mel.shape[1] - 1),) and wave.dtype == np.float32 and np.abs(wave).max() <= 1
    again = log_mel(torch.from_numpy(wave)).numpy()
    assert again.shape == mel.shape
    assert np.corrcoef(again.ravel(), mel.ravel())[0, 1] > 0.9
    loud = np.abs(wave).max() < 0.95  # it was not turned down, so that levels agree as well
    assert not loud or np.abs(again - mel).mean() < 0.4


def test_a_tone_is_where_and_when_it_was() -> None:
    wave = torch.zeros(16_000)
    wave[6_000:10_000] = 0.4 * torch.sin(2 * torch.pi * 1000 / 16_000 * torch.arange(4_000))
    found = sound_of_mel(log_mel(wave).numpy())
    energy = np.square(found).reshape(-1, 200).sum(1)
    assert energy[30:50].sum() > 0.97 * energy.sum(), "1 tone from 0.375 to 0.625 s"
    assert abs(np.abs(np.fft.rfft(found[6_000:10_000])).argmax() * 4 - 1000) < 40
    assert np.abs(found).max() == pytest.approx(0.4, rel=0.35)


def test_it_is_the_same_every_time_and_touches_no_randomness_of_others(corpus: Corpus) -> None:
    mel = mel_of(corpus, 1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sound_of_mel(mel)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first, sound_of_mel(mel))


@pytest.mark.parametrize("columns", [0, 1, 2, 40])
def test_silence_is_silent(columns: int) -> None:
    assert not sound_of_mel(np.full((80, columns), -4, np.float32)).any()
