"""The figures between two log lines, kept on the device until they are needed.

Promises: nothing here waits for the device before a log line or a checkpoint; the averages are exactly rounded sums, so
that they depend neither on the number of workers nor on when a part of them was put aside; a checkpoint may therefore
come after any step, and the next log line of a run that goes on from it is the same as if it had never stopped.
"""

# S steps, W workers

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orchestrator.data.loader import TrainLoader
from orchestrator.training.chance import sums_to_figures
from orchestrator.training.distributed import stack_over_ranks

_LOSS, _NORM, _BAD, _SUMS = 0, 1, 2, 3

Row = list[float]
"""One step over all workers: loss, gradient norm, whether it was skipped, and the sums of `chance.step_sums`."""


def step_row(loss: Tensor, norm: Tensor, bad: Tensor, sums: Tensor) -> Tensor:
    """One step of one worker, (3 + 7,) float32 on the device.

    Args:
        loss: this worker's part of the loss: the parts of all workers add up to the mean over the global batch.
        norm: the gradient norm, the same on all workers.
        bad: 1 where the step was skipped, the same on all workers.
        sums: (7,) of this worker's pairs.
    """
    # a skipped step is in no average; its NaN must not reach a sum or a JSON file either
    return torch.cat([torch.stack([loss, norm, bad]).float(), sums]).nan_to_num(0.0, 0.0, 0.0)


class Window:
    """Steps since the last log line.

    Args:
        rows: those that a checkpoint had put aside.
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self._known = [list(row) for row in rows]
        self._pending: list[Tensor] = []

    def add(self, row: Tensor) -> None:
        """Take in a step; see `step_row`."""
        self._pending.append(row)

    def settle(self) -> list[Row]:
        """The steps taken in since the last call, over all workers: every worker calls this. Waits for the device."""
        if not self._pending:
            return []
        stacked = stack_over_ranks(torch.stack(self._pending)).tolist()
        self._pending = []
        settled = [_over_workers([worker[step] for worker in stacked]) for step in range(len(stacked[0]))]
        self._known += settled
        return settled

    @property
    def rows(self) -> list[Row]:
        """Every settled step since the last log line, as plain numbers for a checkpoint."""
        return [list(row) for row in self._known]

    def flush(self) -> dict[str, float]:
        """The averages over the settled steps that were not skipped, and a new start."""
        good = [row for row in self._known if not row[_BAD]]
        self._known = []
        if not good:
            return {}
        sums = [math.fsum(column) for column in list(zip(*good, strict=True))[_SUMS:]]
        return {
            "loss": math.fsum(row[_LOSS] for row in good) / len(good),
            "grad_norm": math.fsum(row[_NORM] for row in good) / len(good),
            **sums_to_figures(sums),
        }


def bad_in_a_row(rows: Sequence[Row], before: int) -> list[int]:
    """After each step, how many in a row were skipped up to it; `before` is that number before the first."""
    counts = []
    for row in rows:
        before = before + 1 if row[_BAD] else 0
        counts.append(before)
    return counts


class Stopwatch:
    """Throughput and waiting between two log lines: figures that no checkpoint can keep.

    Args:
        clock: monotonic seconds.
        batches: knows how long it was waited for.
    """

    def __init__(self, clock: Callable[[], float], batches: TrainLoader) -> None:
        self._clock, self._batches = clock, batches
        self.restart()

    def restart(self) -> None:
        """Start anew: what happened since the last line was not training."""
        self._since, self._waited, self._steps = self._clock(), self._batches.waited_s, 0
        self._ready, self._taken = self._batches.ready, self._batches.taken

    def step(self) -> None:
        """A step was taken."""
        self._steps += 1

    def figures(self, global_batch: int) -> dict[str, float]:
        """Samples per second over all workers, the share of time waited for data, and how often data was there."""
        elapsed = max(self._clock() - self._since, 1e-9)
        batches = self._batches
        return {
            "train/samples_per_s": self._steps * global_batch / elapsed,
            "train/data_wait": (batches.waited_s - self._waited) / elapsed,
            "train/data_ready": (batches.ready - self._ready) / max(batches.taken - self._taken, 1),
        }


def _over_workers(rows: Sequence[Row]) -> Row:
    """One step's rows of all workers as one: parts and sums are added, what all have in common is taken once."""
    added = [math.fsum(column) for column in zip(*rows, strict=True)]
    return [added[_LOSS], rows[0][_NORM], rows[0][_BAD], *added[_SUMS:]]
