"""The training loop, whole and visible: pure torch, the same under Ray, in a test and in a benchmark.

Promises: the run is a pure function of (configuration, corpus, starting state): the sample stream and the dropout
masks are functions of (seed, step), so that a run continued from any checkpoint equals one that never stopped; when a
checkpoint comes, or what the surroundings ask for, changes no figure. Step 0 is measured before anything is trained,
and stays the best until it is beaten. Nothing in the inner loop waits for the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.checkpoint import Best, Provenance, TrainState
from orchestrator.config.media import mel_columns
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.loader import TrainLoader
from orchestrator.data.loader.batch import Batch
from orchestrator.data.stream import SampleStream
from orchestrator.data.stream.augment import Augmenter, augment_frames, augment_mel
from orchestrator.errors import RunError
from orchestrator.models import SyncNet, build_model
from orchestrator.models.losses import PairLoss, build_loss
from orchestrator.training import policies
from orchestrator.training.batching import BatchPlan, check_batches, plan_batches
from orchestrator.training.chance import Verdict, judge, step_sums
from orchestrator.training.context import TrainContext
from orchestrator.training.distributed import share_buffers, share_state
from orchestrator.training.ema import WeightAverage
from orchestrator.training.evaluation import PairList, evaluate_pairs
from orchestrator.training.freezing import freeze
from orchestrator.training.optimizer import Buffers, apply_gradients, build_optimizer
from orchestrator.training.parallel import clip_and_check, gathered, gradients_shared, warm_up
from orchestrator.training.precision import autocast, gradient_scaler
from orchestrator.training.schedule import learning_rate
from orchestrator.training.snapshot import Snapshots, check_same_model, load_weights, restore_moments
from orchestrator.training.speed import find_micro_batch, optimise_model
from orchestrator.training.start import StartDecision, StartVerb, decide_start
from orchestrator.training.window import Stopwatch, Window, bad_in_a_row, step_row


def train_loop(
    config: RunConfig,
    corpus: Corpus,
    context: TrainContext,
    given: Callable[[], TrainState | None],
    *,
    pairs: PairList | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> StartDecision:
    """Train until `config.train.steps` optimizer steps have been taken in total, or the run is asked or decides to end.

    With 0 steps it is only judged what the run starts from, and that is saved.

    Args:
        config: the checked configuration.
        corpus: the prepared corpus.
        context: rank, device, checkpoints, reports, and what is asked of the run.
        given: reads the state of `config.start.checkpoint`; called only where this run has no checkpoint of its own.
        pairs: what to validate on; none draws the pairs that the configuration describes.
        clock: monotonic seconds, for throughput.

    Returns:
        How the run started.

    Raises:
        RunError: too many steps in a row had no finite loss or gradient.
        OrchestratorError: the starting state or the corpus cannot be used, or a checkpoint cannot be written.
    """
    decision, state = _start(config, context, given)
    run = _Run.begin(config, corpus, context, state, pairs)
    context.announce(run.facts(decision))
    if decision.verb is StartVerb.CONTINUE:
        if run.last_figures:  # a crash may have come between saving this checkpoint and recording them
            run.report(run.last_figures)
    else:
        baseline = run.validate({})
        run.report(baseline)
        run.save(baseline)
    with run.loader(corpus) as batches:
        watch = Stopwatch(clock, batches)
        while run.step < config.train.steps and run.ended is None:
            run.take_step(next(batches))
            watch.step()
            figures: dict[str, float] = {}
            validates = run.due(config.eval.every)
            if validates or run.due(config.train.log_every):
                figures, times = run.figures(), watch.figures(config.train.global_batch)
                if validates:
                    figures |= run.validate(figures)
                run.report(figures | times)
                watch.restart()
            request = context.poll(run.step)
            if validates or run.due(config.checkpoint.every) or request.save:
                run.save(figures)
            if request.stop:
                break
    run.announce_end(config.train.steps)
    context.finish()
    return decision


def _start(
    config: RunConfig, context: TrainContext, given: Callable[[], TrainState | None]
) -> tuple[StartDecision, TrainState | None]:
    """Rank 0 reads the state to begin with, and the others get it from there."""
    latest = share_state(context.latest() if context.rank == 0 else None, context.device)
    if latest is None:
        return decide_start(None, share_state(given() if context.rank == 0 else None, context.device), config.start)
    return decide_start(latest, None, config.start)


@dataclass
class _Run:
    """The moving parts of one run on one worker."""

    config: RunConfig
    context: TrainContext
    model: SyncNet
    wrapped: nn.Module
    loss: PairLoss
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    buffers: Buffers
    batches: BatchPlan
    pairs: PairList
    snapshots: Snapshots
    notes: list[str]
    """What a person should know about how it computes."""
    step: int = 0
    samples: int = 0
    best: Best | None = None
    scores: dict[str, Any] | None = None
    """Of every pair at the best validation; none where a checkpoint of an older version does not tell."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per validation; the detector and early stopping are functions of it."""
    ended: str | None = None
    """Why the run should end before its last step, as of the latest validation; none while it should go on."""
    window: Window = field(default_factory=Window)
    skipped: int = 0
    """Steps skipped so far, as of the last settled one."""
    bad_in_a_row: int = 0
    last_figures: dict[str, float] = field(default_factory=dict)
    """Those of the checkpoint that the run began with."""
    provenance: Provenance | None = None
    """The foreign file at the beginning of it all, if there was one."""

    @classmethod
    def begin(
        cls,
        config: RunConfig,
        corpus: Corpus,
        context: TrainContext,
        state: TrainState | None,
        pairs: PairList | None,
    ) -> _Run:
        """Build everything and, from a state, put it back where it was."""
        if state is not None:
            check_same_model(state, config.model)
        device, notes = context.device, list[str]()
        model, loss = build_model(config.model, seed=config.train.seed), build_loss(config.loss)
        freeze(model, config.optim.freeze, notes.append)
        if state is not None:
            load_weights(model, state.weights)
        model.to(device)
        optimise_model(model, config, device, notes.append)
        batches = plan_batches(
            config.train.global_batch, _micro_batch(model, config, context, state), context.world_size, loss.unit
        )
        check_batches(batches, model, config)
        wrapped = context.wrap(model)
        optimizer = build_optimizer(model, config.optim)
        run = cls(
            config=config,
            context=context,
            model=model,
            wrapped=wrapped,
            loss=loss,
            optimizer=optimizer,
            scaler=gradient_scaler(config.train.precision, device),
            average=WeightAverage(model, config.train.ema_decay) if config.train.ema_decay else None,
            buffers=Buffers(model),
            batches=batches,
            pairs=pairs or PairList.of(corpus, "val", config.model.num_frames, config.eval.pairs, config.data),
            snapshots=Snapshots(device),
            notes=notes,
        )
        if state is not None:
            run._restore(state)
        if run.step > config.train.steps:
            notes.append(f"nothing is left to train: `train.steps` is {config.train.steps}, and {run.step} were taken")
        warm_up(wrapped, config, device)
        return run

    def _restore(self, state: TrainState) -> None:
        self.step, self.best = state.step, state.best
        # another run may have stopped in the middle of what this loss keeps together
        self.samples = -(-state.samples // self.loss.unit) * self.loss.unit
        self.provenance, self.history = state.provenance, list(state.history)
        if state.optimizer is not None:
            self.notes += restore_moments(self.model, self.optimizer, state.optimizer)
        if state.scaler:
            self.scaler.load_state_dict(dict(state.scaler))
        if self.average is not None and state.ema is not None:
            self.average.restore(state.ema)
        progress = state.progress
        self.window = Window(progress.get("window", ()))
        self.skipped, self.bad_in_a_row = progress.get("skipped", 0), progress.get("bad_in_a_row", 0)
        self.last_figures = dict(progress.get("metrics", {}))
        self.scores = policies.scores_of(progress, self.best, self.pairs.hash)
        self._look_for_an_end()

    def facts(self, decision: StartDecision) -> dict[str, object]:
        """What is decided at the start: where it starts, and on which pairs it is measured (of rank 0: the file).

        The scores are told again, and their absence too: those that were told last may be of steps that were lost.
        """
        facts: dict[str, object] = {"start": decision.to_dict(), "pairs_hash": self.pairs.hash, "notes": self.notes}
        facts["scores"] = self.scores
        if self.context.rank == 0:
            facts["pairs_file"] = self.pairs.to_bytes()
        if self.history:
            facts["verdict"] = policies.plain(self.verdict)
        return facts

    def loader(self, corpus: Corpus) -> TrainLoader:
        """Batches from this run's position in the stream."""
        data, num_frames, seed = self.config.data, self.config.model.num_frames, self.config.train.seed
        table, twins = corpus.split("train").table, self.loss.unit > 1
        return TrainLoader(
            corpus,
            "train",
            SampleStream(table, num_frames, data, seed=seed, twins=twins),
            self.batches.global_batch,
            self.batches.largest_micro,
            self.context.rank,
            self.context.world_size,
            start_position=self.samples,
            threads=data.loader_threads,
            prefetch=data.prefetch,
            unit=self.loss.unit,
            augmenter=Augmenter(data.augment, mel_columns(num_frames), seed) if data.augment.on else None,
            pin_memory=self.context.device.type == "cuda",
        )

    def take_step(self, batches: list[Batch]) -> None:
        """One optimizer step. Its figures stay on the device, and so does the decision to skip it."""
        config, plan = self.config, self.batches
        # the dropout masks of a step depend on nothing but (seed, step, rank), so there is no RNG state to lose
        torch.manual_seed(((config.train.seed << 44) ^ (self.step << 12) ^ self.context.rank) % (1 << 63))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, config.train.steps, config.optim)
        self.buffers.keep()
        total, sums = torch.zeros((), device=self.context.device), []
        for index, batch in enumerate(batches):
            with gradients_shared(self.wrapped, index == len(batches) - 1):
                vision, audio, labels = self._embed(batch)
                # data parallelism takes the mean over the workers, whose shares may differ by a unit
                loss = self.loss(vision, audio, labels) * (len(batch) * plan.world_size / plan.global_batch)
                self.scaler.scale(loss).backward()
            total += loss.detach()
            sums.append(step_sums(*self.loss.evidence(vision.detach(), audio.detach(), labels)))
        self.scaler.unscale_(self.optimizer)
        norm, bad = clip_and_check(self.model.parameters(), config.optim.grad_clip_norm)
        apply_gradients(self.optimizer, self.scaler, bad)
        self.buffers.undo(bad)
        if self.average is not None:
            self.average.update()
        self.step += 1
        self.samples += plan.global_batch
        self.window.add(step_row(total / plan.world_size, norm, bad, torch.stack(sums).sum(0)))

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of both towers and the labels, on the device."""
        device = self.context.device
        frames, mel = (part.to(device, non_blocking=True) for part in (batch.frames, batch.mel))
        if batch.changes is not None:
            changes = batch.changes.to(device)
            frames, mel = augment_frames(frames, changes), augment_mel(mel, changes)
        frames = self.model.pixels_to_input(frames)
        with autocast(self.config.train.precision, device):
            vision, audio = self.wrapped(frames, mel)
        return vision, audio, batch.labels.to(device, non_blocking=True)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last one, happens now."""
        return self.step % every == 0 or self.step == self.config.train.steps

    def figures(self) -> dict[str, float]:
        """Averages over all workers since the last log line. Waits for the device."""
        self._settle()
        rate = {"train/lr": self.optimizer.param_groups[0]["lr"], "train/skipped": float(self.skipped)}
        return {f"train/{name}": value for name, value in self.window.flush().items()} | rate

    def _settle(self) -> None:
        """Let the steps so far be known to all workers.

        Raises:
            RunError: too many in a row had to be skipped.
        """
        counts = bad_in_a_row(self.window.settle(), self.bad_in_a_row)
        if not counts:
            return
        self.bad_in_a_row = counts[-1]
        self.skipped += sum(count > 0 for count in counts)
        if max(counts) >= self.config.train.max_bad_steps:
            raise _diverged(max(counts), self.step)

    def validate(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Validate on all ranks, and remember the best with its scores and what this says about learning."""
        config, context = self.config, self.context
        share_buffers(self.model)
        with self.average.applied() if self.average is not None else nullcontext(), gathered(self.model):
            judged = evaluate_pairs(
                self.model,
                self.pairs,
                config.eval.batch,
                rank=context.rank,
                world_size=context.world_size,
                device=context.device,
                precision=config.train.precision,
                alive=context.alive,
            )
        metrics = {f"val/{name}": value for name, value in judged.metrics.items()}
        best = policies.better(self.best, config.checkpoint.metric, metrics, self.step)
        improved, self.best = best is not self.best, best
        if improved:
            self.scores = self.pairs.scores(self.step, judged.cosines)
        # a state that is resumed may have been validated at this very step: one step is one validation
        again = self.history.pop() if self.history and self.history[-1]["step"] == self.step else {}
        self.history.append({**again, "step": self.step, "samples": self.samples, **figures, **metrics})
        verdict = self.verdict
        self.history[-1] |= policies.state_figure(verdict)
        self._look_for_an_end()
        context.announce({"verdict": policies.plain(verdict)} | ({"scores": self.scores} if improved else {}))
        return metrics | policies.state_figure(verdict)

    @property
    def verdict(self) -> Verdict:
        """What the validations so far say about learning."""
        return judge(self.history)

    def _look_for_an_end(self) -> None:
        self.ended = policies.reason_to_end(self.history, self.best, self.config.train)

    def announce_end(self, steps: int) -> None:
        """Publish why the run leaves before its last step, if it does."""
        if self.step < steps:
            why = self.ended
            ended = {"state": "stopped early", "why": why} if why else {"state": "stopped", "why": "it was asked to"}
            self.context.announce({"ended": {**ended, "step": self.step}})

    def report(self, figures: Mapping[str, float]) -> None:
        """Publish figures with the step and sample they belong to, and the best so far."""
        best = {"best/value": self.best.value, "best/step": self.best.step} if self.best else {}
        self.context.report({"step": self.step, "samples": self.samples, **best, **figures})

    def save(self, figures: Mapping[str, float]) -> None:
        """Hand the whole state to the surroundings; `figures` are those of this very step, if there are any."""
        self._settle()
        tensors = self.snapshots.take(self.model, self.optimizer, self.average, self.context.rank)
        if tensors is None:
            return
        self.context.save(
            TrainState(
                model=self.config.model,
                step=self.step,
                samples=self.samples,
                scaler=self.scaler.state_dict() or None,
                best=self.best,
                history=[dict(row) for row in self.history],
                progress={
                    "metrics": dict(figures),
                    "window": self.window.rows,
                    "skipped": self.skipped,
                    "bad_in_a_row": self.bad_in_a_row,
                    "micro_batch": self.batches.largest_micro,
                    "scores": self.scores,
                    # `evaluate` says when a corpus is prepared otherwise than this one
                    "preparation": self.pairs.clips.corpus.preparation,
                },
                provenance=self.provenance,
                **tensors,
            )
        )


def _micro_batch(model: SyncNet, config: RunConfig, context: TrainContext, state: TrainState | None) -> int:
    """The setting; for `auto` what the run has used so far, or else what fits."""
    if config.train.micro_batch != "auto":
        return config.train.micro_batch
    known = state.progress.get("micro_batch") if state is not None else None
    return known or find_micro_batch(model, config, context.device, context.world_size)


def _diverged(count: int, step: int) -> RunError:
    return RunError(
        f"{count} steps in a row up to step {step} had a loss or gradient that is no finite number",
        hint="lower `optim.lr`, or add `optim.warmup_steps`; in fp16 try bf16; `orchestrator data show` tells whether "
        "the clips are sound. The checkpoints hold the last good weights: the skipped steps changed nothing",
    )
