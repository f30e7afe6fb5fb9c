"""The networks are upstream's: names, sizes, embeddings; and what cannot work is refused with its layer named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator.config.model import EncoderConfig, StableSyncNetConfig, Wav2LipSyncNetConfig, input_shape
from orchestrator.errors import ConfigError
from orchestrator.models import FAMILIES, SyncNet, build_meta, build_model
from tests.models.seeded import seeded_inputs, seeded_weights

WAV2LIP = Wav2LipSyncNetConfig()
ODD = StableSyncNetConfig(
    # attention in unusual places, factors of every kind; its input is no lower half, so it is built without the check
    audio_encoder=EncoderConfig(
        in_channels=1,
        block_out_channels=(32, 32, 64, 64, 96, 96, 128, 160),
        downsample_factors=((2, 1), 1, (1, 2), 2, (3, 1), 2, (2, 3), (1, 2)),
        attn_blocks=(1, 0, 0, 1, 0, 1, 0, 0),
        dropout=0.1,
    ),
    visual_encoder=EncoderConfig(
        in_channels=15,
        block_out_channels=(32, 64, 64, 96, 96, 128, 160),
        downsample_factors=((1, 2), (2, 1), 3, 1, (2, 3), 2, 2),
        attn_blocks=(0, 0, 1, 0, 1, 0, 1),
        dropout=0.1,
    ),
    num_frames=5,
)
AUDIO_16 = {"in_channels": 1, "block_out_channels": (32, 64, 128, 256, 512, 1024, 2048)}
AUDIO_16 |= {"downsample_factors": ((2, 1), 2, 2, 1, 2, 2, (2, 3))}
VISUAL_16 = {"in_channels": 48, "block_out_channels": (64, 128, 256, 256, 512, 1024, 2048, 2048)}
VISUAL_16 |= {"downsample_factors": ((1, 2), 2, 2, 2, 2, 2, 2, 2)}


def shipped(name: str) -> StableSyncNetConfig:
    """LatentSync's four SyncNets."""
    match name:
        case "16_pixel":
            return StableSyncNetConfig(
                audio_encoder=EncoderConfig(**AUDIO_16), visual_encoder=EncoderConfig(**VISUAL_16)
            )
        case "16_pixel_attn":
            audio = EncoderConfig(**AUDIO_16, attn_blocks=(0, 0, 0, 1, 1, 0, 0))
            visual = EncoderConfig(**VISUAL_16, attn_blocks=(0, 0, 0, 0, 1, 1, 0, 0))
            return StableSyncNetConfig(audio_encoder=audio, visual_encoder=visual)
        case "16_latent":
            audio = EncoderConfig(
                in_channels=1,
                block_out_channels=(32, 64, 128, 256, 512, 1024),
                downsample_factors=((2, 1), 2, 2, 2, 2, (2, 3)),
            )
            visual = EncoderConfig(
                in_channels=64,
                block_out_channels=(64, 128, 256, 256, 512, 1024),
                downsample_factors=(2, 2, 2, 1, 2, 2),
            )
            return StableSyncNetConfig(audio_encoder=audio, visual_encoder=visual, latent_space=True, lower_half=False)
        case _:
            audio = EncoderConfig(
                in_channels=1, block_out_channels=(64, 128, 256, 256, 512, 1024), downsample_factors=(2,) * 6
            )
            visual = EncoderConfig(
                in_channels=75,
                block_out_channels=(128, 128, 256, 256, 512, 512, 1024, 1024),
                downsample_factors=((1, 2), *(2,) * 7),
            )
            return StableSyncNetConfig(audio_encoder=audio, visual_encoder=visual, num_frames=25)


@pytest.mark.parametrize(
    ("name", "parameters", "embedding", "frames", "audio"),
    [
        ("16_pixel", 371_766_496, 2048, (48, 128, 256), (1, 80, 52)),
        ("16_pixel_attn", 401_306_080, 2048, (48, 128, 256), (1, 80, 52)),
        ("16_latent", 65_544_416, 1024, (64, 32, 32), (1, 80, 52)),
        ("25_pixel", 103_742_144, 1024, (75, 128, 256), (1, 80, 80)),
    ],
)
def test_shipped_sizes(
    name: str, parameters: int, embedding: int, frames: tuple[int, ...], audio: tuple[int, ...]
) -> None:
    config = shipped(name)
    model = build_meta(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert (input_shape(config).frames, input_shape(config).audio) == (frames, audio)
    vision, speech = model(torch.empty(2, *frames, device="meta"), torch.empty(2, *audio, device="meta"))
    assert vision.shape == speech.shape == (2, embedding)


def test_wav2lip_size() -> None:
    model = build_meta(WAV2LIP)
    assert sum(parameter.numel() for parameter in model.parameters()) == 16_435_072
    assert len(model.state_dict()) == 217


def test_golden_embeddings() -> None:
    """Numbers of nets that were checked against upstream's own code, with the same weights, to 1e-6."""
    for config, frames, audio, vision_head, speech_head in GOLDEN:
        vision, speech = _embed(config, frames, audio)
        torch.testing.assert_close(vision[0, :6], torch.tensor(vision_head), atol=1e-5, rtol=0)
        torch.testing.assert_close(speech[1, :6], torch.tensor(speech_head), atol=1e-5, rtol=0)


def test_embeddings_are_unit_vectors() -> None:
    vision, speech = _embed(WAV2LIP, (15, 48, 96), (1, 80, 16))
    for embedding in (vision, speech):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_the_list_one_one_still_downsamples_and_the_number_one_does_not() -> None:
    def names(factor: object) -> set[str]:
        encoder = EncoderConfig(in_channels=1, block_out_channels=(32,), downsample_factors=(factor,))  # type: ignore[arg-type]
        with torch.device("meta"):
            model = FAMILIES["stable_syncnet"](
                StableSyncNetConfig(audio_encoder=encoder, visual_encoder=encoder, num_frames=1)
            )
        return {name for name in model.state_dict() if "downsample" in name}

    assert names(1) == set()
    assert len(names((1, 1))) == 4


def test_an_encoder_that_does_not_end_at_one_pixel_is_refused_with_its_layer() -> None:
    raw = shipped("16_pixel").model_dump(mode="json")
    raw["audio_encoder"]["downsample_factors"] = [[2, 1], 2, 2, 1, 2, 2, 1]
    with pytest.raises(ConfigError, match=r"model\.audio_encoder.*down_blocks` end at 2x3.*downsample_factors\[6\]"):
        build_meta(StableSyncNetConfig.model_validate(raw))


def test_embeddings_of_different_sizes_are_refused() -> None:
    raw = shipped("16_pixel").model_dump(mode="json")
    raw["audio_encoder"]["block_out_channels"] = [32, 64, 128, 256, 512, 1024, 1024]
    with pytest.raises(ConfigError, match=r"2048 channels and `model\.audio_encoder` with 1024"):
        build_meta(StableSyncNetConfig.model_validate(raw))


def test_all_problems_of_an_encoder_are_named_at_once() -> None:
    raw = shipped("16_pixel").model_dump(mode="json")
    raw["audio_encoder"]["block_out_channels"][2] = 100
    raw["visual_encoder"] |= {"in_channels": 45, "attn_blocks": [1]}
    with pytest.raises(ConfigError) as caught:
        build_meta(StableSyncNetConfig.model_validate(raw))
    text = " ".join(caught.value.problems)
    assert "multiple of 32, but is 100" in text
    assert "`model.visual_encoder.in_channels` is 45" in text
    assert "`model.visual_encoder.attn_blocks` has 1 entries" in text


def test_a_seed_gives_the_same_start_and_leaves_the_global_generator_alone(
    tiny_model_config: StableSyncNetConfig,
) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second, other = (build_model(tiny_model_config, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_pixels_become_the_input_of_each_family(tiny_model_config: StableSyncNetConfig) -> None:
    model = build_model(tiny_model_config)
    pixels = torch.randint(0, 256, (2, *model.input_shape.frames), dtype=torch.uint8)
    torch.testing.assert_close(model.pixels_to_input(pixels), pixels.double().div(127.5).sub(1).float())
    wav2lip = build_meta(WAV2LIP)
    pixels = torch.randint(0, 256, (2, 15, 48, 96), dtype=torch.uint8)
    bgr = wav2lip.pixels_to_input(pixels)
    torch.testing.assert_close(bgr[:, 0], pixels[:, 2] / 255)  # blue of the first frame
    torch.testing.assert_close(bgr[:, 3], pixels[:, 5] / 255)  # blue of the second


def test_windows_of_another_resolution_are_resized(tiny_model_config: StableSyncNetConfig) -> None:
    model = build_model(tiny_model_config)
    frames, height, width = model.input_shape.frames
    pixels = torch.randint(0, 256, (1, frames, 2 * height, 2 * width), dtype=torch.uint8)
    assert model.pixels_to_input(pixels).shape == (1, frames, height, width)


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        SyncNet(WAV2LIP)(torch.zeros(1), torch.zeros(1))


def _embed(config: object, frames: tuple[int, ...], audio: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.device("meta"):
        model: nn.Module = FAMILIES[config.name](config)  # type: ignore[attr-defined]
    model.load_state_dict(seeded_weights(model), assign=True)
    with torch.no_grad():
        return model.eval()(*seeded_inputs(frames, audio))


GOLDEN = [
    (
        ODD,
        (15, 64, 96),
        (1, 80, 52),
        [0.0, 0.163715, 0.0, 0.0, 0.059682, 0.047888],
        [0.0, 0.038314, 0.09202, 0.0, 0.051652, 0.15046],
    ),
    (
        WAV2LIP,
        (15, 48, 96),
        (1, 80, 16),
        [0.003888, 0.023966, 0.0, 0.0, 0.0, 0.0],
        [0.034578, 0.0, 0.034229, 0.0, 0.0, 0.0],
    ),
]
"""Configuration, input shapes, the first numbers of the first vision and of the second audio embedding."""
