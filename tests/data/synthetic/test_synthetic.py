"""The invented corpus: what the files are, that sound and mouth are in step, and that a net can learn from it."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from orchestrator.config.media import FPS, SAMPLE_RATE, mel_columns, mel_start
from orchestrator.config.model import EncoderConfig, StableSyncNetConfig
from orchestrator.data.synthetic import make_corpus
from orchestrator.data.synthetic.face import draw_frames, invent_look
from orchestrator.data.synthetic.voice import invent_voice, speak
from orchestrator.errors import ConfigError, DataError
from orchestrator.models import SyncNet, build_model, cosine_bce, cosine_similarity

SAMPLES = SAMPLE_RATE // FPS
"""Audio samples per video frame."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers with two clips each, small and short."""
    out = tmp_path_factory.mktemp("corpus")
    make_corpus(out, speakers=2, clips_per_speaker=2, seconds=2.0, size=64, seed=3)
    return out


def test_layout_and_order(corpus: Path) -> None:
    expected = [corpus / f"spk{s:02d}" / f"clip_{c:02d}.mp4" for s in range(2) for c in range(2)]
    assert make_corpus(corpus, speakers=2, clips_per_speaker=2, seconds=2.0, size=64, seed=3) == expected
    assert sorted(p for p in corpus.rglob("*") if p.is_file()) == expected, "nothing else lies there"


def test_streams_are_what_the_field_uses(corpus: Path) -> None:
    with av.open(str(corpus / "spk00" / "clip_00.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name == "h264"
        assert video.average_rate == FPS and video.frames == 2 * FPS
        assert (video.width, video.height, video.pix_fmt) == (64, 64, "yuv420p")
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", SAMPLE_RATE, 1)


def test_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    # fewer speakers and clips: a larger corpus contains the smaller one
    (again,) = make_corpus(tmp_path, speakers=1, clips_per_speaker=1, seconds=2.0, size=64, seed=3)
    assert again.read_bytes() == (corpus / "spk00" / "clip_00.mp4").read_bytes()


def test_seeds_speakers_and_clips_differ(corpus: Path, tmp_path: Path) -> None:
    (other,) = make_corpus(tmp_path, speakers=1, clips_per_speaker=1, seconds=2.0, size=64, seed=4)
    paths = [*sorted(corpus.rglob("*.mp4")), other]
    waves = [decode(path)[1] for path in paths]
    for i, wave in enumerate(waves):
        for later in waves[i + 1 :]:
            assert abs(np.corrcoef(wave, later)[0, 1]) < 0.2
    looks = [decode(path)[0].mean(axis=(0, 1, 2)) for path in paths]
    assert np.abs(looks[0] - looks[2]).max() > 2, "two speakers look different"


def test_sound_and_mouth_are_in_step_after_decoding(tmp_path: Path) -> None:
    """The mouth as it is seen (the dark hollow and the moving lips) against the loudness as it is heard."""
    paths = make_corpus(tmp_path, speakers=3, clips_per_speaker=1, seconds=6.0, size=96, seed=1)
    lags = np.arange(-120, 121)  # ms
    score = np.zeros(len(lags))
    for path in paths:
        frames, wave = decode(path)
        score += correlations(seen_opening(frames), wave, lags)
    assert score.max() / len(paths) > 0.6
    assert abs(lags[score.argmax()]) <= 500 / FPS, "more than half a frame apart"


def test_sound_is_not_shifted_by_the_encoder(tmp_path: Path) -> None:
    """What is decoded lies sample by sample on what was synthesised: encoder delay is cut by the container."""
    (path,) = make_corpus(tmp_path, speakers=1, clips_per_speaker=1, seconds=2.0, size=32, seed=5)
    voice = invent_voice(np.random.default_rng([5, 0]))
    said = speak(voice, 2.0, np.random.default_rng([5, 0, 1])).wave
    heard = decode(path)[1]
    spectrum = np.fft.rfft(heard) * np.fft.rfft(said).conj()
    shift = int(np.fft.irfft(spectrum).argmax())
    assert min(shift, len(said) - shift) <= 1
    assert np.corrcoef(said, heard)[0, 1] > 0.98


def test_existing_clips_are_kept_and_missing_ones_made(corpus: Path) -> None:
    kept, gone = corpus / "spk00" / "clip_00.mp4", corpus / "spk01" / "clip_01.mp4"
    content = gone.read_bytes()
    os.utime(kept, (1, 1))
    gone.write_bytes(content[:100])
    calls: list[tuple[int, int]] = []
    make_corpus(
        corpus, speakers=2, clips_per_speaker=2, seconds=2.0, size=64, seed=3, on_progress=lambda *c: calls.append(c)
    )
    assert kept.stat().st_mtime == 1
    assert gone.read_bytes() == content
    assert calls == [(3, 4), (4, 4)]


def test_another_recipe_is_not_mixed_in(corpus: Path) -> None:
    with pytest.raises(DataError, match="seed=3") as caught:
        make_corpus(corpus, speakers=2, clips_per_speaker=2, seconds=2.0, size=64, seed=9)
    assert caught.value.reason == "exists"


def test_a_failure_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.data.synthetic.corpus._sound", broken)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path, speakers=1, clips_per_speaker=1, seconds=1.0, size=32)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_bad_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_corpus(tmp_path, speakers=0, clips_per_speaker=0, seconds=0, size=100, seed=-1, workers=0)
    assert len(caught.value.problems) == 6


def test_mouth_is_drawn_in_the_lower_half_and_eyes_blink() -> None:
    rng = np.random.default_rng(0)
    speech = speak(invent_voice(rng), 4.0, rng)
    frames = np.stack(list(draw_frames(invent_look(rng, 0.5), speech.mouth, 64, rng))).astype(np.float64)
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(0, 3))
    assert change[32:].sum() > change[:32].sum()
    assert 40 <= change[:, 24:40].mean(axis=1).argmax() <= 60


@pytest.mark.slow
def test_two_processes_make_the_same_files(corpus: Path, tmp_path: Path) -> None:
    paths = make_corpus(tmp_path, speakers=2, clips_per_speaker=1, seconds=2.0, size=64, seed=3, workers=2)
    assert [p.read_bytes() for p in paths] == [(corpus / p.relative_to(tmp_path)).read_bytes() for p in paths]


@pytest.mark.slow
def test_a_tiny_net_learns_from_it_and_only_from_sound_that_belongs(tmp_path: Path) -> None:
    """Above chance on unseen speakers; at chance when every clip is given the sound of another one."""
    paths = make_corpus(tmp_path, speakers=10, clips_per_speaker=5, size=64, seed=0)
    clips = [windows_of(path) for path in paths]
    unseen = clips[-10:]
    net = train_tiny_net(clips[:-10], steps=120)
    assert accuracy(net, unseen) > 0.65
    shifted = [(frames, mel) for (frames, _), (_, mel) in zip(unseen, unseen[1:] + unseen[:1], strict=True)]
    assert abs(accuracy(net, shifted) - 0.5) < 0.1


T = 6
TINY = StableSyncNetConfig(
    num_frames=T,
    resolution=32,
    audio_encoder=EncoderConfig(
        in_channels=1, block_out_channels=(32, 32, 64, 256), downsample_factors=((4, 2), (3, 2), (3, 3), 2)
    ),
    visual_encoder=EncoderConfig(
        in_channels=3 * T, block_out_channels=(32, 32, 64, 256), downsample_factors=(2, 2, (2, 4), 2)
    ),
)


def train_tiny_net(clips: list[tuple[Tensor, Tensor]], steps: int) -> SyncNet:
    net = build_model(TINY, seed=0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, fused=True)
    rng = np.random.default_rng(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-4 * min(1.0, (step + 1) / 20, 0.1 + 2 * (1 - step / steps))
        frames, mel, labels = draw_pairs(clips, rng, 32)
        optimizer.zero_grad()
        vision, audio = net(frames, mel)
        cosine_bce(vision, audio, labels).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: SyncNet, clips: list[tuple[Tensor, Tensor]]) -> float:
    """Share of balanced pairs on the right side of cosine 0.5."""
    frames, mel, labels = draw_pairs(clips, np.random.default_rng(1), 400)
    said = cosine_similarity(*net(frames, mel)) > 0.5
    return float((said == labels.bool()).float().mean())


def draw_pairs(
    clips: list[tuple[Tensor, Tensor]], rng: np.random.Generator, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Positive and negative windows in turn; a negative has sound of its own clip that does not overlap."""
    frames, mels, labels = [], [], torch.arange(count) % 2
    for label in labels.tolist():
        pictures, mel = clips[rng.integers(len(clips))]
        starts = np.arange(len(pictures) - T)
        start = rng.choice(starts)
        heard = start if label else rng.choice(starts[np.abs(starts - start) >= T])
        frames.append(pictures[start : start + T].flatten(0, 1))
        mels.append(mel[None, :, mel_start(int(heard)) :][..., : mel_columns(T)])
    return torch.stack(frames), torch.stack(mels), labels


def windows_of(path: Path) -> tuple[Tensor, Tensor]:
    """Lower halves (T, 3, 16, 32) in [-1, 1] and a plain log-mel (80, L): the test shares no code with `prepare`."""
    frames, wave = decode(path)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    small = F.interpolate(pixels, (32, 32), mode="area")[:, :, 16:]
    spectrum = torch.stft(
        torch.from_numpy(wave), 800, 200, window=torch.hann_window(800), pad_mode="constant", return_complex=True
    ).abs()
    edges = np.linspace(1, 381, 81)
    bands = torch.stack([spectrum[int(low) : int(low) + 6].mean(dim=0) for low in edges[:-1]])
    return small / 127.5 - 1, (torch.log10(bands.clamp_min(1e-5)) * 1.6 + 1).clamp(-4, 4)


def decode(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames (T, H, W, 3) and the wave (T * 640,), each placed by its own time stamps."""
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
    frames = np.stack([picture.to_ndarray(format="rgb24") for picture in pictures]).astype(np.uint8)
    wave = np.zeros(len(frames) * SAMPLES, dtype=np.float32)
    with av.open(str(path)) as container:
        for sound in container.decode(audio=0):
            samples = sound.to_ndarray()[0]
            start = round((float(sound.time or 0) - float(pictures[0].time or 0)) * SAMPLE_RATE)
            first, last = max(0, start), min(len(wave), start + len(samples))
            wave[first:last] = samples[first - start : last - start]
    return frames, wave


def seen_opening(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(T,) how much the mouth region differs from its most closed state."""
    side = frames.shape[1]
    mouth = frames[:, int(0.6 * side) :, int(0.3 * side) : int(0.7 * side)].astype(np.float64).mean(axis=3)
    return -np.sort(mouth.reshape(len(mouth), -1), axis=1)[:, : mouth[0].size // 12].mean(axis=1)


def correlations(
    opening: NDArray[np.float64], wave: NDArray[np.float32], lags: NDArray[np.int_]
) -> NDArray[np.float64]:
    """Correlation of the opening with the loudness that is heard `lags` ms later."""
    power = np.convolve(wave.astype(np.float64) ** 2, np.hanning(SAMPLES), mode="same")
    middles = (np.arange(len(opening)) + 0.5) * SAMPLES
    inner = slice(FPS // 4, -FPS // 4)
    at = [np.interp(middles[inner] + lag * SAMPLE_RATE / 1000, np.arange(len(wave)), power**0.5) for lag in lags]
    return np.array([np.corrcoef(opening[inner], loudness)[0, 1] for loudness in at])
