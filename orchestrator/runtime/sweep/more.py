"""More of a sweep: `extend` gives it a larger budget, `fork_config` goes on from its best trial as a run of its own."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from orchestrator.config.load import apply_settings, load_config
from orchestrator.config.schema import RunConfig
from orchestrator.config.trial import trial_config
from orchestrator.errors import RunError
from orchestrator.runtime.home import at_home
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.sweep.answer import best_trial
from orchestrator.runtime.sweep.ledger import Ledger
from orchestrator.runtime.sweep.run import SweepResult, start
from orchestrator.storage import redacted
from orchestrator.training.retention import best_of, checkpoints_in


def extend(
    name: str,
    *,
    trials: int = 0,
    hours: float = 0,
    samples: int = 0,
    storage: str = "runs",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> SweepResult:
    """Give a sweep a larger budget, and continue it; with nothing more it is only continued.

    Args:
        name: of the sweep.
        trials: how many more; with grids beside a search, draws more for each of their points.
        hours: how many more, where it has such a limit.
        samples: how many more, where it has such a limit.
        storage: where the sweep is.
        overrides: `a.b=c` strings, for settings that may differ between two starts.
        console: where progress is shown; none shows nothing.

    Raises:
        OrchestratorError: as `sweep`; there is no such sweep, or it cannot get larger.
    """
    wanted: dict[str, float] = {"trials": trials, "hours": hours, "samples": samples}
    more = {limit: value for limit, value in wanted.items() if value}
    return start(stored_config(name, storage, overrides), name, console or Console(quiet=True), more)


def fork_config(
    name: str, steps: int, *, trial: str | None = None, storage: str = "runs", overrides: Sequence[str] = ()
) -> RunConfig:
    """The configuration of a run that goes on from the best trial of a sweep for longer.

    Args:
        name: of the sweep.
        steps: optimizer steps in all, those of the trial included.
        trial: goes on from this one instead of the best.
        storage: where the sweep is.
        overrides: `a.b=c` strings; `start.verb=resume` takes the optimizer's moments along.

    Raises:
        OrchestratorError: there is no such sweep or trial, or no trial beats the untouched starting state.
    """
    paths = RunPaths.of(storage, name)
    with at_home(paths):
        return _fork_config(paths, steps, trial, storage, overrides)


def _fork_config(paths: RunPaths, steps: int, trial: str | None, storage: str, overrides: Sequence[str]) -> RunConfig:
    name, config = paths.name, _stored(paths, storage)
    ledger, which = Ledger(paths.ledger), f"`orchestrator status {name}` lists its trials"
    chosen = trial or best_trial(config, paths, ledger)
    entry = ledger.entries.get(chosen or "")
    saved = checkpoints_in(paths.trial(chosen or "").where)
    if entry is None or not saved:
        raise RunError(f"the sweep {name!r} has no trial {chosen!r} with a checkpoint", hint=which)
    if entry.baseline and trial is None:
        raise RunError(f"no trial of {name!r} beats its starting state", hint=f"give --trial for one anyway; {which}")
    best = best_of(saved, config.checkpoint.metric)
    longer = {"start.checkpoint": str(best), "start.verb": "fork", "train.steps": steps}
    forked = apply_settings(trial_config(config, entry.point), longer)
    return load_config(forked.model_dump(mode="json"), overrides)


def stored_config(name: str, storage: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration with which a sweep was started first.

    Raises:
        OrchestratorError: there is no such sweep, or it is a run.
    """
    paths = RunPaths.of(storage, name)
    with at_home(paths):
        return _stored(paths, storage, overrides)


def _stored(paths: RunPaths, storage: str, overrides: Sequence[str] = ()) -> RunConfig:
    known = read_json(paths.identity)
    config = None if known is None else load_config(known["config"], [*overrides, f"storage={storage}"])
    if config is None or config.sweep is None:
        raise RunError(
            f"there is no sweep {paths.name!r} in {redacted(storage)}",
            hint="`orchestrator status` lists all; --storage names another",
        )
    return config
