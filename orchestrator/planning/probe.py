"""How fast this machine trains a net: a few real passes and updates, on invented windows, within a few seconds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.config.schema import RunConfig
from orchestrator.models import build_model, skeleton
from orchestrator.models.losses import build_loss
from orchestrator.planning.sizes import happenings
from orchestrator.training.batching import BatchPlan, has_batch_norm
from orchestrator.training.freezing import freeze, net_to_train
from orchestrator.training.optimizer import apply_gradients, build_optimizer
from orchestrator.training.parallel import clip_and_check
from orchestrator.training.precision import autocast, gradient_scaler
from orchestrator.training.speed import optimise_model

BUDGET_S = 20.0
"""Seconds for measuring; building the net is not counted."""
_REPEATS = 3
_FIRST_SHARE = 0.25
"""Of the budget, for the first pass."""


class TooSlow(Exception):
    """One pass of `size` samples would take about `seconds`: too long to measure."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(size, seconds)
        self.size, self.seconds = size, seconds


@dataclass(frozen=True)
class Measured:
    """What was measured of one worker."""

    device: str
    """In words."""
    micro_batch: int
    """Samples that went through the net at once."""
    pass_s: float
    """Seconds of one forward and backward pass of so many samples."""
    update_s: float
    """Seconds of clipping and the optimizer's step, once per step."""
    forward_s: float
    """Seconds of a forward pass of so many samples, as in validation."""

    def step_s(self, batches: BatchPlan) -> float:
        """Seconds of one optimizer step of the worker with most samples, exchange of gradients not included."""
        return batches.per_worker * self.pass_s / self.micro_batch + self.update_s

    def run_s(self, config: RunConfig, batches: BatchPlan, steps: int) -> float:
        """Seconds of so many steps to go with their validations, on all workers at once."""
        # what a run starts from is validated too, but not when it continues
        validations = happenings(steps, config.eval.every) + (steps == config.train.steps)
        pairs = -(-config.eval.pairs // batches.world_size) * validations
        return steps * self.step_s(batches) + pairs * self.forward_s / self.micro_batch


def measure(
    config: RunConfig,
    micro_batch: int,
    device: torch.device,
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Train the net on invented windows for a moment: forward, backward and update, as the loop does.

    It begins with two samples (one, where two take too long) and doubles them up to `micro_batch` as long as the budget
    allows.

    Args:
        config: the configuration; it is not compiled, which would take longer than the probe.
        micro_batch: samples that one worker puts through the net at once.
        device: where to compute.
        budget_s: seconds.
        clock: monotonic seconds.

    Raises:
        TooSlow: one pass would take most of the budget, by the speed of a convolution like the net's.
        torch.OutOfMemoryError: not even the first pass fits.
    """
    with _threads(config, device):
        size = _first_size(config, device, budget_s, clock)
        trainee = _Trainee(config, device)
        watch = _Watch(clock, device)
        size, pass_s = _largest_in_time(trainee, watch, size, micro_batch, budget_s)
        times = [pass_s]
        while len(times) < _REPEATS and watch.elapsed + 2 * pass_s < budget_s:
            times.append(watch.time(lambda: trainee.forward_backward(size)))
        update_s = watch.time(trainee.update)
        if watch.elapsed + 2 * pass_s < budget_s:  # the first update also makes the moments
            trainee.forward_backward(size)
            update_s = watch.time(trainee.update)
        forward_s = watch.time(lambda: trainee.forward(size)) if watch.elapsed < budget_s else pass_s / 3
        return Measured(trainee.where, size, statistics.median(times), update_s, forward_s)


def _first_size(config: RunConfig, device: torch.device, budget_s: float, clock: Callable[[], float]) -> int:
    """How many samples to begin with.

    Raises:
        TooSlow: not even one pass would leave time for the rest.
    """
    per_sample = 3 * forward_flops(config) / _conv_rate(config.train.precision, device, clock)
    unit = build_loss(config.loss).unit
    least = max(unit, 2 if has_batch_norm(net_to_train(config)) else 1)
    for size in (max(2, least), least):
        if size * per_sample <= _FIRST_SHARE * budget_s:
            return size
    raise TooSlow(least, least * per_sample)


def forward_flops(config: RunConfig) -> int:
    """Floating-point operations of one sample's forward pass; a multiplication with its addition is two."""
    net, counter = skeleton(config.model), FlopCounterMode(display=False)
    shape = net.input_shape
    with counter, torch.no_grad(), torch.device("meta"):
        net(torch.empty(2, *shape.frames), torch.empty(2, *shape.audio))
    return int(counter.get_total_flops()) // 2


def _conv_rate(precision: str, device: torch.device, clock: Callable[[], float]) -> float:
    """Operations per second of a convolution like the nets', forward and backward."""
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).to(device)
    picture, watch = torch.randn(2, 64, 32, 32, device=device), _Watch(clock, device)

    def work() -> None:
        with autocast(precision, device):
            layer(picture).sum().backward()

    work()
    # forward, gradient of the weights; that of the picture is not asked for
    return 2 * 2 * (2 * 64 * 64 * 9 * 32 * 32) / watch.time(work)


def _largest_in_time(trainee: _Trainee, watch: _Watch, size: int, most: int, budget_s: float) -> tuple[int, float]:
    """The micro-batch that is measured, and the seconds of its pass."""
    size = min(most, size)
    pass_s = watch.time(lambda: trainee.forward_backward(size))
    if watch.elapsed < _FIRST_SHARE * budget_s:  # the first pass of a size also finds memory and kernels
        pass_s = watch.time(lambda: trainee.forward_backward(size))
    # half of the budget is for repeating, the update and validation
    while size < most and watch.elapsed + 2 * (2 * pass_s) < budget_s / 2:
        larger = min(2 * size, most // trainee.loss.unit * trainee.loss.unit)
        try:
            trainee.forward_backward(larger)
        except torch.OutOfMemoryError:
            break
        size, pass_s = larger, watch.time(partial(trainee.forward_backward, larger))
    return size, pass_s


class _Trainee:
    """The net with all that one step needs."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        plain = config.model_copy(update={"speed": config.speed.model_copy(update={"compile": False})})
        self.device, self.precision, self._clip = device, config.train.precision, config.optim.grad_clip_norm
        self.model, self.loss = build_model(config.model, seed=config.train.seed).to(device), build_loss(config.loss)
        freeze(self.model, config.optim.freeze)
        optimise_model(self.model, plain, device, lambda _: None)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.scaler = gradient_scaler(config.train.precision, device)
        self._latent = config.model.latent_space
        self._windows: tuple[Tensor, Tensor] | None = None

    @property
    def where(self) -> str:
        """The device in words."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"the CPU with {torch.get_num_threads()} of {os.cpu_count()} cores"

    def forward_backward(self, size: int) -> None:
        labels = torch.arange(size, device=self.device) % 2 == 0
        vision, audio = self._embed(size)
        self.scaler.scale(self.loss(vision, audio, labels.float())).backward()

    def forward(self, size: int) -> None:
        self.model.eval()
        with torch.no_grad():
            self._embed(size)
        self.model.train()

    def update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        _, bad = clip_and_check(self.model.parameters(), self._clip)
        apply_gradients(self.optimizer, self.scaler, bad)

    def _embed(self, size: int) -> tuple[Tensor, Tensor]:
        if self._windows is None or len(self._windows[0]) != size:
            self._windows = self._invent(size)
        stored, audio = self._windows
        frames = self.model.pixels_to_input(stored)
        with autocast(self.precision, self.device):
            vision, speech = self.model(frames, audio)
        return vision, speech

    def _invent(self, size: int) -> tuple[Tensor, Tensor]:
        """Windows as they are stored: bytes, or float16 latents."""
        shape, device = self.model.input_shape, self.device
        if self._latent:
            stored = torch.randn(size, *shape.frames, device=device).half()
        else:
            stored = torch.randint(0, 256, (size, *shape.frames), dtype=torch.uint8, device=device)
        return stored, torch.randn(size, *shape.audio, device=device)


class _Watch:
    """Seconds, of what has really been computed."""

    def __init__(self, clock: Callable[[], float], device: torch.device) -> None:
        self._clock, self._device = clock, device
        self._begin = clock()

    @property
    def elapsed(self) -> float:
        return self._clock() - self._begin

    def time(self, work: Callable[[], None]) -> float:
        self._wait()
        begin = self._clock()
        work()
        self._wait()
        return max(self._clock() - begin, 1e-9)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@contextmanager
def _threads(config: RunConfig, device: torch.device) -> Iterator[None]:
    """As many threads as a worker will have; a run without workers has them all. Random numbers are put back."""
    before = torch.get_num_threads()
    if config.scale.num_workers:
        torch.set_num_threads(max(1, int(config.scale.cpus_per_worker)))
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before)
