"""Rounds of population-based training: the worst become copies of the best, and all go on.

A copy is a checkpoint: the donor's folder of the round's last step becomes the copy's own before anybody goes on, so
that a copy continues like any other trial. Contract: what becomes whose copy is in the ledger first; copies that a
crash left undone are done at the next start, where the donors still stand at the end of the round.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint import shelf
from orchestrator.checkpoint.partials import disk_errors
from orchestrator.config.schema import RunConfig
from orchestrator.runtime.home import copy_of
from orchestrator.runtime.journal import read_journal
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.sweep.ledger import Entry, Ledger, TrialState
from orchestrator.runtime.sweep.trial import STEP
from orchestrator.sweeps.population import Member, next_round
from orchestrator.training.metrics import score
from orchestrator.training.retention import folders_in, step_of

_ROUNDS = 8


def round_ends(config: RunConfig) -> list[int]:
    """The last step of every round."""
    sweep, every, steps = config.sweep, config.eval.every, config.train.steps
    assert sweep is not None
    interval = sweep.interval_steps or max(every, round(steps / _ROUNDS / every) * every)
    return [*range(interval, steps, interval), steps]


def end_round(config: RunConfig, paths: RunPaths, ledger: Ledger, step: int) -> list[str]:
    """Decide who becomes whose copy at the end of a round, and write it down; what a person should know of it.

    Args:
        config: of the sweep.
        paths: the sweep's places.
        ledger: the sweep's.
        step: the round's last one.
    """
    metric, members = config.checkpoint.metric, []
    for entry in ledger.trials():
        value = _value(paths.trial(entry.trial).journal, step, metric)
        if entry.state is TrialState.WAITING and value is not None:
            members.append(Member(entry.trial, score(metric, value), entry.point))
    copies = next_round(config, members, ledger.rounds + 1)
    ledger.end_round(copies)
    return [f"trial {copy.trial} goes on as a copy of {copy.donor} from step {step}" for copy in copies]


def make_copies(paths: RunPaths, ledger: Ledger, step: int) -> None:
    """Give the copies of the latest round their checkpoints, where they have not got them yet.

    Raises:
        CheckpointError: the storage refuses it.
    """
    for entry in ledger.trials():
        if entry.copies and entry.copies[-1][0] == ledger.rounds:
            _make_copy(paths, entry, step)


def _make_copy(paths: RunPaths, entry: Entry, step: int) -> None:
    number, donor = entry.copies[-1]
    own = paths.trial(entry.trial)
    done = own.folder / f"copied-{number}"
    if done.exists():
        return
    for old in folders_in(own.where):
        if step_of(old) >= step:
            shelf.remove(old)
    shelf.duplicate(paths.trial(donor).checkpoint(step), own.checkpoint(step))
    with disk_errors(own.folder):
        own.folder.mkdir(parents=True, exist_ok=True)
        done.touch()
    copy_of(paths).flush()


def _value(journal: Path, step: int, metric: str) -> float | None:
    """What a trial's validation of a step gave."""
    rows = (row.get("figures", {}) for row, _ in read_journal(journal, 0))
    found = [figures[metric] for figures in rows if figures.get(STEP) == step and metric in figures]
    return float(found[-1]) if found else None
