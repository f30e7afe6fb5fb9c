"""The training loop, whole and visible: pure torch, the same under Ray, in a test and in a benchmark.

Promises: the run is a pure function of (configuration, corpus, starting state): the sample stream and the dropout
masks are functions of (seed, step), so that a run continued from any checkpoint equals one that never stopped. Step 0
is measured before anything is trained, and stays the best until it is beaten. Nothing in the inner loop waits for the
device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.checkpoint import Best, Provenance, TrainState
from orchestrator.config.media import mel_columns
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.loader import TrainLoader
from orchestrator.data.loader.batch import Batch
from orchestrator.data.stream import SampleStream
from orchestrator.data.stream.augment import Augmenter, augment_frames, augment_mel
from orchestrator.models import SyncNet, build_model, cosine_bce
from orchestrator.training.batching import BatchPlan, plan_batches
from orchestrator.training.context import TrainContext
from orchestrator.training.distributed import share_buffers, sum_over_ranks
from orchestrator.training.evaluation import PairList, evaluate_pairs
from orchestrator.training.metrics import score
from orchestrator.training.precision import autocast, gradient_scaler
from orchestrator.training.schedule import learning_rate
from orchestrator.training.snapshot import (
    check_same_model,
    load_weights,
    optimizer_moments,
    restore_moments,
    weights_of,
)
from orchestrator.training.start import StartDecision, decide_start


def train_loop(
    config: RunConfig,
    corpus: Corpus,
    context: TrainContext,
    given: Callable[[], TrainState | None],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> StartDecision:
    """Train until `config.train.steps` optimizer steps have been taken in total.

    Args:
        config: the checked configuration.
        corpus: the prepared corpus.
        context: rank, device, checkpoints and reports.
        given: reads the state of `config.start.checkpoint`; called only where this run has no checkpoint of its own.
        clock: monotonic seconds, for throughput.

    Returns:
        How the run started.
    """
    latest = context.latest()
    decision, state = decide_start(latest, None if latest else given(), config.start)
    run = _Run.begin(config, corpus, context, state)
    context.announce(run.facts(decision))
    if latest is None:
        baseline = run.validate()
        context.report(run.with_position(baseline), run.snapshot(baseline))
    else:
        # a crash may have come between saving this checkpoint and recording its figures
        context.report(run.with_position(latest.progress.get("metrics", {})), None)
    with run.loader(corpus) as batches:
        window = _Window(clock, batches)
        while run.step < config.train.steps:
            loss, grad_norm = run.take_step(next(batches))
            window.add(loss, grad_norm)
            validates, saves = run.due(config.eval.every), run.due(config.checkpoint.every)
            if run.due(config.train.log_every) or validates or saves:
                # every checkpoint ends a window of averages, so that a continued run logs the same figures
                metrics = window.flush(run) | (run.validate() if validates else {})
                state = run.snapshot(metrics) if validates or saves else None
                context.report(run.with_position(metrics), state)
                window.restart()
    return decision


@dataclass
class _Run:
    """The moving parts of one run on one worker."""

    config: RunConfig
    context: TrainContext
    model: SyncNet
    wrapped: nn.Module
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    batches: BatchPlan
    pairs: PairList
    step: int = 0
    samples: int = 0
    best: Best | None = None
    provenance: Provenance | None = None
    """The foreign file at the beginning of it all, if there was one."""

    @classmethod
    def begin(cls, config: RunConfig, corpus: Corpus, context: TrainContext, state: TrainState | None) -> _Run:
        """Build everything and, from a state, put it back where it was."""
        if state is not None:
            check_same_model(state, config.model)
        model = build_model(config.model, seed=config.train.seed)
        if state is not None:
            load_weights(model, state.weights)
        model.to(context.device)
        optim = config.optim
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=optim.lr,
            betas=optim.betas,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            fused=True,  # the same mathematics in one kernel: 8 times faster than the default on a CPU
        )
        run = cls(
            config=config,
            context=context,
            model=model,
            wrapped=context.wrap(model),
            optimizer=optimizer,
            scaler=gradient_scaler(config.train.precision, context.device),
            batches=plan_batches(config.train.global_batch, config.train.micro_batch, context.world_size),
            pairs=PairList.of(corpus, "val", config.model.num_frames, config.eval.pairs, config.data),
        )
        if state is not None:
            run._restore(state)
        return run

    def _restore(self, state: TrainState) -> None:
        self.step, self.samples, self.best = state.step, state.samples, state.best
        self.provenance = state.provenance
        if state.optimizer is not None:
            restore_moments(self.model, self.optimizer, state.optimizer)
        if state.scaler:
            self.scaler.load_state_dict(dict(state.scaler))

    def facts(self, decision: StartDecision) -> dict[str, object]:
        """What is decided at the start: where it starts, and on which pairs it is measured (of rank 0: the file)."""
        pairs = {"pairs_file": self.pairs.to_bytes()} if self.context.rank == 0 else {}
        return {"start": decision.to_dict(), "pairs_hash": self.pairs.hash, **pairs}

    def loader(self, corpus: Corpus) -> TrainLoader:
        """Batches from this run's position in the stream."""
        data, num_frames, seed = self.config.data, self.config.model.num_frames, self.config.train.seed
        stream = SampleStream(corpus.split("train").table, num_frames, data, seed=seed)
        return TrainLoader(
            corpus,
            "train",
            stream,
            self.batches.global_batch,
            self.batches.micro_batch,
            self.context.rank,
            self.context.world_size,
            start_position=self.samples,
            threads=data.loader_threads,
            prefetch=data.prefetch,
            augmenter=Augmenter(data.augment, mel_columns(num_frames), seed) if data.augment.on else None,
            pin_memory=self.context.device.type == "cuda",
        )

    def take_step(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """One optimizer step. Returns this rank's share of the loss and the gradient norm, both still on the device."""
        config = self.config
        # the dropout masks of a step depend on nothing but (seed, step, rank), so there is no RNG state to lose
        torch.manual_seed(((config.train.seed << 44) ^ (self.step << 12) ^ self.context.rank) % (1 << 63))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, config.train.steps, config.optim)
        total = torch.zeros((), device=self.context.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with _gradients_shared(self.wrapped, last):
                loss = self._loss(batch) * (len(batch) / self.batches.per_worker)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.optim.grad_clip_norm or float("inf"))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += self.batches.global_batch
        return total, norm

    def _loss(self, batch: Batch) -> Tensor:
        device = self.context.device
        frames, mel = (part.to(device, non_blocking=True) for part in (batch.frames, batch.mel))
        if batch.changes is not None:
            changes = batch.changes.to(device)
            frames, mel = augment_frames(frames, changes), augment_mel(mel, changes)
        frames = self.model.pixels_to_input(frames)
        with autocast(self.config.train.precision, device):
            vision, audio = self.wrapped(frames, mel)
        return cosine_bce(vision, audio, batch.labels.to(device, non_blocking=True))

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last one, happens now."""
        return self.step % every == 0 or self.step == self.config.train.steps

    def validate(self) -> dict[str, float]:
        """Validate on all ranks and remember the best."""
        config, context = self.config, self.context
        share_buffers(self.model)
        figures = evaluate_pairs(
            self.model,
            self.pairs,
            config.eval.batch,
            rank=context.rank,
            world_size=context.world_size,
            device=context.device,
            precision=config.train.precision,
        )
        metrics = {f"val/{name}": value for name, value in figures.items()}
        self._remember_best(metrics)
        return metrics

    def _remember_best(self, metrics: Mapping[str, float]) -> None:
        metric = self.config.checkpoint.metric
        value = metrics[metric]
        if self.best is None or score(metric, value) > score(metric, self.best.value):
            self.best = Best(metric, value, self.step)

    def with_position(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics with the step and sample they belong to, and the best so far."""
        best = {"best/value": self.best.value, "best/step": self.best.step} if self.best else {}
        return {"step": self.step, "samples": self.samples, **best, **metrics}

    def snapshot(self, metrics: Mapping[str, float]) -> TrainState | None:
        """The whole state, on rank 0; the other ranks hold the same and save nothing."""
        if self.context.rank != 0:
            return None
        return TrainState(
            model=self.config.model,
            weights=weights_of(self.model),
            step=self.step,
            samples=self.samples,
            optimizer=optimizer_moments(self.model, self.optimizer),
            scaler=self.scaler.state_dict() or None,
            best=self.best,
            # `evaluate` says when a corpus is prepared otherwise than this one
            progress={"metrics": dict(metrics), "preparation": self.pairs.clips.corpus.preparation},
            provenance=self.provenance,
        )


class _Window:
    """Figures between two log lines, kept on the device until they are needed."""

    def __init__(self, clock: Callable[[], float], batches: TrainLoader) -> None:
        self._clock, self._batches = clock, batches
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self.restart()

    def add(self, loss: Tensor, grad_norm: Tensor) -> None:
        self._losses.append(loss)
        self._norms.append(grad_norm)

    def flush(self, run: _Run) -> dict[str, float]:
        """Averages since the last flush, over all ranks. Waits for the device."""
        world = run.context.world_size
        loss = float(sum_over_ranks(torch.stack(self._losses).mean()) / world)
        norm = float(torch.stack(self._norms).mean())
        now, waited, steps = self._clock(), self._batches.waited_s, len(self._losses)
        elapsed = max(now - self._since, 1e-9)
        metrics = {
            "train/loss": loss,
            "train/grad_norm": norm,
            "train/lr": run.optimizer.param_groups[0]["lr"],
            "train/samples_per_s": steps * run.batches.global_batch / elapsed,
            "train/data_wait": (waited - self._waited) / elapsed,
            "train/data_ready": (self._batches.ready - self._ready) / max(self._batches.taken - self._taken, 1),
        }
        self._losses, self._norms = [], []
        return metrics

    def restart(self) -> None:
        """Start the clock of the next window: what happened since the last one was not training."""
        self._since, self._waited = self._clock(), self._batches.waited_s
        self._ready, self._taken = self._batches.ready, self._batches.taken


def _gradients_shared(model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """With several micro-batches, workers exchange gradients only after the last one."""
    return nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync()
