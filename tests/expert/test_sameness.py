"""What an expert makes of videos is what preparation, training and evaluation make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.config.media import SAMPLE_RATE
from orchestrator.data.corpus import Corpus, CorpusSplit
from orchestrator.data.loader.batch import Batch, collate
from orchestrator.data.media.decode import decode_clip
from orchestrator.data.media.features import log_mel
from orchestrator.data.stream import Sample
from orchestrator.errors import DataError
from orchestrator.expert import SyncExpert
from orchestrator.expert.pictures import network_frames
from orchestrator.models import SyncNet
from tests.models.seeded import draw

HALF_A_LEVEL = 0.5 / 255
STARTS = (0, 3, 17, 35)
"""The first window and the last one, at whose columns the sound ends."""

Build = Callable[[str], SyncNet]


@pytest.fixture(scope="module")
def clips(tiny_corpus: Path) -> CorpusSplit:
    return Corpus.open(tiny_corpus).split("all")


@pytest.fixture(scope="module")
def stored(clips: CorpusSplit) -> Batch:
    """Windows of the first clip as training reads them: lower halves of 16x32."""
    assert clips.lengths[0] == STARTS[-1] + 5
    return collate(clips, [Sample(0, start, start, 1) for start in STARTS], 5)


@pytest.fixture(scope="module")
def decoded(clips: CorpusSplit, tiny_corpus: Path) -> tuple[Tensor, Tensor]:
    """The whole faces of the same windows as they come out of the video, uint8 (B, T, 3, 64, 64), and its sound."""
    clip = decode_clip(tiny_corpus.parent / "videos" / clips.clips[0].source)
    frames = torch.from_numpy(clip.frames_THWC).permute(0, 3, 1, 2)
    return torch.stack([frames[start : start + 5] for start in STARTS]), torch.from_numpy(clip.wave)


def trained_on(network: SyncNet, batch: Batch) -> tuple[Tensor, Tensor]:
    """The embeddings that training and evaluation compute."""
    with torch.no_grad():
        return network.eval()(network.pixels_to_input(batch.frames), batch.mel)


def test_whole_faces_of_a_video_have_the_embeddings_of_training(
    build: Build, stored: Batch, decoded: tuple[Tensor, Tensor]
) -> None:
    faces, wave = decoded
    expert = SyncExpert(build("pixels"))
    vision, audio = trained_on(build("pixels"), stored)
    assert torch.equal(expert.embed_frames(faces), vision)
    assert torch.equal(expert.embed_frames(faces.transpose(1, 2), layout="bcthw"), vision)
    assert torch.equal(expert.embed_frames(faces.flatten(1, 2)), vision)
    assert torch.equal(expert.embed_audio(expert.audio_windows(wave, STARTS)), audio)
    assert len(vision.unique(dim=0)) == len(STARTS)


@pytest.mark.parametrize("name", ["pixels", "wav2lip"])
def test_lower_halves_of_a_corpus_have_the_embeddings_of_training(build: Build, stored: Batch, name: str) -> None:
    expert = SyncExpert(build(name))
    vision, audio = trained_on(build(name), stored)
    assert torch.equal(expert.embed_frames(stored.frames, region="lower_half"), vision)
    assert torch.equal(expert.embed_audio(stored.mel), audio)
    assert torch.equal(expert.embed_audio(stored.mel[:, 0]), audio)
    assert torch.equal(expert.similarity(stored.frames, stored.mel, region="lower_half"), (vision * audio).sum(1))


@pytest.mark.parametrize("layout", ["btchw", "bcthw"])
def test_latents_have_the_embeddings_of_training(build: Build, layout: str) -> None:
    latents = draw("latents", (3, 5, 4, 8, 8)).half()
    given = latents if layout == "btchw" else latents.transpose(1, 2)
    network = build("latents").eval()
    with torch.no_grad():
        expected = F.normalize(network.embed_frames(network.pixels_to_input(latents.flatten(1, 2))).flatten(1), dim=1)
    expert = SyncExpert(build("latents"))
    assert torch.equal(expert.embed_frames(given, layout=layout), expected)
    assert torch.equal(expert.embed_frames(latents.flatten(1, 2)), expected)


@pytest.mark.parametrize("name", ["pixels", "wav2lip"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_floats_differ_by_their_own_rounding_alone(
    build: Build, stored: Batch, decoded: tuple[Tensor, Tensor], name: str, low: float, high: float
) -> None:
    network, unit = build(name), 2 if name == "pixels" else 1  # RGB in [-1, 1], BGR in [0, 1]

    def error(pixels: Tensor, region: str) -> float:
        floats = low + pixels.double().div(255).mul(high - low).float()
        made = [
            network_frames(each, network, pixel_range=(low, high), region=region, layout="btchw")
            for each in (pixels, floats)
        ]
        return float((made[0] - made[1]).abs().max()) / unit

    resized = error(decoded[0], "face")
    assert HALF_A_LEVEL / 2 < resized <= HALF_A_LEVEL + 1e-6
    if name == "pixels":  # stored in the network's own size
        assert error(stored.frames, "lower_half") <= 1.5e-7


def test_what_lies_beyond_the_range_is_judged_as_it_would_be_saved(build: Build) -> None:
    frames = draw("frames", (1, 5, 3, 48, 48))
    settings = {"pixel_range": (-1.0, 1.0), "region": "face", "layout": "btchw"}
    beyond, within = (network_frames(each, build("pixels"), **settings) for each in (frames, frames.clamp(-1, 1)))
    assert torch.equal(beyond, within)


def test_every_window_of_a_sound_is_that_of_the_corpus(
    build: Build, clips: CorpusSplit, decoded: tuple[Tensor, Tensor]
) -> None:
    expert, starts = SyncExpert(build("pixels")), range(clips.lengths[0] - 4)
    mel = expert.audio_windows(decoded[1], starts)
    expected = torch.stack([torch.from_numpy(clips.mel_window(0, start, 5).copy()) for start in starts])
    assert torch.equal(mel, expected[:, None])
    for beyond in (-1, len(starts)):
        with pytest.raises(DataError, match="needs mel columns") as caught:
            expert.audio_windows(decoded[1], [beyond])
        assert caught.value.reason == "bad_window"
    with pytest.raises(DataError, match="from frame -1"):
        expert.audio_windows(decoded[1], [-1], av_offset_s=0.1)


def test_waves_of_a_batch_have_a_start_each_and_may_have_an_offset(build: Build) -> None:
    waves, expert = draw("waves", (2, 9600)) / 4, SyncExpert(build("pixels"))
    mel = expert.audio_windows(waves, torch.tensor([2, 7]), av_offset_s=0.025)
    expected = [log_mel(waves[0])[:, 6 + 2 : 6 + 2 + 16], log_mel(waves[1])[:, 22 + 2 : 22 + 2 + 16]]
    assert torch.equal(mel, torch.stack(expected)[:, None])


def test_a_window_of_samples_alone_would_have_another_mel(build: Build) -> None:
    """Why `audio_windows` wants the whole sound."""
    wave, expert = draw("wave", (2 * SAMPLE_RATE,)) / 4, SyncExpert(build("pixels"))
    whole, alone = expert.audio_windows(wave, [10]), expert.audio_windows(wave[10 * 640 : 16 * 640], [0])
    different = (whole != alone).any(dim=2).nonzero()[:, -1].tolist()
    assert different == [0, 1]


@pytest.mark.parametrize(("step", "starts"), [(None, [0, 5, 7]), (3, [0, 3, 6, 7]), (100, [0, 7])])
def test_the_loss_of_a_clip_is_the_mean_over_its_windows(build: Build, step: int | None, starts: list[int]) -> None:
    expert = SyncExpert(build("pixels"))
    frames, wave = draw("clip", (12, 3, 32, 32)).tanh(), draw("wave", (16000,)) / 4
    windows = torch.stack([frames[start : start + 5] for start in starts])
    audio = expert.audio_windows(wave, [4 + start for start in starts])
    assert torch.equal(expert.loss_of_clip(frames, wave, first_frame=4, step=step), expert.loss(windows, audio))
