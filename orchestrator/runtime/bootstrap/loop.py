"""`bootstrap`: the rounds of training and auditing, as one job that continues where it was stopped.

Round N trains a run NAME-round-N on the corpus as it stands, audits the corpus with its best checkpoint and writes a
new version of the manifest. When hardly a clip changed, that run is the result; when all rounds are done, a last run
NAME-final trains on what the last audit wrote. Every run starts from the same state (that of the configuration): a
network that goes on from its predecessor starts from having learned the wrong offsets.

Promises: the same command continues, whatever was stopped; no audit is done twice, and a manifest that somebody else
revised meanwhile is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from rich.console import Console

from orchestrator.config.load import ConfigSource, as_config
from orchestrator.config.media import FPS
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.revisions import Revision
from orchestrator.errors import ConfigError, RunStopped
from orchestrator.evaluation.audit import REJECTED_BY_DEFAULT, Audit, AuditPlan, AuditStatus, plan_audit, revisions_of
from orchestrator.evaluation.audit.results import CHANGED_FRAMES
from orchestrator.runtime import logs
from orchestrator.runtime.audit import Ask, audit_metrics, audit_page, look, reason_of, record_audit
from orchestrator.runtime.bootstrap.ledger import Books, Ledger, Round
from orchestrator.runtime.evaluate import evaluate
from orchestrator.runtime.home import at_home
from orchestrator.runtime.identity import claim
from orchestrator.runtime.job import describe
from orchestrator.runtime.lease import driving
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.train import TrainResult, open_corpus, tracking_uri, train
from orchestrator.storage import redacted
from orchestrator.tracking import RunWriter, close_stale

_FITTING = (AuditStatus.IN_SYNC, AuditStatus.SHIFTED, AuditStatus.PARTLY, AuditStatus.AT_EDGE)


@dataclass(frozen=True)
class BootstrapOptions:
    """How to go about it."""

    rounds: int = 3
    """Rounds of training and auditing at most."""
    estimate_first: bool = False
    """Audit without a network before the first training: for a corpus too broken to learn anything from."""
    settled: float = 0.01
    """The loop ends when less than this share of the clips changed."""
    warm: bool = False
    """Start every run from the best weights of the one before: sooner there, but with its mistakes."""
    reject: Collection[AuditStatus] = REJECTED_BY_DEFAULT
    """Clips with one of these statuses are rejected."""
    holdout: str | None = None
    """A prepared corpus that is known to be in sync: every run's best checkpoint is judged on its held-out clips."""
    ask: Ask = field(default_factory=Ask)
    """How the corpus is looked at."""


@dataclass(frozen=True)
class BootstrapResult:
    """What a finished bootstrap has to show."""

    name: str
    rounds: tuple[Round, ...]
    """The rounds, with the figures of each."""
    ended: str
    """`settled`, `rounds` or `blind`."""
    run: str
    """The run that counts."""
    checkpoint: str
    """Its best checkpoint."""
    figures: dict[str, float]
    """What its training measured."""
    version: int
    """The version of the manifest."""
    first_version: int
    """The version that `data undo --to` takes everything back to."""
    run_id: str
    """MLflow's id of the parent run."""
    tracking_uri: str


def bootstrap(
    config: ConfigSource, name: str, options: BootstrapOptions | None = None, *, console: Console | None = None
) -> BootstrapResult:
    """Start the bootstrap `name`, or continue it.

    Args:
        config: the configuration of every training run; `data.path` is the corpus whose manifest is corrected.
        name: unique under `config.storage`; runs are called `name-round-1` and so on.
        options: how to go about it.
        console: where progress is shown; none shows nothing.

    Raises:
        RunStopped: it was asked to stop; it continues with the same call.
        OrchestratorError: bad input, another bootstrap under this name, a manifest that was revised by somebody else,
            or a failure of a round.
    """
    config, options = as_config(config), options or BootstrapOptions()
    _check(options)
    paths, console = RunPaths.of(config.storage, name), console or Console(quiet=True)

    def tell(text: str) -> None:
        logs.say(console, name, text)

    describe(kind="bootstrap", run=name, folder=redacted(paths.where))
    with at_home(paths, drives=True, tell=tell) as copy, driving(paths):
        corpus = open_corpus(config)
        claim(paths, config, {"corpus": _clips_hash(corpus), "bootstrap": _meaning(options)})
        books, uri = Books(paths, copy.flush), tracking_uri(config)
        close_stale(uri, config.tracking.experiment)
        tags = {"kind": "bootstrap", "corpus": corpus.name}
        with RunWriter.start(uri, config.tracking.experiment, name, name, tags=tags) as writer:
            writer.log_params({**config.model_dump(mode="json"), "bootstrap": _meaning(options)})
            try:
                return _Loop(config, name, options, console, books, writer, uri, tell).run()
            except RunStopped:
                writer.finish("KILLED")
                raise


@dataclass(frozen=True)
class _Loop:
    """The steps, each of which is noted before the next begins."""

    config: RunConfig
    name: str
    options: BootstrapOptions
    console: Console
    books: Books
    writer: RunWriter
    uri: str
    tell: Callable[[str], None]

    def run(self) -> BootstrapResult:
        corpus = open_corpus(self.config)
        ledger = self.books.write(self.books.read(corpus.folder))
        number = 0 if self.options.estimate_first else 1
        while not ledger.ended and number <= self.options.rounds:
            ledger = self._audited(self._trained(ledger, number), number)
            number += 1
        if not ledger.ended:
            ledger = self.books.write(replace(ledger, ended="rounds"))
        if ledger.ended == "rounds":
            ledger = self._trained(ledger, self._final)
        self._record(ledger)
        return self._result(ledger)

    @property
    def _final(self) -> int:
        return self.options.rounds + 1

    def _trained(self, ledger: Ledger, number: int) -> Ledger:
        """Train a round, unless it is trained."""
        if number == 0 or ledger.round(number).trained is not None:
            return ledger
        self.books.require(ledger, open_corpus(self.config).folder)
        run = f"{self.name}-final" if number == self._final else f"{self.name}-round-{number}"
        self.tell(f"round {number}: trains {run} on version {ledger.version} of the manifest")
        tags = {"bootstrap": self.name, "round": str(number)}
        result = train(
            self._settings(ledger, number), run, console=self.console, parent_run_id=self.writer.run_id, tags=tags
        )
        known = Round(number, run, str(result.best_checkpoint), self._measured(result))
        return self._noted(ledger.with_round(known))

    def _settings(self, ledger: Ledger, number: int) -> RunConfig:
        before = ledger.round(number - 1).checkpoint
        if not (self.options.warm and before):
            return self.config
        start = self.config.start.model_copy(update={"checkpoint": before, "verb": "init"})
        return self.config.model_copy(update={"start": start})

    def _measured(self, result: TrainResult) -> dict[str, float]:
        found = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
        if self.options.holdout is not None:
            told = evaluate(result.best_checkpoint, self.options.holdout, offsets=False, workers=0).metrics
            found |= {f"holdout/{name}": value for name, value in told.items()}
        return {**found, f"best/{self.config.checkpoint.metric.removeprefix('val/')}": result.best}

    def _audited(self, ledger: Ledger, number: int) -> Ledger:
        """Audit a round and write what it found, as far as that is not done."""
        if ledger.round(number).audited is None:
            ledger = self._look(ledger, number)
        known = ledger.round(number)
        if ledger.ended or known.version is not None:
            return ledger
        folder = Corpus.open(self._data).folder
        version = self.books.apply(ledger, number, folder)
        settled = number > 0 and known.changed < self.options.settled * (known.audited or {})["audit/clips"]
        done = replace(ledger.with_round(replace(known, version=version)), version=version)
        self.tell(f"round {number}: {known.changed} clips changed; the manifest is at version {version}")
        return self._noted(replace(done, ended="settled") if settled else done)

    def _look(self, ledger: Ledger, number: int) -> Ledger:
        corpus, known = Corpus.open(self._data), ledger.round(number)
        self.books.require(ledger, corpus.folder)
        plan = plan_audit(corpus)
        found = look(plan, known.checkpoint or None, self.options.ask, self.console)
        revisions = revisions_of(found, plan.by_id, self.options.reject)
        self._record_audit(plan, found, number)
        self.books.keep(number, revisions, f"round {number} of {self.name}: {reason_of(found)}")
        changed = count_changed(plan, revisions)
        known = replace(known, audited=audit_metrics(found), changed=changed, base=ledger.version)
        blind = _is_blind(found)
        if blind:
            self.tell(f"round {number}: hardly a clip fits anywhere, so nothing is written; see docs/audit.md")
        return self._noted(replace(ledger.with_round(known), ended="blind" if blind else ""))

    def _record_audit(self, plan: AuditPlan, found: Audit, number: int) -> None:
        name, experiment = f"{self.name}-audit-{number}", self.config.tracking.experiment
        tags = {"kind": "audit", "bootstrap": self.name, "round": str(number)}
        with RunWriter.start(self.uri, experiment, name, f"audit/{name}", self.writer.run_id, tags) as writer:
            record_audit(writer, found, self.options.ask, audit_page(plan, found))

    def _noted(self, ledger: Ledger) -> Ledger:
        ledger = self.books.write(ledger)
        self._record(ledger)
        return ledger

    def _record(self, ledger: Ledger) -> None:
        """The figures of the rounds that are complete, each at the step of its number."""
        for known in sorted(ledger.rounds, key=lambda each: each.number):
            self.writer.log_metrics(known.trained or {}, known.number)
            if known.audited is not None:
                share = known.changed / max(known.audited["audit/clips"], 1)
                told = {**known.audited, "audit/changed": known.changed, "audit/changed_share": share}
                self.writer.log_metrics(told, known.number)
        self.writer.set_tags({"bootstrap.ended": ledger.ended or "not yet", "manifest.version": ledger.version})

    def _result(self, ledger: Ledger) -> BootstrapResult:
        rounds = tuple(sorted(ledger.rounds, key=lambda each: each.number))
        last = next((each for each in reversed(rounds) if each.trained is not None), Round(0))
        return BootstrapResult(
            name=self.name,
            rounds=rounds,
            ended=ledger.ended,
            run=last.run,
            checkpoint=last.checkpoint,
            figures=last.trained or {},
            version=ledger.version,
            first_version=next((each.base for each in rounds if each.base is not None), ledger.version),
            run_id=self.writer.run_id,
            tracking_uri=self.uri,
        )

    @property
    def _data(self) -> str:
        assert self.config.data.path is not None, "open_corpus has seen to it"
        return self.config.data.path


def count_changed(plan: AuditPlan, revisions: Collection[Revision]) -> int:
    """Clips that revisions move by more than half a frame, reject or bring back."""
    rows, changed = plan.by_id, 0
    for each in revisions:
        row = rows[each.clip_id]
        moved = each.av_offset_s is not None and abs(each.av_offset_s - row.av_offset_s) * FPS > CHANGED_FRAMES
        turned = each.status is not None and each.status != row.status
        changed += moved or turned
    return changed


def _is_blind(found: Audit) -> bool:
    """Whether a network found of no clip where it belongs: it knows too little, or all are too short for it."""
    return found.method == "checkpoint" and not found.of(*_FITTING)


def _clips_hash(corpus: Corpus) -> str:
    """What the corpus is, whatever audits say of it."""
    names = "\n".join(f"{row.clip_id}\t{row.preparation}" for row in corpus.rows if row.shard)
    return hashlib.sha256(names.encode()).hexdigest()


def _meaning(options: BootstrapOptions) -> dict[str, object]:
    """What must not change between two starts."""
    asked = {name: getattr(options.ask, name) for name in ("max_offset", "stride")}
    plain = {name: getattr(options, name) for name in ("rounds", "estimate_first", "settled", "warm")}
    return {**plain, **asked, "reject": sorted(str(status) for status in options.reject)}


def _check(options: BootstrapOptions) -> None:
    problems = []
    if options.rounds < 1:
        problems.append(f"`rounds` must be at least 1, but is {options.rounds}")
    if not 0 <= options.settled < 1:
        problems.append(f"`settled` must be from 0 to below 1, but is {options.settled}")
    if options.ask.split != "all":
        problems.append(f"`split` must be all, but is {options.ask.split}: an audit of a part would never settle")
    if problems:
        raise ConfigError(problems, source="the bootstrap")
