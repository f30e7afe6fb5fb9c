"""The champion of a sweep goes into the model registry: the untouched file too, when no trial beats it.

Only sweeps register: a run's best weights are an artifact of its own anyway, and a model of which there is nothing to
choose from would only bury the others. Whatever the registry refuses is a note, and never the end of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.checkpoint import export, read_manifest
from orchestrator.errors import CheckpointError, RegistryError
from orchestrator.runtime.patience import REFUSALS, Patience
from orchestrator.runtime.recorder import Recorder
from orchestrator.runtime.sweep.ledger import Ledger
from orchestrator.runtime.sweep.work import SweepWork
from orchestrator.sweeps.summary import Interval, SweepSummary, TrialSummary
from orchestrator.tracking import Champion, Registered, model_name, register_champion
from orchestrator.tracking.registry import ALIAS


def crown(
    summary: SweepSummary, work: SweepWork, ledger: Ledger, recorder: Recorder, tell: Callable[[str], None]
) -> Registered | None:
    """Register the best row's weights; none where that is not possible, which is noted.

    Args:
        summary: the sweep as it stands at its end.
        work: what its trials have in common.
        ledger: its trials.
        recorder: of the sweep.
        tell: says a line to a person.
    """
    patience = Patience(work.settings({}).checkpoint.retry_s, "the registry", tell, meanwhile="")
    try:
        registered = patience.insist(lambda: _register(summary, work, ledger, recorder))
    except (*REFUSALS, RegistryError, CheckpointError) as error:
        note = f"the best weights are not in the model registry: {str(error).splitlines()[0]}"
        tell(note)
        recorder.note(note)
        return None
    _say(registered, summary, tell)
    return registered


def _register(summary: SweepSummary, work: SweepWork, ledger: Ledger, recorder: Recorder) -> Registered:
    best, target = summary.ranking[0], recorder.target
    if not best.checkpoint or not best.run_id:
        raise RegistryError(f"trial {best.trial} has left no checkpoint")
    state = work.state_of(ledger.entries[best.trial].point)
    champion = Champion(
        run_id=best.run_id,
        state=read_manifest(best.checkpoint).content_hash,
        description=_description(summary, best),
        tags=_tags(summary, best) | ({"start.state": state.state_hash} if state else {}),
    )

    def write(file: Path) -> None:
        export(best.checkpoint, "safetensors", file)

    name = model_name(target.experiment, summary.name)
    return register_champion(target.uri, name, champion, write, _whose(summary, target.experiment))


def _whose(summary: SweepSummary, experiment: str) -> dict[str, str]:
    return {"sweep": summary.name, "experiment": experiment, "metric": summary.metric}


def _tags(summary: SweepSummary, best: TrialSummary) -> dict[str, Any]:
    kind = "baseline" if best.baseline else "trial"
    known = {"sweep": summary.name, "trial": best.trial, "kind": kind, "pairs_hash": summary.pairs_hash}
    figures: dict[str, Any] = {"step": best.best_step, "samples": best.samples}
    figures |= {"metric": summary.metric, **_interval("value", best.best), **_interval("gain", best.gain)}
    return {**known, **figures, **{f"swept.{name}": value for name, value in best.settings.items()}}


def _interval(name: str, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {name: interval.value, f"{name}.low": interval.low, f"{name}.high": interval.high}


def _description(summary: SweepSummary, best: TrialSummary) -> str:
    assert best.best is not None
    what = "the untouched starting state" if best.baseline else f"trial {best.trial} at step {best.best_step}"
    value = f"{summary.metric} {best.best.value:.4f} [{best.best.low:.4f}, {best.best.high:.4f}]"
    lines = [summary.answer + ".", "", f"- {what} of the sweep {summary.name}: {value}"]
    if best.gain is not None:
        lines.append(f"- gain {best.gain.value:+.4f} [{best.gain.low:+.4f}, {best.gain.high:+.4f}], at 95%")
    lines.append(f"- {summary.pairs:,} pairs of {summary.clips:,} clips, {len(summary.trials)} rows")
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in best.settings.items())])


def _say(registered: Registered, summary: SweepSummary, tell: Callable[[str], None]) -> None:
    whose = "the untouched file's" if summary.ranking[0].baseline else f"trial {summary.champion}'s"
    tell(f"{whose} weights are registered as models:/{registered.name}@{ALIAS}, version {registered.version}")
