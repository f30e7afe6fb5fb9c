"""Recognition: shipped layouts at any width, Wav2Lip's net exactly, and no guess about anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from orchestrator.checkpoint import DecisionSource, inspect, load_model
from orchestrator.checkpoint.architecture import recognise
from orchestrator.checkpoint.architecture.shipped import SHIPPED, ShippedLayout
from orchestrator.config.model import EncoderConfig, StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.errors import ConfigError, RefusalReason
from orchestrator.models import build_meta

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]


def config_of(layout: ShippedLayout, width: int) -> StableSyncNetConfig:
    """A shipped layout at one width."""
    encoders = {
        f"{name}_encoder": EncoderConfig(
            in_channels=encoder.in_channels,
            block_out_channels=(width,) * len(encoder.factors),
            downsample_factors=encoder.factors,
            attn_blocks=encoder.attention,  # type: ignore[arg-type]
        )
        for name, encoder in (("audio", layout.audio), ("visual", layout.visual))
    }
    facts = {key: getattr(layout, key) for key in ("num_frames", "resolution", "lower_half", "latent_space")}
    return StableSyncNetConfig(**encoders, **facts)


def recognised(weights: Weights) -> object:
    """The network that is recognised without any help."""
    return recognise(weights, "x", source=DecisionSource.FILE).config


@pytest.mark.parametrize("layout", SHIPPED, ids=lambda layout: layout.name)
def test_every_shipped_layout_is_recognised_at_any_width(layout: ShippedLayout) -> None:
    for width in (32, 96):
        config = config_of(layout, width)
        assert recognised(build_meta(config).state_dict()) == config


def test_wav2lip_is_recognised_exactly() -> None:
    weights = build_meta(Wav2LipSyncNetConfig()).state_dict()
    assert recognised(weights) == Wav2LipSyncNetConfig()
    del weights["face_encoder.3.conv_block.1.running_mean"]
    message = refusal(lambda: recognised(weights), RefusalReason.MISMATCH)
    assert "face_encoder.3.conv_block.1.running_mean" in message


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"face_encoder.0.conv_block.0.weight": (16, 15, 7, 7)}, "384 fork"),
        ({"face_encoder.0.act.weight": (1,)}, "PReLU"),
        ({"face_encoder.19.conv_block.0.weight": (1024, 1024, 1, 1)}, "288 fork"),
        ({"netcnnaud.0.weight": (64, 1, 3, 3)}, "joonson"),
        ({"merge_encoder.0.weight": (128, 256, 3, 3)}, "DINet"),
        ({"visual_encoder.0.conv_block.0.weight": (32, 15, 7, 7)}, "ablation"),
    ],
)
def test_known_nets_that_are_not_built_are_told_by_name(names: dict[str, tuple[int, ...]], told: str) -> None:
    weights = {name: torch.zeros(shape) for name, shape in names.items()}
    assert told in refusal(lambda: recognised(weights), RefusalReason.UNSUPPORTED)


def test_some_other_network(save: Save) -> None:
    weights = dict(torch.nn.Linear(2, 2).state_dict())
    message = refusal(lambda: inspect(save(weights)), RefusalReason.UNKNOWN_ARCHITECTURE)
    assert "no known SyncNet" in message


def odd_config() -> StableSyncNetConfig:
    """A working network of no shipped layout: 5 frames, attention in an unusual place."""
    return StableSyncNetConfig(
        audio_encoder=EncoderConfig(
            in_channels=1, block_out_channels=(32,) * 5, downsample_factors=(2, 2, 2, 2, (5, 1)), attn_blocks=None
        ),
        visual_encoder=EncoderConfig(
            in_channels=15, block_out_channels=(32,) * 4, downsample_factors=((2, 4), 4, 4, 4), attn_blocks=(0, 1, 0, 0)
        ),
        num_frames=5,
    )


def test_strides_are_never_guessed(save: Save) -> None:
    weights = dict(build_meta(odd_config()).to_empty(device="cpu").state_dict())
    weights = {name: torch.ones_like(tensor) for name, tensor in weights.items()}
    path = save(weights)
    message = refusal(lambda: inspect(path), RefusalReason.UNKNOWN_ARCHITECTURE)
    assert "strides" in message and "model_config" in message and "attention after blocks [1]" in message
    assert inspect(path, model_config=odd_config()).model == odd_config()
    assert load_model(path, model_config=odd_config().model_dump()).config == odd_config()


def test_a_yaml_of_the_same_name_beside_the_file_settles_it(save: Save, tmp_path: Path) -> None:
    weights = {name: torch.ones(t.shape) for name, t in build_meta(odd_config()).state_dict().items()}
    path = save(weights, "odd.pt")
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({"model": odd_config().model_dump(mode="json")}))
    report = inspect(path)
    assert report.model == odd_config()
    assert report.decisions[0].source is DecisionSource.OPTION


def test_a_given_configuration_must_fit(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    path = save(weights)
    message = refusal(lambda: inspect(path, model_config=odd_config()), RefusalReason.MISMATCH)
    assert "missing" in message or "another shape" in message
    broken = config.model_copy(update={"num_frames": 17})
    with pytest.raises(ConfigError, match="in_channels"):
        inspect(path, model_config=broken)


@pytest.mark.parametrize("change", ["missing", "extra", "reshaped", "integer"])
def test_weights_that_nearly_fit(save: Save, weights: Weights, change: str) -> None:
    name = "visual_encoder.down_blocks.2.conv1.weight"
    if change == "missing":
        del weights[name]
    elif change == "extra":
        weights["visual_encoder.down_blocks.2.conv9.weight"] = torch.zeros(3)
    elif change == "reshaped":
        weights[name] = torch.zeros(32, 32, 1, 1)
    else:
        weights[name] = torch.zeros(32, 32, 3, 3, dtype=torch.int8)
    assert "visual_encoder.down_blocks.2.conv" in refusal(lambda: inspect(save(weights)), RefusalReason.MISMATCH)


def test_an_encoder_without_its_twin(save: Save, weights: Weights) -> None:
    alone = {name: tensor for name, tensor in weights.items() if name.startswith("audio_encoder")}
    refusal(lambda: inspect(save(alone)), RefusalReason.MISMATCH)
