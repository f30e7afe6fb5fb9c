"""Names lose what wrappers and bigger models put before or into them, all of one net or none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orchestrator.checkpoint.names import clean_names, net_prefixes, without_wrappers
from orchestrator.config.model import JoonsonSyncNetConfig, JoonsonTrainerConfig
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import build_meta

Weights = dict[str, Tensor]


def under(prefix: str, weights: Weights) -> Weights:
    """The same tensors by longer names."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def refused(weights: Weights) -> str:
    """The message of the refusal."""
    with pytest.raises(CheckpointError) as caught:
        clean_names(weights, "net.pt")
    assert caught.value.reason is RefusalReason.MISMATCH
    assert caught.value.hint
    return str(caught.value)


def test_clean_names_stay_as_they_are(weights: Weights) -> None:
    assert clean_names(weights, "net.pt") == (weights, [])


@pytest.mark.parametrize(
    "prefix", ["module.", "syncnet.", "__S__.", "model.", "net.", "module.syncnet._orig_mod.", "trainer.nets.0."]
)
def test_any_prefix_of_the_whole_net(weights: Weights, prefix: str) -> None:
    clean, decisions = clean_names(under(prefix, weights), "net.pt")
    assert list(clean) == list(weights)
    assert [decision.value for decision in decisions] == [f"`{prefix}` stripped"]


@pytest.mark.parametrize("part", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"])
def test_wrappers_inside_of_names(weights: Weights, part: str) -> None:
    inner = {name.replace("down_blocks.1.", f"down_blocks.1.{part}."): tensor for name, tensor in weights.items()}
    clean, decisions = clean_names(inner, "net.pt")
    assert list(clean) == list(weights)
    assert f"`{part}.` removed inside" in str(decisions[0].value)


def test_wrappers_inside_and_outside(weights: Weights) -> None:
    inner = {name.replace("conv1.", "_checkpoint_wrapped_module.conv1."): tensor for name, tensor in weights.items()}
    clean, decisions = clean_names(under("module._orig_mod.", inner), "net.pt")
    assert list(clean) == list(weights)
    assert len(decisions) == 2


def test_a_net_inside_a_bigger_model(weights: Weights) -> None:
    bigger = {"unet.conv_in.weight": torch.zeros(1), **under("syncnet.", weights), "vae.scale": torch.zeros(1)}
    clean, decisions = clean_names(bigger, "net.pt")
    assert list(clean) == list(weights)
    outside = next(decision for decision in decisions if decision.field == "weights.outside")
    assert outside.value == "2 tensors left"
    assert "`unet.conv_in.weight`" in outside.why


def test_two_nets_are_refused(weights: Weights) -> None:
    message = refused({**under("student.", weights), **under("teacher.", weights)})
    assert "`student.`" in message
    assert "`teacher.`" in message


def test_a_net_beside_itself_is_refused(weights: Weights) -> None:
    assert "no prefix" in refused({**weights, **under("copy.", weights)})


def test_a_prefix_on_half_of_the_names_is_refused(weights: Weights) -> None:
    half = dict(list(weights.items())[::2])
    rest = {name: tensor for name, tensor in weights.items() if name not in half}
    assert f"{len(half)} of {len(weights)} names begin with `module.`" in refused({**under("module.", half), **rest})


def test_two_names_that_become_one_are_refused(weights: Weights) -> None:
    name = "visual_encoder.conv_in.weight"
    twin = name.replace("conv_in", "_orig_mod.conv_in")
    assert f"would both be `{name}`" in refused({**weights, twin: torch.zeros(1)})


def test_the_prefixes_of_joonsons_trainer_belong_to_its_names() -> None:
    names = list(build_meta(JoonsonTrainerConfig(temporal_stride=1)).state_dict())
    assert net_prefixes(names) == [""]
    wrapped = {f"module.{name}": torch.zeros(1) for name in names}
    assert list(clean_names(wrapped, "net.pt")[0]) == names


def test_names_without_a_net_lose_only_a_common_wrapper() -> None:
    others = {"module.layer1.weight": torch.zeros(1), "module.layer2.weight": torch.zeros(1)}
    assert list(clean_names(others, "net.pt")[0]) == ["layer1.weight", "layer2.weight"]
    mixed = {"module.layer1.weight": torch.zeros(1), "layer2.weight": torch.zeros(1)}
    assert list(clean_names(mixed, "net.pt")[0]) == list(mixed)


def test_the_last_part_of_a_name_is_no_wrapper() -> None:
    assert without_wrappers("a.module") == "a.module"
    assert without_wrappers("module.a._orig_mod.b") == "a.b"


def test_what_a_profiler_left_is_no_part_of_the_net(weights: Weights) -> None:
    counted = {"total_ops": torch.zeros(1), "audio_encoder.conv_in.total_params": torch.zeros(1)}
    clean, decisions = clean_names({**weights, **counted}, "file.pt")
    assert clean.keys() == weights.keys()
    assert any(decision.field == "weights.profiled" for decision in decisions)


def test_the_net_of_syncnet_python_behind_the_prefix_of_the_trainer() -> None:
    weights = dict(build_meta(JoonsonSyncNetConfig()).state_dict())
    clean, decisions = clean_names(under("__S__.", weights), "net.pt")
    assert list(clean) == list(weights)
    assert decisions[0].value == "`__S__.` stripped"
