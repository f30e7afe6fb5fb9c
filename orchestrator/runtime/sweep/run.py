"""`sweep`: many trials from one normalized state, judged on the same pairs, with the untouched file among them.

The starting states are normalized once, before Tune begins; trials see only the normalized ones. Promises: the same
call starts and continues a sweep, whatever was killed in between; a trial that fails is tried again from its own
checkpoint and then marked, and never ends the sweep; "no trial beats the pretrained file" is a possible answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from orchestrator.checkpoint.shelf import inside
from orchestrator.config.load import ConfigSource, as_config
from orchestrator.config.schema import RunConfig
from orchestrator.config.trial import INIT
from orchestrator.data.corpus import Corpus
from orchestrator.errors import ConfigError, RunError, SweepStopped
from orchestrator.runtime import cluster, logs
from orchestrator.runtime.home import at_home, copy_of
from orchestrator.runtime.identity import claim
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths, write_bytes
from orchestrator.runtime.patience import Patience
from orchestrator.runtime.progress import follow
from orchestrator.runtime.recorder import Recorder, RecordTarget
from orchestrator.runtime.stopping import StopFile, stoppable
from orchestrator.runtime.supervise import wait_for
from orchestrator.runtime.sweep.answer import conclude, log_progress, summarize
from orchestrator.runtime.sweep.budget import with_budget
from orchestrator.runtime.sweep.campaign import Campaign, spent_s, used_up
from orchestrator.runtime.sweep.champion import crown
from orchestrator.runtime.sweep.ledger import Ledger
from orchestrator.runtime.sweep.records import TrialRecords
from orchestrator.runtime.sweep.work import SweepWork
from orchestrator.runtime.train import open_corpus, recording, settled, starting_state, tracking_uri
from orchestrator.runtime.worker import Assignment, StartingState
from orchestrator.storage import Location, redacted
from orchestrator.sweeps.report import write_report
from orchestrator.sweeps.search import total_trials
from orchestrator.sweeps.summary import SweepSummary, TrialSummary
from orchestrator.training.evaluation import PairList
from orchestrator.training.freezing import check_freeze

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has to show."""

    summary: SweepSummary
    folder: Location
    report: Location
    """The picture: one HTML page."""
    run_id: str
    """MLflow's id of the parent run."""
    tracking_uri: str

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.summary.name

    @property
    def ranking(self) -> list[TrialSummary]:
        """Best first, the baselines among them."""
        return self.summary.ranking

    @property
    def baseline(self) -> TrialSummary | None:
        """The best of the untouched starting states; none for a sweep from scratch."""
        return next((trial for trial in self.ranking if trial.baseline), None)

    @property
    def best(self) -> TrialSummary:
        """The first of the ranking: possibly a baseline, when no trial beats it."""
        return self.ranking[0]


def sweep(config: ConfigSource, name: str, *, console: Console | None = None) -> SweepResult:
    """Start the sweep `name`, or continue it: finished trials are not repeated.

    Args:
        config: the configuration, checked or as a file or mapping; its `sweep` section must be given.
        name: the sweep's name, unique under `config.storage`.
        console: where progress is shown; none shows nothing.

    Raises:
        SweepStopped: it was asked to stop; it continues with the same call.
        OrchestratorError: bad input, or another run under this name.
    """
    return start(as_config(config), name, console or Console(quiet=True))


def start(config: RunConfig, name: str, console: Console, more: Mapping[str, float] | None = None) -> SweepResult:
    """Start or continue a sweep, with more of its budget."""
    if config.sweep is None:
        raise ConfigError(["`sweep` is required, but missing"], hint="see configs/sweep.yaml, or give --trials")

    def tell(text: str) -> None:
        logs.say(console, name, text)

    paths = RunPaths.of(config.storage, name)
    with at_home(paths, drives=True, tell=tell):
        return _start(config, paths, console, tell, more or {})


def _start(config: RunConfig, paths: RunPaths, console: Console, tell: Tell, more: Mapping[str, float]) -> SweepResult:
    corpus = open_corpus(config)
    work = _prepare(config, corpus, paths)
    with driving(paths):
        ledger = _open_ledger(config, corpus, work)
        config = with_budget(config, ledger, more)
        _announce(config, ledger, partial(logs.say, console, paths.name, event="start"))
        return _run(config, work, ledger, console, tell)


def _run(config: RunConfig, work: SweepWork, ledger: Ledger, console: Console, tell: Tell) -> SweepResult:
    paths, seconds = work.paths, spent_s(work.paths)
    stopped = used_up(config, work, ledger, seconds)
    left = is_left(config, ledger) and not stopped
    if left:
        cluster.connect(config.scale)
        cluster.require_cpus(config.scale)
    uri, experiment, steps = tracking_uri(config), config.tracking.experiment, config.train.steps
    target = RecordTarget(paths, uri, experiment, paths.name, steps, tags={"kind": "sweep"})
    with recording(target, Assignment({**work.config}, str(paths.where), None)) as record:
        recorder = record.wait()
        recorder.running(trials=all_trials(config, ledger), metric=config.checkpoint.metric)
        trials = TrialRecords(work, ledger, target, recorder.writer.run_id, tell)
        told = _Told(config, work, ledger, recorder, tell)
        try:
            if left:
                campaign = Campaign(config, work, ledger, trials, recorder, tell, show=told.show)
                with stoppable(StopFile(paths.folder), tell), follow(paths, console):
                    _drive(campaign)
                seconds, stopped = campaign.seconds, campaign.stopped
            trials.finish()
        except BaseException:
            trials.abandon()
            raise
        return told.finish(seconds, stopped)


def _drive(campaign: Campaign) -> None:
    try:
        wait_for(campaign.run, campaign.look)
    except BaseException:
        with suppress(OSError):  # a full disk may be why it ends
            campaign.ask()  # nobody listens any more to what may still run
        raise


class _Told:
    """What is told of a sweep besides its trials: the report and the answer, while it runs and at its end."""

    def __init__(self, config: RunConfig, work: SweepWork, ledger: Ledger, recorder: Recorder, tell: Tell) -> None:
        self._config, self._work, self._ledger, self._recorder, self._tell = config, work, ledger, recorder, tell
        self._shown = Patience(config.checkpoint.retry_s, "the report", tell)

    def show(self, seconds: float) -> None:
        """The report of a sweep that goes on, and how far it is in MLflow."""

        def shown() -> None:
            summary = self._summary(seconds)
            write_report(summary, self._work.paths.folder)
            log_progress(summary, self._recorder)

        self._shown.attempt(shown)

    def finish(self, seconds: float, stopped: str) -> SweepResult:
        """The answer, everywhere.

        Raises:
            SweepStopped: it was asked to stop.
            RunError: no trial has got anywhere.
        """
        paths, recorder = self._work.paths, self._recorder

        def concluded() -> tuple[SweepSummary, Path]:
            recorder.running(spent_s=seconds)
            summary = self._summary(seconds, stopped)
            return summary, conclude(summary, paths, recorder)

        patience = Patience(self._config.checkpoint.retry_s, "the answer", self._tell, meanwhile="")
        summary, report = patience.insist(concluded, between=recorder.reopen)
        if stopped == "asked":
            ended = [trial for trial in summary.trials if trial.state not in ("waiting", "stopped")]
            raise SweepStopped(len(ended), all_trials(self._config, self._ledger))
        if all(trial.best is None for trial in summary.trials):
            raise RunError(f"no trial of {paths.name} got as far as a validation: {summary.trials[0].why}")
        crown(summary, self._work, self._ledger, recorder, self._tell)
        patience.insist(lambda: recorder.end("finished"), between=recorder.reopen)
        return SweepResult(
            summary, paths.where, inside(paths.where, report.name), recorder.writer.run_id, recorder.target.uri
        )

    def _summary(self, seconds: float, stopped: str = "") -> SweepSummary:
        uri = self._recorder.target.uri
        return summarize(self._config, self._work, self._ledger, hours=seconds / 3600, uri=uri, stopped=stopped)


def is_left(config: RunConfig, ledger: Ledger) -> bool:
    """Whether there is anything to train or judge."""
    return bool(ledger.waiting()) or len(ledger.trials()) < total_trials(config)


def all_trials(config: RunConfig, ledger: Ledger) -> int:
    """Trials in all, the untouched starting states among them."""
    return total_trials(config) + len(ledger.entries) - len(ledger.trials())


def inits_of(config: RunConfig) -> list[str | None]:
    """Every starting state of a sweep, as a person gave it; none is from scratch."""
    assert config.sweep is not None
    dimension = config.sweep.space.get(INIT)
    return list(dict.fromkeys(dimension.listed if dimension else (config.start.checkpoint,)))


def _prepare(config: RunConfig, corpus: Corpus, paths: RunPaths) -> SweepWork:
    """Everything that can be settled before anything starts."""
    check_freeze(config)
    states: dict[str, StartingState] = {}
    for init in inits_of(config):
        if init is not None:
            states[init] = starting_state(init, config, paths)
    known = {redacted(init or ""): states[init].state_hash if init else None for init in inits_of(config)}
    claim(paths, config, {"corpus": corpus.fingerprint, "starting states": known})
    pairs = inside(paths.where, paths.pairs.relative_to(paths.folder).as_posix())
    return SweepWork(settled(config, corpus, paths), str(paths.where), states, str(pairs))


def _open_ledger(config: RunConfig, corpus: Corpus, work: SweepWork) -> Ledger:
    """The sweep's ledger, with the untouched starting states first, and the list of pairs that all are judged on."""
    pairs = PairList.of(corpus, "val", config.model.num_frames, config.eval.pairs, config.data)
    if not work.paths.pairs.exists():
        write_bytes(work.paths.pairs, pairs.to_bytes())
    copy_of(work.paths).flush()
    ledger = Ledger(work.paths.ledger, keep=copy_of(work.paths).flush)
    known = [entry.init(config.start.checkpoint) for entry in ledger.entries.values() if entry.baseline]
    for init in inits_of(config):
        if init is not None and init not in known:
            ledger.draw({INIT: init}, baseline=True)
    return ledger


def _announce(config: RunConfig, ledger: Ledger, tell: Tell) -> None:
    """Say in one line what is about to happen."""
    total, drawn = total_trials(config), ledger.trials()
    if not is_left(config, ledger):
        tell(f"all {total} trials have ended already")
    elif drawn:
        ended = len(drawn) - sum(not entry.baseline for entry in ledger.waiting())
        tell(f"continues: {ended} of {total} trials have ended")
    else:
        inits = ", ".join(redacted(init) if init else "scratch" for init in inits_of(config))
        tell(f"{total} trials from {inits}")
