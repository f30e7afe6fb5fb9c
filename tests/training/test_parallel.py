"""DDP and FSDP2 on real processes: what is summed, what is kept, and that one continues where the other stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.models import SyncNet, build_model
from orchestrator.training.optimizer import apply_gradients, build_optimizer
from orchestrator.training.parallel import clip_and_check, gathered, gradients_shared, like, warm_up, whole, wrap
from orchestrator.training.precision import gradient_scaler
from orchestrator.training.snapshot import restore_moments
from tests.conftest import TINY_MODEL

CPU = torch.device("cpu")
# a norm over the one number of a channel is nothing but rounding, which Adam turns into steps: here each group has more
SMALL_MODEL = TINY_MODEL | {
    part: TINY_MODEL[part] | {"block_out_channels": [64, 128]} for part in ("audio_encoder", "visual_encoder")
}
CONFIG = load_config({"model": SMALL_MODEL, "data": {"path": "unused"}, "optim": {"lr": 1e-3}})
STRATEGIES = ("ddp", "fsdp")
State = dict[str, dict[str, Tensor]]
"""By parameter: its value under `weight`, and the optimizer's slots."""


def test_one_worker_is_not_wrapped() -> None:
    model = build_model(CONFIG.model)
    assert wrap(model, CONFIG, CPU) is model
    warm_up(model, CONFIG, CPU)
    with gathered(model), gradients_shared(model, last=False):
        assert all(whole(parameter) is parameter for parameter in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_step_that_is_no_number_changes_nothing(value: float) -> None:
    trainer = Trainer.begin(CONFIG, None)
    trainer.steps(0, 2)
    before = trainer.state()
    norm, bad = trainer.step(2, factor=value)
    assert bad.item() == 1 and not norm.isfinite()
    assert_equal(before, trainer.state())
    assert trainer.step(3)[1].item() == 0
    assert all(slots["step"].item() == 3 for slots in trainer.state().values())


def test_the_norm_is_that_of_all_gradients_together() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(3))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    norm, bad = clip_and_check(parameters, None)
    assert (norm.item(), bad.item()) == (5, 0) and parameters[1].grad.item() == 4
    norm, bad = clip_and_check(parameters, 1.0)
    assert (norm.item(), bad.item()) == (5, 0) and parameters[1].grad.item() == pytest.approx(0.8)


def test_a_value_takes_the_memory_format_of_its_parameter() -> None:
    parameter = torch.empty(4, 3, 2, 2, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    value = torch.rand(4, 3, 2, 2)
    found = like(value, parameter)
    assert found.stride() == parameter.stride() and torch.equal(found, value.bfloat16())


@pytest.mark.slow  # three processes on few cores
def test_three_workers(tmp_path: Path) -> None:
    # all in one group of processes, which take longer to start than to do this
    mp.spawn(_worker, args=(str(tmp_path / "rendezvous"),), nprocs=3)


def _worker(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=3)
    for check in _CHECKS:
        check()
    dist.barrier()
    dist.destroy_process_group()


def check_that_names_and_shapes_stay() -> None:
    plain = {name: value.shape for name, value in build_model(CONFIG.model).named_parameters()}
    for strategy in STRATEGIES:
        model = Trainer.begin(with_strategy(strategy), None).model
        assert {name: value.shape for name, value in model.named_parameters()} == plain
        assert all(isinstance(value, DTensor) for value in model.parameters()) == (strategy == "fsdp")


def check_that_all_workers_together_do_what_one_does() -> None:
    """The gradient is the mean over the workers, whatever part of it each holds."""
    alone = Trainer.begin(CONFIG, None, wrapper=lambda model: model)
    gradients = []
    for rank in range(3):
        alone.backward(0, rank)
        gradients.append(gradients_of(alone.model))
        alone.model.zero_grad()
    for strategy in STRATEGIES:
        trainer = Trainer.begin(with_strategy(strategy), None)
        trainer.backward(0, dist.get_rank())
        for name, found in gradients_of(trainer.model).items():
            mean = torch.stack([gradient[name] for gradient in gradients]).mean(0)
            torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-7)


def check_that_a_continued_run_is_exact() -> None:
    """Bit for bit, with and without accumulation. Without the warm-up DDP's first steps are rounded otherwise."""
    for strategy in STRATEGIES:
        for micro_batches in (1, 3):
            assert stopped_and_not(with_strategy(strategy), micro_batches, warm=True)
    assert not stopped_and_not(CONFIG, 1, warm=False), "this net is too small to show that the warm-up is needed"


def stopped_and_not(config: RunConfig, micro_batches: int, *, warm: bool) -> bool:
    """Whether two steps, a new start and two more give the same bits as four steps, on all workers."""
    straight = Trainer.begin(config, None, warm=warm)
    straight.steps(0, 2, micro_batches)
    stopped = Trainer.begin(config, straight.state(), warm=warm)
    for trainer in (straight, stopped):
        trainer.steps(2, 4, micro_batches)
    return same(straight.state(), stopped.state())


def check_that_ddp_continues_under_fsdp_and_back() -> None:
    """From the same state by the other strategy: the losses agree to 1e-5, the weights to a hundredth of a step."""
    for strategy, other in (STRATEGIES, STRATEGIES[::-1]):
        first = Trainer.begin(with_strategy(strategy), None)
        first.steps(0, 3)
        second = Trainer.begin(with_strategy(other), first.state())
        assert_equal(first.state(), second.state())
        losses = [trainer.steps(3, 6) for trainer in (first, second)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)
        states = first.state(), second.state()
        for name, slots in states[0].items():
            torch.testing.assert_close(states[1][name]["weight"], slots["weight"], rtol=0, atol=CONFIG.optim.lr / 100)
            assert slots["step"] == states[1][name]["step"] == 6


def check_that_a_bad_step_of_one_worker_is_skipped_by_all() -> None:
    for strategy in STRATEGIES:
        trainer = Trainer.begin(with_strategy(strategy), None)
        trainer.steps(0, 2)
        before = trainer.state()
        _, bad = trainer.step(2, factor=float("nan") if dist.get_rank() == 1 else 1.0)
        assert bad.item() == 1
        assert_equal(before, trainer.state())
        assert trainer.step(3)[1].item() == 0 and not same(before, trainer.state())


def check_that_a_gathered_net_is_used_by_each_worker_alone() -> None:
    trainer, frames_audio = Trainer.begin(with_strategy("fsdp"), None), windows(0, 0, 0)
    for step in range(2):  # before the first step and after it
        alone = build_model(CONFIG.model)
        alone.load_state_dict({name: whole(value) for name, value in trainer.model.state_dict().items()})
        expected = alone(*frames_audio)[0]
        with torch.no_grad(), gathered(trainer.model):
            for _ in range(dist.get_rank()):
                torch.testing.assert_close(trainer.model(*frames_audio)[0], expected, rtol=0, atol=1e-6)
        assert all(isinstance(value, DTensor) for value in trainer.model.parameters())
        trainer.step(step)


_CHECKS: list[Callable[[], None]] = [
    check_that_names_and_shapes_stay,
    check_that_all_workers_together_do_what_one_does,
    check_that_a_continued_run_is_exact,
    check_that_ddp_continues_under_fsdp_and_back,
    check_that_a_bad_step_of_one_worker_is_skipped_by_all,
    check_that_a_gathered_net_is_used_by_each_worker_alone,
]


@dataclass
class Trainer:
    """The loop's steps without its corpus."""

    model: SyncNet
    wrapped: nn.Module
    optimizer: torch.optim.AdamW

    @classmethod
    def begin(
        cls,
        config: RunConfig,
        state: State | None,
        *,
        warm: bool = True,
        wrapper: Callable[[SyncNet], nn.Module] | None = None,
    ) -> Trainer:
        model = build_model(config.model, seed=1)
        if state is not None:
            model.load_state_dict({name: slots["weight"] for name, slots in state.items()})
        wrapped = wrapper(model) if wrapper else wrap(model, config, CPU)
        optimizer = build_optimizer(model, config.optim)
        if state is not None:
            moments = {name: {k: v for k, v in slots.items() if k != "weight"} for name, slots in state.items()}
            restore_moments(model, optimizer, moments)
        if warm:
            warm_up(wrapped, config, CPU)
        return cls(model, wrapped, optimizer)

    def backward(self, step: int, rank: int, micro_batches: int = 1, factor: float = 1.0) -> Tensor:
        total = torch.zeros(())
        for number in range(micro_batches):
            with gradients_shared(self.wrapped, last=number == micro_batches - 1):
                vision, audio = self.wrapped(*windows(step, rank, number))
                loss = (vision * audio).sum(1).square().mean() * factor
                loss.backward()
            total += loss.detach()
        return total

    def step(self, step: int, micro_batches: int = 1, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        self.loss = self.backward(step, dist.get_rank() if dist.is_initialized() else 0, micro_batches, factor)
        norm, bad = clip_and_check(self.model.parameters(), 1.0)
        apply_gradients(self.optimizer, gradient_scaler("fp32", CPU), bad)
        return norm, bad

    def steps(self, begin: int, end: int, micro_batches: int = 1) -> Tensor:
        """Returns the loss of each step."""
        losses = []
        for step in range(begin, end):
            self.step(step, micro_batches)
            losses.append(self.loss)
        return torch.stack(losses)

    def state(self) -> State:
        return {
            name: {
                "weight": whole(value.detach()).clone(),
                **{slot: whole(moment).clone() for slot, moment in self.optimizer.state[value].items()},
            }
            for name, value in self.model.named_parameters()
        }


def windows(step: int, rank: int, number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + 10 * rank + number)
    return torch.rand(2, 15, 16, 32, generator=generator), torch.rand(2, 1, 80, 16, generator=generator)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(value.grad) for name, value in model.named_parameters() if value.grad is not None}


def with_strategy(strategy: str) -> RunConfig:
    return apply_settings(CONFIG, {"scale.strategy": strategy})


def same(first: State, second: State) -> bool:
    return all(torch.equal(value, second[name][slot]) for name in first for slot, value in first[name].items())


def assert_equal(first: State, second: State) -> None:
    assert first.keys() == second.keys() and same(first, second)
