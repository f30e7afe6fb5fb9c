"""An expert inside somebody's training: frozen, unseen by optimizer and checkpoint, differentiable in any precision."""

from __future__ import annotations

import copy
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import orchestrator
from orchestrator.checkpoint import TrainState, load_model, save_state
from orchestrator.config.model import JoonsonSyncNetConfig
from orchestrator.errors import CheckpointError, ConfigError, DataError, RefusalReason
from orchestrator.expert import SyncExpert
from orchestrator.models import SyncNet, bce_of_cosines, build_model
from tests.expert.conftest import MODELS, TINY_PIXELS, config_of
from tests.models.seeded import draw

Build = Callable[[str], SyncNet]
FACES = {"pixels": (5, 3, 40, 40), "latents": (5, 4, 8, 8), "wav2lip": (5, 3, 96, 96)}
every_network = pytest.mark.parametrize("name", MODELS)
every_half = pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])


def windows(name: str, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Frames within [-1, 1], and mel."""
    return draw("frames", (batch, *FACES[name])).tanh(), (draw("audio", (batch, 1, 80, 16)) * 1.5).clamp(-4, 4)


class Generator(nn.Module):
    """Holds an expert, as people do."""

    def __init__(self, expert: SyncExpert) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.expert = expert

    def forward(self, frames: Tensor) -> Tensor:
        return self.layer(frames.flatten(0, 1)).tanh().unflatten(0, frames.shape[:2])


@every_network
def test_gradients_reach_the_frames_and_the_audio_but_no_weight(build: Build, name: str) -> None:
    expert = SyncExpert(build(name))
    frames, audio = (each.requires_grad_() for each in windows(name))
    expert.loss(frames, audio).backward()
    assert frames.grad is not None and audio.grad is not None
    for grad in (frames.grad, audio.grad):
        assert (grad.flatten(1).abs().amax(1) > 0).all()
    assert all(not each.requires_grad and each.grad is None for each in expert.network.parameters())


@pytest.mark.parametrize("name", ["pixels", "latents"])
def test_the_gradient_is_that_of_finite_differences(build: Build, name: str) -> None:
    """Along random directions, in double; the faces are resized on the way."""
    expert = SyncExpert(build(name), dtype=torch.float64)
    frames, audio = (each.double().mul(0.8).requires_grad_() for each in windows(name))
    for number, tensor in enumerate((frames, audio)):
        (grad,) = torch.autograd.grad(expert.loss(frames, audio), tensor)
        direction = draw(f"direction {number}", tuple(tensor.shape)).double()
        step = 1e-6 * direction
        given = (frames.detach(), audio.detach())
        above, below = (
            expert.loss(*(each + sign * step if each.shape == step.shape else each for each in given))
            for sign in (1, -1)
        )
        slope = (above - below) / 2e-6
        assert abs(slope) > 1e-6
        torch.testing.assert_close((grad * direction).sum(), slope, rtol=1e-4, atol=1e-9)


def test_descent_on_the_pixels_of_a_mouth_raises_the_similarity(build: Build) -> None:
    expert = SyncExpert(build("pixels"))
    frames, audio = windows("pixels")
    mouth = frames.mul(0.5).requires_grad_()
    before, optimizer = expert.similarity(mouth, audio).detach(), torch.optim.Adam([mouth], lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        expert.loss(mouth, audio).backward()
        optimizer.step()
    after = expert.similarity(mouth, audio).detach()
    assert (after > before + 0.02).all(), (before, after)
    upper = mouth.detach()[..., :14, :]  # rows that the cut leaves out, but for those that the resize mixes in
    assert torch.equal(upper, frames.mul(0.5)[..., :14, :])


@every_network
def test_the_loss_is_that_of_training_for_pairs_in_sync(build: Build, name: str) -> None:
    expert, (frames, audio) = SyncExpert(build(name)), windows(name, 3)
    cosines = expert.similarity(frames, audio)
    assert torch.equal(expert.loss(frames, audio), bce_of_cosines(cosines, torch.ones(3)))
    each = expert.loss(frames, audio, reduction="none")
    assert each.shape == (3,) and torch.equal(expert.loss(frames, audio, reduction="sum"), each.sum())
    assert torch.equal(expert(frames, audio), each.mean())
    embeds = expert.embed_frames(frames)
    assert embeds.ndim == 2 and torch.allclose(embeds.norm(dim=1), torch.ones(3))


def test_a_generator_neither_saves_nor_trains_the_expert_that_it_holds(build: Build) -> None:
    alone = set(nn.Conv2d(3, 3, 3).state_dict())
    generator = Generator(SyncExpert(build("pixels"))).train()
    assert set(generator.state_dict()) == {f"layer.{name}" for name in alone}
    assert [name for name, _ in generator.named_parameters()] == ["layer.weight", "layer.bias"]
    assert not list(generator.buffers())
    generator.load_state_dict(generator.state_dict())
    generator.requires_grad_(True)
    expert = generator.expert
    assert not expert.training and not any(module.training for module in expert.network.modules())
    assert not any(each.requires_grad for each in expert.network.parameters())


def test_a_step_of_the_generator_changes_the_generator_alone(build: Build) -> None:
    generator = Generator(SyncExpert(build("wav2lip"))).train()  # it has batch norm, whose averages training moves
    frames, audio = windows("wav2lip")
    before = copy.deepcopy(generator.expert.network.state_dict()), copy.deepcopy(generator.layer.state_dict())
    optimizer = torch.optim.AdamW(generator.parameters(), lr=0.1)
    generator.expert.loss(generator(frames), audio).backward()
    optimizer.step()
    assert all(torch.equal(before[0][name], each) for name, each in generator.expert.network.state_dict().items())
    assert all(not torch.equal(before[1][name], each) for name, each in generator.layer.state_dict().items())


def test_it_moves_with_what_holds_it(build: Build) -> None:
    generator = Generator(SyncExpert(build("pixels")))
    assert (generator.expert.dtype, generator.expert.device) == (torch.float32, torch.device("cpu"))
    generator.to("meta", torch.float64)
    assert (generator.expert.dtype, generator.expert.device) == (torch.float64, torch.device("meta"))
    assert not any(each.requires_grad for each in generator.expert.network.parameters())


@pytest.mark.parametrize("name", ["pixels", "latents"])
@every_half
def test_half_precision_changes_cosines_and_gradients_a_little(
    build: Build, name: str, dtype: torch.dtype, bound: float
) -> None:
    frames, audio = (each.requires_grad_() for each in windows(name))
    exact, exact_grad = similarity_with_gradient(SyncExpert(build(name)), frames, audio, frames)
    expert = SyncExpert(build(name), dtype=dtype)
    for given in ((frames, audio), (frames.to(dtype), audio.to(dtype))):
        found, grad = similarity_with_gradient(expert, *given, frames)
        assert found.dtype == expert.loss(*given).dtype == torch.float32
        assert 0 < (found - exact).abs().max() < bound
        assert torch.cosine_similarity(grad.flatten(), exact_grad.flatten(), dim=0) > 1 - 20 * bound


@every_half
def test_half_precision_goes_with_batch_norm(build: Build, dtype: torch.dtype, bound: float) -> None:
    given = windows("wav2lip", 1)
    with torch.no_grad():
        exact, found = (SyncExpert(build("wav2lip"), dtype=each).similarity(*given) for each in (None, dtype))
    assert 0 < (found - exact).abs().max() < bound


@pytest.mark.parametrize("name", ["pixels", "latents"])
def test_autocast_counts_only_where_no_type_was_chosen(build: Build, name: str) -> None:
    given = windows(name)
    free, fixed = SyncExpert(build(name)), SyncExpert(build(name), dtype=torch.float32)
    exact = free.similarity(*given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fixed.similarity(*given), exact)
        found, loss = free.similarity(*given), free.loss(*given)
    assert found.dtype == loss.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.02


def similarity_with_gradient(
    expert: SyncExpert, frames: Tensor, audio: Tensor, source: Tensor
) -> tuple[Tensor, Tensor]:
    """The cosines, and the gradient of their sum by what the frames were made from."""
    cosines = expert.similarity(frames, audio)
    return cosines.detach(), torch.autograd.grad(cosines.sum(), source)[0]


def test_nothing_is_drawn_at_random(build: Build, tmp_path: Path) -> None:
    torch.save({"state_dict": build("pixels").state_dict()}, tmp_path / "net.pt")
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    expert = SyncExpert.from_checkpoint(tmp_path / "net.pt", device="cpu", model_config=TINY_PIXELS)
    given = windows("pixels")
    assert torch.equal(expert.loss(*given), expert.loss(*given))
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_copies_and_pickles_judge_alike(build: Build) -> None:
    expert = SyncExpert(build("pixels"), pixel_range=(0.0, 1.0))
    frames, audio = windows("pixels")
    frames = frames / 2 + 0.5
    for other in (copy.deepcopy(expert), pickle.loads(pickle.dumps(expert))):
        assert other.network is not expert.network and not other.training
        assert torch.equal(other.similarity(frames, audio), expert.similarity(frames, audio))


def test_a_file_gives_the_network_that_evaluation_judges(build: Build, tmp_path: Path) -> None:
    torch.save({"state_dict": build("pixels").state_dict()}, tmp_path / "net.pt")
    expert = orchestrator.SyncExpert.from_checkpoint(
        tmp_path / "net.pt", device="cpu", dtype=torch.bfloat16, model_config=TINY_PIXELS
    )
    assert (expert.dtype, expert.device.type, expert.num_frames) == (torch.bfloat16, "cpu", 5)
    assert "stable_syncnet" in repr(expert)
    judged = load_model(tmp_path / "net.pt", model_config=TINY_PIXELS).to(torch.bfloat16).state_dict()
    assert all(torch.equal(judged[name], each) for name, each in expert.network.state_dict().items())


def test_of_a_state_with_a_running_average_the_average_is_taken(build: Build, tmp_path: Path) -> None:
    weights = dict(build("pixels").state_dict())
    average = {name: value * 0.5 for name, value in weights.items()}
    save_state(TrainState(config_of("pixels"), weights, ema=average), tmp_path / "state")
    expert = SyncExpert.from_checkpoint(tmp_path / "state", device="cpu")
    assert all(torch.equal(average[name], each) for name, each in expert.network.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "options", "found", "hint"),
    [
        ((2, 8, 3, 40, 40), {}, "8 frames, but this network reads 5", "exactly 5"),
        ((2, 3, 5, 40, 40), {}, "have 5 channels, but this network reads 3", 'layout="bcthw"'),
        ((2, 5, 3, 40, 40), {"layout": "bcthw"}, "have 5 channels", 'layout="btchw"'),
        ((2, 5, 1, 40, 40), {}, "have 1 channels", ""),
        ((10, 3, 40, 40), {}, "are no windows of this network", "unflatten"),
        ((5, 3, 40), {}, "are no windows", ""),
        ((2, 5, 3, 16, 32), {}, "must be square, but the frames are 16x32", 'region="lower_half"'),
        ((2, 5, 3, 40, 40), {"region": "lower_half"}, "twice as wide as high", "face"),
    ],
)
def test_frames_of_another_shape_are_refused(
    build: Build, shape: tuple[int, ...], options: dict[str, str], found: str, hint: str
) -> None:
    for frames in (torch.zeros(shape), torch.zeros(shape, dtype=torch.uint8)):
        with pytest.raises(DataError, match=found) as caught:
            SyncExpert(build("pixels")).embed_frames(frames, **options)
        assert caught.value.reason == "bad_frames"
        assert hint in caught.value.hint


def test_frames_of_another_kind_are_refused(build: Build) -> None:
    latents = SyncExpert(build("latents"))
    cases = [
        (SyncExpert(build("pixels")), torch.zeros(1, 5, 3, 32, 32, dtype=torch.int64), "must be uint8 or float"),
        (latents, torch.zeros(1, 5, 4, 16, 16), "float latents of 8x8"),
        (latents, torch.zeros(1, 5, 4, 8, 8, dtype=torch.uint8), "float latents of 8x8"),
        (latents, torch.zeros(1, 5, 3, 64, 64), "have 3 channels, but this network reads 4"),
        (SyncExpert(build("pixels")), torch.zeros(1, 5, 3, 32, 32, device="meta"), "on meta, but the expert is on cpu"),
    ]
    for expert, frames, found in cases:
        with pytest.raises(DataError, match=found):
            expert.embed_frames(frames)
    whole = {**TINY_PIXELS, "lower_half": False}
    whole["visual_encoder"] = {**TINY_PIXELS["visual_encoder"], "downsample_factors": [4, 8]}
    expert = SyncExpert(build_model(orchestrator.config.load_model_config(whole)))
    assert expert.embed_frames(windows("pixels")[0]).shape == (2, 128)
    with pytest.raises(DataError, match="reads whole faces"):
        expert.embed_frames(torch.zeros(1, 5, 3, 16, 32), region="lower_half")


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((2, 1, 80, 52), ""), ((2, 1, 16, 80), "audio.mT"), ((2, 3200), "audio_windows"), ((2, 3, 80, 16), "")],
)
def test_audio_of_another_shape_is_refused(build: Build, shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(DataError, match=r"mel windows \(B, 1, 80, 16\)") as caught:
        SyncExpert(build("pixels")).embed_audio(torch.zeros(shape))
    assert caught.value.reason == "bad_mel" and hint in caught.value.hint


def test_unequal_batches_and_odd_clips_are_refused(build: Build) -> None:
    expert, (frames, audio) = SyncExpert(build("pixels")), windows("pixels")
    with pytest.raises(DataError, match="2 windows of frames, but 1 of audio"):
        expert.loss(frames, audio[:1])
    for clip, step in ((frames[0, :4], None), (frames, None), (frames[0], 0)):
        with pytest.raises(DataError, match="a clip must be"):
            expert.loss_of_clip(clip, torch.zeros(16000), step=step)
    for wave, starts in ((torch.zeros(2, 9000), [1]), (torch.zeros(9000), [])):
        with pytest.raises(DataError, match="a start for each window"):
            expert.audio_windows(wave, starts)
    with pytest.raises(DataError, match=r"float \(samples,\)"):
        expert.audio_windows(torch.zeros(9000, dtype=torch.int16), [0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["pixels", "latents"])
def test_no_numbers_are_refused_in_the_first_call_and_handed_on_later(build: Build, name: str, bad: float) -> None:
    frames, audio = windows(name)
    broken = [frames.clone(), audio.clone()]
    for each in broken:
        each[1].flatten()[7] = bad
    for given in ((broken[0], audio), (frames, broken[1])):
        with pytest.raises(DataError, match="NaN or infinity"):
            SyncExpert(build(name)).loss(*given)
        late, always = SyncExpert(build(name)), SyncExpert(build(name), check="always")
        late.loss(frames, audio), always.loss(frames, audio)
        late.loss(*given)
        with pytest.raises(DataError, match="NaN or infinity"):
            always.loss(*given)
    handed_on = SyncExpert(build(name), check="never").loss(frames * float("nan"), audio)
    assert handed_on.isnan()


@pytest.mark.parametrize(
    ("pixel_range", "scale", "shift", "said"),
    [
        ((-1, 1), 127.5, 127.5, "lie outside of it"),
        ((0, 1), 1, 0, "lie outside of it"),
        ((-1, 1), 0.5, 0.5, "in a small part of it"),
        ((0, 255), 0.5, 0.5, "in a small part of it"),
        ((-1, 1), 1.1, 0, None),  # a decoder's overshoot
        ((0, 255), 127.5, 127.5, None),
    ],
)
def test_another_range_is_said_once(
    build: Build, pixel_range: tuple[float, float], scale: float, shift: float, said: str | None
) -> None:
    frames, audio = windows("pixels")
    expert = SyncExpert(build("pixels"), pixel_range=pixel_range, check="always")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            expert.loss(frames * 0.95 * scale + shift, audio)
    assert [str(each.message) for each in caught] == ([] if said is None else [str(caught[0].message)])
    assert said is None or said in str(caught[0].message)


def test_another_mel_is_said(build: Build) -> None:
    with pytest.warns(UserWarning, match=r"training's lie in \[-4, 4\]"):
        SyncExpert(build("pixels")).embed_audio(draw("decibel", (2, 1, 80, 16)) * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SyncExpert(build("pixels")).embed_audio(torch.full((2, 1, 80, 16), -4.0))  # silence


def test_what_cannot_be_an_expert_is_refused(build: Build) -> None:
    with pytest.raises(CheckpointError, match="reads MFCC") as caught:
        SyncExpert(build_model(JoonsonSyncNetConfig()))
    assert caught.value.reason is RefusalReason.UNSUPPORTED
    network = build("pixels")
    wrong: list[dict[str, Any]] = [{"dtype": torch.int8}, {"pixel_range": (1, 0)}, {"check": "often"}]
    wrong += [{"pixel_range": (0, float("inf"))}, {"pixel_range": (0, float("nan"))}]
    for arguments in wrong:
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            SyncExpert(network, **arguments)
    for choice in ("reduction", "region", "layout"):
        with pytest.raises(ConfigError, match=f"`{choice}` must be one of"):
            SyncExpert(network).loss(*windows("pixels"), **{choice: "none such"})


def test_gradients_reach_a_wave(build: Build) -> None:
    expert, wave = SyncExpert(build("pixels")), (draw("wave", (9600,)) / 4).requires_grad_()
    expert.loss(windows("pixels")[0], expert.audio_windows(wave, [0, 4])).backward()
    assert wave.grad is not None and wave.grad.abs().amax() > 0
