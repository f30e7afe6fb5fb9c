"""What a sweep has found so far: from its ledger and its trials' folders to a `SweepSummary`, and into MLflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus.scores import ScoredPairs, read_scores
from orchestrator.runtime.journal import read_journal
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.recorder import Recorder
from orchestrator.runtime.sweep.ledger import Entry, Ledger, TrialState
from orchestrator.runtime.sweep.trial import SAMPLES, STEP, validations
from orchestrator.runtime.sweep.work import SweepWork
from orchestrator.storage import redacted
from orchestrator.sweeps.answer import answer_of, champion_of, corrected_confidence
from orchestrator.sweeps.importance import importance
from orchestrator.sweeps.report import figures, write_report
from orchestrator.sweeps.summary import Interval, Point, SweepSummary, TrialSummary
from orchestrator.tracking import open_hint
from orchestrator.training.comparison import stored_gain, value_interval
from orchestrator.training.intervals import CONFIDENCE
from orchestrator.training.retention import best_of, checkpoints_in

_ENDS = ("finished", "stopped early", "failed")
_OPTIMISTIC = (
    "the best of many trials on the same pairs looks better than it is: judge the champion once more on clips that no "
    "trial was chosen by, with orchestrator evaluate"
)


def summarize(
    config: RunConfig, work: SweepWork, ledger: Ledger, *, hours: float, uri: str, stopped: str = ""
) -> SweepSummary:
    """The sweep as it stands.

    Args:
        config: its configuration.
        work: what its trials have in common.
        ledger: its trials.
        hours: wall time so far.
        uri: the tracking store.
        stopped: why it was asked to stop.
    """
    assert config.sweep is not None
    metric, facts = config.checkpoint.metric, _Facts(config, work.paths, ledger)
    trials = [facts.trial(entry) for entry in list(ledger.entries.values())]
    champion, lead, pairs = champion_of(metric, trials), facts.lead(trials), facts.pairs()
    return SweepSummary(
        name=work.paths.name,
        metric=metric,
        answer=answer_of(metric, trials, lead),
        trials=tuple(trials),
        champion=None if champion is None else champion.trial,
        lead=lead,
        pairs=len(pairs.labels) if pairs else 0,
        pairs_hash=pairs.pairs_hash if pairs else "",
        clips=len(set(pairs.clips)) if pairs else 0,
        search=config.sweep.search,
        scheduler=config.sweep.scheduler,
        importance=importance(metric, trials),
        notes=(_OPTIMISTIC, *([f"the sweep was stopped: {stopped}"] if stopped not in ("", "asked") else [])),
        hours=hours,
        open_mlflow=open_hint(uri),
    )


def best_trial(config: RunConfig, paths: RunPaths, ledger: Ledger) -> str | None:
    """The id of the best trial, a baseline where nothing beats it; none before anything is known."""
    facts = _Facts(config, paths, ledger)
    best = champion_of(config.checkpoint.metric, [facts.trial(entry) for entry in ledger.entries.values()])
    return None if best is None else best.trial


def log_progress(summary: SweepSummary, recorder: Recorder) -> None:
    """How far the sweep is, as metrics of its run over the samples that all trials have seen."""
    counts = Counter(trial.state for trial in summary.trials if not trial.baseline)
    ended = {f"trials/{state.replace(' ', '_')}": float(counts[state]) for state in _ENDS}
    best = summary.ranking[0].best if summary.champion else None
    known = {"best/value": best.value} if best is not None else {}
    seconds = {"trials/seconds": sum(trial.seconds for trial in summary.trials)}
    recorder.writer.log_standing({**ended, **known, **seconds}, sum(trial.samples for trial in summary.trials))


def conclude(summary: SweepSummary, paths: RunPaths, recorder: Recorder) -> Path:
    """The report, and the same in MLflow; where the report is."""
    report = write_report(summary, paths.folder)
    log_progress(summary, recorder)
    writer = recorder.writer
    writer.log_file(report)
    for name, figure in figures(summary).items():
        writer.log_figure(figure, f"charts/{name}")
    writer.log_dict({"metric": summary.metric, "answer": summary.answer, "ranking": _ranking(summary)}, "ranking.json")
    writer.set_tags({"answer": summary.answer, **({"champion": summary.champion} if summary.champion else {})})
    return report


def seconds_of(journal: Path) -> float:
    """How long a trial trained, all its starts together."""
    total, last = 0.0, None
    for row, _ in read_journal(journal, 0):
        if last is not None and "start" not in row.get("facts", {}):
            total += row["at"] - last
        last = row["at"]
    return total


class _Facts:
    """What the folders of a sweep's trials tell."""

    def __init__(self, config: RunConfig, paths: RunPaths, ledger: Ledger) -> None:
        self._metric, self._default, self._paths = config.checkpoint.metric, config.start.checkpoint, paths
        entries = list(ledger.entries.values())
        self._scored = {entry.trial: self._scores(entry.trial) for entry in entries}
        self._baselines = {entry.init(self._default): entry.trial for entry in entries if entry.baseline}

    def pairs(self) -> ScoredPairs | None:
        """The pairs that all are judged on; none before anything was."""
        return next((scored for scored in self._scored.values() if scored is not None), None)

    def trial(self, entry: Entry) -> TrialSummary:
        """A trial as it stands."""
        paths = self._paths.trial(entry.trial)
        status, rows = read_json(paths.status) or {}, validations(paths.journal)
        last, state = rows[-1] if rows else {}, _state(entry, status)
        # one that runs removes checkpoints while somebody looks at them
        saved = checkpoints_in(paths.where) if state != "running" else []
        return TrialSummary(
            trial=entry.trial,
            baseline=entry.baseline,
            init=redacted(entry.init(self._default) or ""),
            settings={} if entry.baseline else dict(entry.point),
            state=state,
            why=entry.why,
            best=self._best(entry.trial),
            best_step=int(last.get("best/step", 0)),
            gain=None if entry.baseline else self._gain(entry.trial, self._baseline_of(entry)),
            curve=tuple(Point(int(row[STEP]), int(row[SAMPLES]), row[self._metric]) for row in rows),
            samples=int(last[SAMPLES] - rows[0][SAMPLES]) if rows else 0,
            seconds=seconds_of(paths.journal),
            learning=str((status.get("verdict") or {}).get("state", "")),
            checkpoint=str(best_of(saved, self._metric)) if saved else "",
            run_id=str(status.get("run_id") or ""),
        )

    def lead(self, trials: list[TrialSummary]) -> Interval | None:
        """What the best trial has over the best starting state, sure enough for the best of so many."""
        best = champion_of(self._metric, [trial for trial in trials if not trial.baseline])
        start = champion_of(self._metric, [trial for trial in trials if trial.baseline])
        known = sum(not trial.baseline and trial.best is not None for trial in trials)
        if best is None or start is None:
            return None
        return self._gain(best.trial, start.trial, corrected_confidence(known))

    def _scores(self, trial: str) -> ScoredPairs | None:
        path = self._paths.trial(trial).scores
        return read_scores(path) if path.exists() else None

    def _best(self, trial: str) -> Interval | None:
        scored = self._scored[trial]
        if scored is None:
            return None
        return Interval(*value_interval(self._metric, scored.cosines, scored.labels, scored.clips))

    def _baseline_of(self, entry: Entry) -> str | None:
        """The starting state of a trial; for one from scratch the first there is."""
        return self._baselines.get(entry.init(self._default)) or next(iter(self._baselines.values()), None)

    def _gain(self, trial: str, over: str | None, confidence: float = CONFIDENCE) -> Interval | None:
        if over is None or self._scored[trial] is None or self._scored[over] is None:
            return None
        files = self._paths.trial(over).scores, self._paths.trial(trial).scores
        return Interval(*stored_gain(*files, self._metric, confidence))


def _state(entry: Entry, status: dict[str, Any]) -> str:
    if entry.state is not TrialState.WAITING:
        return str(entry.state)
    recorded = str(status.get("state", ""))
    return recorded if recorded in ("running", "stopped") else str(entry.state)


def _ranking(summary: SweepSummary) -> list[dict[str, Any]]:
    return [
        {
            "trial": row.trial,
            "baseline": row.baseline,
            "settings": dict(row.settings),
            "state": row.state,
            "step": row.best_step,
            summary.metric: None if row.best is None else row.best.__dict__,
            "gain": None if row.gain is None else row.gain.__dict__,
        }
        for row in summary.ranking
    ]
