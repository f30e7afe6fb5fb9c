"""Adam's moments keep their parameter, or the optimizer starts fresh and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from orchestrator.checkpoint import DecisionSource
from orchestrator.checkpoint.optimizer import carry_over, number_parameters, parameter_shapes, steps_done
from orchestrator.config.model import StableSyncNetConfig

Groups = Callable[[list[str]], list[list[str]]]
Raw = dict[str, Any]


def trained(
    config: StableSyncNetConfig, kind: str = "AdamW", groups: Groups = lambda names: [names], **more: Any
) -> Raw:
    """The state dict of an optimizer after two steps, with moments that differ everywhere."""
    shapes = parameter_shapes(config)
    generator = torch.Generator().manual_seed(1)
    parameters = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    grouped = [{"params": [parameters[name] for name in group]} for group in groups(list(shapes))]
    optimizer = getattr(torch.optim, kind)(grouped, lr=3e-4, **more)
    for _ in range(2):
        for parameter in parameters.values():
            parameter.grad = torch.rand(parameter.shape, generator=generator)
        optimizer.step()
    return optimizer.state_dict()


def by_name(config: StableSyncNetConfig, raw: Raw, prefix: str = "") -> Raw:
    """As torch.distributed.checkpoint writes it."""
    names = [prefix + name for name in parameter_shapes(config)]
    state = {name: raw["state"][i] for i, name in enumerate(names)}
    return {"state": state, "param_groups": [{**raw["param_groups"][0], "params": names}]}


def why_fresh(raw: Any, config: StableSyncNetConfig) -> str:
    """The reason."""
    optimizer, decisions = carry_over(raw, config)
    assert optimizer is None
    assert (decisions[0].field, decisions[0].source, decisions[0].value) == (
        "optimizer",
        DecisionSource.DEFAULT,
        "fresh",
    )
    return decisions[0].why


def require_same(raw: Raw, config: StableSyncNetConfig, order: list[str] | None = None) -> None:
    """Each parameter has its own moments and step."""
    optimizer, decisions = carry_over(raw, config)
    assert optimizer is not None, decisions[0].why
    assert list(optimizer) == list(parameter_shapes(config))
    for number, name in enumerate(order or list(optimizer)):
        for slot in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer[name][slot], torch.as_tensor(raw["state"][number][slot]).float())


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
@pytest.mark.parametrize("more", [{}, {"amsgrad": True}, {"foreach": True}, {"fused": True}])
def test_adam_in_all_its_forms(config: StableSyncNetConfig, kind: str, more: dict[str, bool]) -> None:
    require_same(trained(config, kind, **more), config)


def test_amsgrads_maxima_are_left_and_named(config: StableSyncNetConfig) -> None:
    optimizer, decisions = carry_over(trained(config, amsgrad=True), config)
    assert optimizer is not None
    assert all(set(slots) == {"exp_avg", "exp_avg_sq", "step"} for slots in optimizer.values())
    assert "optimizer.max_exp_avg_sq" in {decision.field for decision in decisions}


def test_settings_are_told(config: StableSyncNetConfig) -> None:
    _, decisions = carry_over(trained(config, weight_decay=0.02, betas=(0.8, 0.9)), config)
    told = {decision.field: decision.value for decision in decisions}
    assert told["optimizer.lr"] == 3e-4
    assert told["optimizer.betas"] == [0.8, 0.9]
    assert told["optimizer.weight_decay"] == 0.02


def test_numbers_and_back(config: StableSyncNetConfig) -> None:
    raw = trained(config, "Adam")
    optimizer, _ = carry_over(raw, config)
    assert optimizer is not None
    again, _ = carry_over(number_parameters(optimizer, config, 3e-4), config)
    assert again is not None
    assert steps_done(again) == 2
    assert all(torch.equal(again[name]["exp_avg"], optimizer[name]["exp_avg"]) for name in optimizer)


@pytest.mark.parametrize("wide_first", [True, False])
def test_two_groups_by_weight_decay(config: StableSyncNetConfig, wide_first: bool) -> None:
    shapes = parameter_shapes(config)
    wide, flat = [n for n in shapes if len(shapes[n]) > 1], [n for n in shapes if len(shapes[n]) <= 1]
    groups = [wide, flat] if wide_first else [flat, wide]
    require_same(trained(config, groups=lambda names: groups), config, groups[0] + groups[1])


def test_a_group_for_each_encoder(config: StableSyncNetConfig) -> None:
    def groups(names: list[str]) -> list[list[str]]:
        return [[n for n in names if n.startswith(part)] for part in ("audio_encoder", "visual_encoder")]

    require_same(trained(config, groups=groups), config)


def test_an_order_that_does_not_fit(config: StableSyncNetConfig) -> None:
    assert "of shape" in why_fresh(trained(config, groups=lambda names: [names[::-1]]), config)


def test_names_in_the_file_settle_the_order(config: StableSyncNetConfig) -> None:
    raw = trained(config, groups=lambda names: [names[::-1]])
    order = list(parameter_shapes(config))[::-1]
    raw["param_groups"][0]["param_names"] = [f"module.{name}" for name in order]
    require_same(raw, config, order)


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_a_state_by_name(config: StableSyncNetConfig, prefix: str) -> None:
    raw = trained(config)
    named = by_name(config, raw, prefix)
    optimizer, _ = carry_over(named, config)
    assert optimizer is not None
    for number, slots in enumerate(optimizer.values()):
        assert torch.equal(slots["exp_avg"], raw["state"][number]["exp_avg"])


def test_a_state_by_name_with_other_models_parameters(config: StableSyncNetConfig) -> None:
    raw = by_name(config, trained(config), "syncnet.")
    raw["state"]["unet.weight"] = {"step": 2, "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}
    optimizer, _ = carry_over(raw, config)
    assert optimizer is not None
    assert list(optimizer) == list(parameter_shapes(config))


def test_frozen_parameters_make_it_fresh(config: StableSyncNetConfig) -> None:
    raw = trained(config, groups=lambda names: [names[2:]])
    count = len(parameter_shapes(config))
    assert f"{count - 2} parameters, but the model {count}" in why_fresh(raw, config)
    named = by_name(config, trained(config))
    del named["state"]["audio_encoder.conv_in.weight"]
    assert f"{count - 1} of the model's {count} parameters" in why_fresh(named, config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_cast(config: StableSyncNetConfig, dtype: torch.dtype) -> None:
    raw = trained(config)
    for slots in raw["state"].values():
        slots |= {slot: slots[slot].to(dtype) for slot in ("exp_avg", "exp_avg_sq")}
    require_same(raw, config)


def test_steps_of_their_own(config: StableSyncNetConfig) -> None:
    raw = trained(config)
    raw["state"][3]["step"] = torch.tensor(1.0)
    raw["state"][4]["step"] = 5
    optimizer, _ = carry_over(raw, config)
    assert optimizer is not None
    assert [float(slots["step"]) for slots in optimizer.values()][2:6] == [2, 1, 5, 2]
    assert steps_done(optimizer) == 5


@pytest.mark.parametrize(
    ("kind", "more", "word"),
    [
        ("SGD", {"momentum": 0.9}, "SGD"),
        ("RMSprop", {}, "RMSprop"),
        ("Adagrad", {}, "Adagrad"),
        ("NAdam", {}, "NAdam"),
        ("Adamax", {}, "Adamax"),
    ],
)
def test_other_optimizers(config: StableSyncNetConfig, kind: str, more: dict[str, float], word: str) -> None:
    assert word in why_fresh(trained(config, kind, **more), config)


def _without_a_parameter(raw: Raw) -> None:
    del raw["state"][3]


def _of_another_shape(raw: Raw) -> None:
    raw["state"][3]["exp_avg"] = torch.zeros(5)


def _without_second_moment(raw: Raw) -> None:
    del raw["state"][3]["exp_avg_sq"]


def _second_moment_of_another_shape(raw: Raw) -> None:
    raw["state"][3]["exp_avg_sq"] = torch.zeros(5)


def _without_a_step(raw: Raw) -> None:
    del raw["state"][3]["step"]


def _at_step_zero(raw: Raw) -> None:
    raw["state"][3]["step"] = torch.tensor(0.0)


def _integers(raw: Raw) -> None:
    raw["state"][3]["exp_avg"] = raw["state"][3]["exp_avg"].long()


def _sparse(raw: Raw) -> None:
    raw["state"][3]["exp_avg"] = raw["state"][3]["exp_avg"].to_sparse()


def _without_groups(raw: Raw) -> None:
    raw["param_groups"] = None


def _odd_numbers(raw: Raw) -> None:
    raw["param_groups"][0]["params"][0] = [0]


def _all_zero(raw: Raw) -> None:
    for slots in raw["state"].values():
        slots |= {slot: torch.zeros_like(slots[slot]) for slot in ("exp_avg", "exp_avg_sq")}


def _not_stepped(raw: Raw) -> None:
    raw["state"] = {}


def _no_state(raw: Raw) -> None:
    raw["state"] = [1, 2]


_SPOILED = (
    _without_a_parameter,
    _of_another_shape,
    _without_second_moment,
    _second_moment_of_another_shape,
    _without_a_step,
    _at_step_zero,
    _integers,
    _sparse,
    _without_groups,
    _odd_numbers,
    _all_zero,
    _not_stepped,
    _no_state,
)


@pytest.mark.parametrize("spoil", _SPOILED)
def test_half_an_optimizer_is_none(config: StableSyncNetConfig, spoil: Callable[[Raw], None]) -> None:
    raw = trained(config)
    spoil(raw)
    assert why_fresh(raw, config)


def test_a_parameter_without_gradients_may_have_zero_moments(config: StableSyncNetConfig) -> None:
    raw = trained(config)
    raw["state"][3]["exp_avg"] = torch.zeros_like(raw["state"][3]["exp_avg"])
    raw["state"][3]["exp_avg_sq"] = torch.zeros_like(raw["state"][3]["exp_avg_sq"])
    require_same(raw, config)


def test_of_several_the_one_that_fits(config: StableSyncNetConfig) -> None:
    raw = trained(config)
    other = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))]).state_dict()
    optimizer, decisions = carry_over([other, raw], config)
    assert optimizer is not None
    assert "only this one fits" in decisions[0].why
    assert "2 of its optimizers fit" in why_fresh([raw, raw], config)
    assert "starts fresh" in why_fresh([other, other], config)


def test_without_one(config: StableSyncNetConfig) -> None:
    assert "holds none" in why_fresh(None, config)
    assert "averaged" in carry_over(None, config, "the averaged ones were taken")[1][0].why
    assert why_fresh({}, config)
    assert why_fresh([], config)
