"""Recognition: shipped layouts at any width, every other family exactly, and no guess about anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orchestrator.checkpoint import DecisionSource, inspect, load_model
from orchestrator.checkpoint.architecture import ANCHORS, recognise
from orchestrator.checkpoint.architecture.shipped import SHIPPED, ShippedLayout
from orchestrator.config.model import (
    AnyModelConfig,
    DinetSyncNetConfig,
    EncoderConfig,
    JoonsonSyncNetConfig,
    JoonsonTrainerConfig,
    LatentSyncWav2LipConfig,
    StableSyncNetConfig,
    Wav2LipForkConfig,
    Wav2LipSyncNetConfig,
)
from orchestrator.errors import ConfigError, RefusalReason
from orchestrator.models import build_meta

from .conftest import refusal, tiny_config

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


TOLD_BY_WEIGHTS: list[AnyModelConfig] = [
    Wav2LipSyncNetConfig(),
    Wav2LipForkConfig(variant="288_prelu"),
    Wav2LipForkConfig(variant="288_v2"),
    Wav2LipForkConfig(variant="384"),
    LatentSyncWav2LipConfig(),
    JoonsonSyncNetConfig(),
    JoonsonSyncNetConfig(n_out=256),
    JoonsonTrainerConfig(features="mfcc", temporal_stride=1, n_out=512),
    DinetSyncNetConfig(),
    DinetSyncNetConfig(num_frames=3, audio_channels=44, embedding=64, batch_norm="face"),
    DinetSyncNetConfig(batch_norm="both"),
]


@pytest.mark.parametrize("config", TOLD_BY_WEIGHTS, ids=lambda config: config.name)
def test_every_family_is_recognised_with_what_its_weights_tell(config: AnyModelConfig) -> None:
    answer = recognise(build_meta(config).state_dict(), "x", source=DecisionSource.FILE)
    assert answer.config == config
    assert answer.how.startswith(config.name)
    assert answer.decisions


@pytest.mark.parametrize("config", TOLD_BY_WEIGHTS, ids=lambda config: config.name)
def test_what_weights_do_not_tell_is_a_decision(config: AnyModelConfig) -> None:
    decisions = recognise(build_meta(config).state_dict(), "x", source=DecisionSource.FILE).decisions
    assumed = {decision.field for decision in decisions if "do not tell" in decision.why}
    untold = {"latentsync_wav2lip_syncnet": "model.activation", "joonson_trainer": "model.temporal_stride"}
    untold |= {"dinet_syncnet": "model.resolution", "wav2lip_fork": "model.resolution"}
    assert untold.get(config.name, "") in assumed | {""}


@pytest.mark.parametrize("stride", [1, 2])
def test_identical_tensors_of_two_known_nets_are_not_guessed(stride: int) -> None:
    config = JoonsonTrainerConfig(features="fbank", temporal_stride=stride)
    weights = build_meta(config).state_dict()
    message = refusal(lambda: recognised(weights), RefusalReason.UNKNOWN_ARCHITECTURE)
    assert "`temporal_stride` (1 or 2)" in message and "hint: give" in message
    assert recognise(weights, "x", given=config, source=DecisionSource.OPTION).config == config


def test_a_given_activation_is_believed() -> None:
    config = LatentSyncWav2LipConfig(activation="relu")
    weights = build_meta(config).state_dict()
    assert recognise(weights, "x", given=config, source=DecisionSource.OPTION).config == config


def test_no_two_known_nets_share_their_tensors_unless_they_are_refused() -> None:
    nets = [*TOLD_BY_WEIGHTS, *(config_of(layout, 32) for layout in SHIPPED)]
    tensors = {frozenset((n, tuple(t.shape)) for n, t in build_meta(config).state_dict().items()) for config in nets}
    assert len(tensors) == len(nets)


def test_each_net_has_one_anchor_before_all_others() -> None:
    nets = [*TOLD_BY_WEIGHTS, *(config_of(layout, 32) for layout in SHIPPED)]
    seen = set()
    for config in nets:
        names = build_meta(config).state_dict()
        found = [anchor for anchor in ANCHORS if any(name.endswith(anchor) for name in names)]
        assert found[0] in names  # the first match has no prefix before it, so nothing would be cut off
        seen.add(found[0])
    assert seen == set(ANCHORS)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(TOLD_BY_WEIGHTS), st.data())
def test_one_tensor_more_less_or_otherwise_is_a_mismatch_that_names_it(
    config: AnyModelConfig, data: st.DataObject
) -> None:
    weights = dict(build_meta(config).state_dict())
    name = data.draw(st.sampled_from([name for name in weights if weights[name].ndim and name not in ANCHORS]))
    match data.draw(st.sampled_from(["missing", "extra", "reshaped"])):
        case "missing":
            del weights[name]
        case "extra":
            weights[f"{name}_2"] = weights[name]
        case "reshaped":
            weights[name] = weights[name].unsqueeze(0)
    assert name in refusal(lambda: recognised(weights), RefusalReason.MISMATCH)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(TOLD_BY_WEIGHTS), st.randoms(use_true_random=False))
def test_the_order_of_the_tensors_does_not_matter(config: AnyModelConfig, random: Random) -> None:
    items = list(build_meta(config).state_dict().items())
    random.shuffle(items)
    assert recognised(dict(items)) == config


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"binary_pred.0.weight": 4, "face_encoder_blocks.0.0.conv_block.0.weight": 4}, "quality discriminator"),
        ({"face_decoder_blocks.0.0.conv_block.0.weight": 4, "audio_encoder.0.conv_block.0.weight": 4}, "generator"),
        ({"adaAT.commn_linear.0.weight": 2}, "DINet's generator"),
        ({"conv1_1.weight": 4, "conv3_3_norm_mbox_conf.weight": 4}, "S3FD"),
        ({"vgg.0.weight": 4, "L2Norm3_3.weight": 1}, "S3FD"),
        ({"conv_in.weight": 4, "time_embedding.linear_1.weight": 2}, "a diffusion UNet"),
        (
            {
                "unet.conv_in.weight": 4,
                "unet.time_embedding.linear_1.weight": 2,
                "unet.down_blocks.0.motion_modules.0.proj.weight": 2,
            },
            "LatentSync's UNet",
        ),
        ({"encoder.conv_in.weight": 4, "post_quant_conv.weight": 4}, "VAE"),
        ({"encoder.positional_embedding": 2, "decoder.token_embedding.weight": 2}, "Whisper"),
        ({"model.encoder.conv1.weight": 3, "model.encoder.embed_positions.weight": 2}, "Whisper"),
        ({"text_model.embeddings.token_embedding.weight": 2}, "CLIP"),
        ({"bert.embeddings.word_embeddings.weight": 2}, "BERT"),
        ({"stylegan_decoder.constant_input.weight": 4}, "GFPGAN"),
        ({"conv_first.weight": 4, "body.0.rdb1.conv1.weight": 4}, "ESRGAN"),
        ({"layer1.0.conv1.weight": 4, "layer4.0.conv1.weight": 4, "fc.weight": 2}, "ResNet"),
        ({"features.0.weight": 4, "classifier.0.weight": 2}, "VGG"),
        ({"Mixed_5b.branch1x1.conv.weight": 4}, "Inception"),
        ({"cp.resnet.conv1.weight": 4, "ffm.convblk.conv.weight": 4}, "BiSeNet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_that_are_no_syncnet_are_told_by_name(names: dict[str, int], told: str) -> None:
    weights = {name: torch.zeros((1,) * axes) for name, axes in names.items()}
    message = refusal(lambda: recognised(weights), RefusalReason.UNKNOWN_ARCHITECTURE)
    assert told in message and "which is no SyncNet" in message


def test_musetalks_unet_is_told_by_its_first_layer() -> None:
    weights = {"conv_in.weight": torch.zeros(4, 8, 3, 3), "time_embedding.linear_1.weight": torch.zeros(2, 2)}
    assert "MuseTalk" in refusal(lambda: recognised(weights), RefusalReason.UNKNOWN_ARCHITECTURE)


@pytest.mark.parametrize("config", [*TOLD_BY_WEIGHTS, config_of(SHIPPED[0], 32)], ids=lambda config: config.name)
def test_half_a_syncnet_is_told_as_that(config: AnyModelConfig) -> None:
    weights = build_meta(config).state_dict()
    audio = {name: tensor for name, tensor in weights.items() if "aud" in name}
    lips = {name: tensor for name, tensor in weights.items() if "encoder" in name or "lip" in name}
    lips = {name: tensor for name, tensor in lips.items() if "aud" not in name and "merge" not in name}
    for half in (audio, lips):
        message = refusal(lambda half=half: recognised(half), RefusalReason.UNKNOWN_ARCHITECTURE)
        assert "holds only" in message and "encoder" in message


def test_the_trainers_net_without_its_wrapping_is_told() -> None:
    weights = build_meta(JoonsonTrainerConfig(temporal_stride=1)).state_dict()
    inner = {name.removeprefix("__S__."): tensor for name, tensor in weights.items() if name.startswith("__S__.")}
    assert "__S__" in refusal(lambda: recognised(inner), RefusalReason.MISMATCH)


def test_absurd_sizes_are_refused_and_not_built() -> None:
    huge = torch.zeros(1).expand(1 << 40, 1)
    weights = build_meta(JoonsonSyncNetConfig()).state_dict() | {"netfcaud.3.weight": huge}
    refusal(lambda: recognised(weights), RefusalReason.MISMATCH)


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
    assert "5 pixel frames" in message
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
    refusal(lambda: inspect(save(alone)), RefusalReason.UNKNOWN_ARCHITECTURE)


@pytest.mark.parametrize("missing", ["audio_encoder.conv_in.weight", "visual_encoder.down_blocks.2.conv2.weight"])
def test_a_net_that_lost_a_tensor_is_told_as_one(missing: str) -> None:
    weights = dict(build_meta(tiny_config()).state_dict())
    del weights[missing]
    message = refusal(lambda: recognise(weights, "net.pt", source=DecisionSource.FILE), RefusalReason.MISMATCH)
    assert "not a whole one" in message


def test_a_filterbank_net_without_its_filterbank_is_told_as_one() -> None:
    weights = dict(build_meta(JoonsonTrainerConfig(features="fbank", temporal_stride=2)).state_dict())
    weights = {name: tensor for name, tensor in weights.items() if ".torchfb." not in name}
    message = refusal(lambda: recognise(weights, "net.pt", source=DecisionSource.FILE), RefusalReason.MISMATCH)
    assert "joonson_trainer (fbank" in message
