"""The rounds of a bootstrap: what they do, when they end, and that they continue wherever they were stopped.

Training, judging and the record are stood in for where only the order of steps is asked for; one test does all of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.data.manifest import read_manifest
from orchestrator.data.revisions import Revision, manifest_versions, restore_manifest, revise_manifest
from orchestrator.errors import ConfigError, RunError
from orchestrator.evaluation.audit import Audit, AuditPlan, AuditStatus, ClipAudit
from orchestrator.runtime.audit import Ask
from orchestrator.runtime.bootstrap import BootstrapOptions, BootstrapResult, bootstrap, ledger, loop
from orchestrator.storage import open_folder
from orchestrator.tracking import child_runs, find_run, read_history

TRUTH_S = (0.1, -0.2, 0.0, 0.3, 0.0, 0.0, -0.1, 0.0)
"""Where the clips of the tiny corpus belong, in this story."""


class Story:
    """Trainings and audits that find, with every round, one more wrong clip."""

    def __init__(self, corpus: Path) -> None:
        self.trained: list[str] = []
        self.looked: list[str | None] = []
        self.starts: list[str | None] = []
        self.truth = {row.clip_id: s for row, s in zip(read_manifest(open_folder(corpus)), TRUTH_S, strict=True)}
        self.status = AuditStatus.SHIFTED
        self.found = 2

    def train(self, config: Any, name: str, **_: Any) -> Any:
        self.trained.append(name)
        self.starts.append(config.start.checkpoint)
        return SimpleNamespace(best_checkpoint=f"{name}/best", metrics={"val/accuracy": 0.7, "lr": 1.0}, best=0.75)

    def look(self, plan: AuditPlan, checkpoint: str | None, *_: Any) -> Audit:
        self.looked.append(checkpoint)
        wrong = [row for row in plan.rows if row.av_offset_s != self.truth[row.clip_id]][: self.found]
        clips = tuple(self._clip(row, row in wrong) for row in plan.rows)
        return Audit(plan.corpus.name, checkpoint, "checkpoint", 15, clips)

    def _clip(self, row: Any, wrong: bool) -> ClipAudit:
        status = self.status if wrong else AuditStatus.IN_SYNC
        after = self.truth[row.clip_id] if wrong else row.av_offset_s
        facts = (row.clip_id, row.source, row.speaker, row.split)
        return ClipAudit(*facts, status, row.av_offset_s, after, 0.9, "so it is told", None)


class Quiet:
    """Stands in for the record in MLflow, which takes seconds to begin."""

    run_id = "parent"

    @classmethod
    def start(cls, *_: Any, **__: Any) -> Quiet:
        return cls()

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def nothing(self, *_: Any) -> None:
        return None

    log_params = log_metrics = log_text = log_figure = set_tags = finish = nothing


@pytest.fixture
def config(tiny_config: Any, tiny_corpus: Path, tmp_path: Path) -> Any:
    """A configuration whose corpus is this test's own."""
    shutil.copytree(tiny_corpus, tmp_path / "corpus")
    data = tiny_config.data.model_copy(update={"path": str(tmp_path / "corpus")})
    return tiny_config.model_copy(update={"data": data})


@pytest.fixture
def story(config: Any, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Stands in for training and judging."""
    told = Story(Path(config.data.path))
    monkeypatch.setattr(loop, "train", told.train)
    monkeypatch.setattr(loop, "look", told.look)
    monkeypatch.setattr(loop, "RunWriter", Quiet)
    monkeypatch.setattr(loop, "close_stale", lambda *_: None)
    return told


def offsets(config: Any) -> list[float]:
    """What the manifest says."""
    return [row.av_offset_s for row in read_manifest(open_folder(config.data.path))]


def test_rounds_go_on_until_hardly_a_clip_changes(config: Any, story: Story) -> None:
    result = bootstrap(config, "loop", BootstrapOptions(rounds=5))
    assert offsets(config) == list(TRUTH_S)
    assert (result.ended, result.run, result.checkpoint) == ("settled", "loop-round-3", "loop-round-3/best")
    assert [known.changed for known in result.rounds] == [2, 2, 0]
    assert [known.version for known in result.rounds] == [1, 2, 3]
    assert story.trained == ["loop-round-1", "loop-round-2", "loop-round-3"]
    assert story.looked == ["loop-round-1/best", "loop-round-2/best", "loop-round-3/best"]
    restore_manifest(open_folder(config.data.path), result.first_version)
    assert offsets(config) == [0.0] * len(TRUTH_S)


def test_what_the_last_audit_wrote_is_trained_on(config: Any, story: Story) -> None:
    result = bootstrap(config, "loop", BootstrapOptions(rounds=1))
    assert (result.ended, result.run) == ("rounds", "loop-final")
    assert story.trained == ["loop-round-1", "loop-final"]


def test_a_corpus_can_be_corrected_before_anything_is_trained(config: Any, story: Story) -> None:
    bootstrap(config, "loop", BootstrapOptions(rounds=2, estimate_first=True))
    assert story.looked == [None, "loop-round-1/best", "loop-round-2/best"]


@pytest.mark.parametrize(
    ("warm", "starts"), [(False, [None, None, None]), (True, [None, "loop-round-1/best", "loop-round-2/best"])]
)
def test_every_run_starts_afresh_unless_it_is_asked_not_to(
    config: Any, story: Story, warm: bool, starts: list[str | None]
) -> None:
    bootstrap(config, "loop", BootstrapOptions(rounds=3, warm=warm))
    assert story.starts == starts


def test_a_network_that_tells_nothing_changes_nothing(config: Any, story: Story) -> None:
    story.status, story.found = AuditStatus.UNSURE, len(TRUTH_S)
    story.truth = dict.fromkeys(story.truth, 1.0)
    result = bootstrap(config, "loop", BootstrapOptions(rounds=3))
    assert (result.ended, result.version, story.trained) == ("blind", 0, ["loop-round-1"])
    assert len(manifest_versions(open_folder(config.data.path))) == 1


class Stopped(Exception):
    """The power is cut."""


def _stopping(call: Callable[..., Any], at: int, *, after: bool) -> Callable[..., Any]:
    """The same call, which at its `at`-th time is the last thing that happens, or does not happen any more."""
    count = 0

    def stop(*args: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and not after:
            raise Stopped
        result = call(*args, **named)
        if count == at:
            raise Stopped
        return result

    return stop


STEPS = [(ledger, "write_json", n) for n in range(1, 10)] + [(ledger, "revise_manifest", n) for n in (1, 2)]
STEPS += [(loop, name, n) for name in ("train", "look", "record_audit") for n in (1, 2)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("module", "name", "at"), STEPS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_loop_that_was_stopped_anywhere_comes_to_the_same_end(
    config: Any, story: Story, module: Any, name: str, at: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _stopping(getattr(module, name), at, after=after))
        with pytest.raises(Stopped):
            bootstrap(config, "loop", BootstrapOptions(rounds=2))
    result = bootstrap(config, "loop", BootstrapOptions(rounds=2))
    assert offsets(config) == list(TRUTH_S)
    assert [version.number for version in manifest_versions(open_folder(config.data.path))] == [0, 1, 2]
    assert (result.ended, result.run, result.version) == ("rounds", "loop-final", 2)
    twice = len(story.looked) - len(set(story.looked))
    assert twice <= (name in ("look", "record_audit", "write_json")), "what was noted is not audited again"


def test_a_finished_loop_is_told_again_and_nothing_is_done(config: Any, story: Story) -> None:
    first = bootstrap(config, "loop", BootstrapOptions(rounds=2))
    trained = list(story.trained)
    assert bootstrap(config, "loop", BootstrapOptions(rounds=2)) == first
    assert story.trained == trained


def test_a_manifest_that_somebody_else_revised_is_refused(
    config: Any, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop, "train", _stopping(story.train, 2, after=False))
        bootstrap(config, "loop", BootstrapOptions(rounds=2))
    folder = open_folder(config.data.path)
    revise_manifest(folder, [Revision(read_manifest(folder)[0].clip_id, 1.0)], "somebody else")
    with pytest.raises(RunError, match=r"version 2 \(somebody else\).*left it at version 1"):
        bootstrap(config, "loop", BootstrapOptions(rounds=2))


def test_other_settings_under_the_same_name_are_refused(config: Any, story: Story) -> None:
    bootstrap(config, "loop", BootstrapOptions(rounds=1))
    with pytest.raises(RunError, match="max_offset"):
        bootstrap(config, "loop", BootstrapOptions(rounds=1, ask=Ask(max_offset=20)))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (BootstrapOptions(rounds=0), "rounds"),
        (BootstrapOptions(settled=1.0), "settled"),
        (BootstrapOptions(ask=Ask(split="train")), "split"),
    ],
)
def test_options_that_make_no_loop_are_refused(config: Any, options: BootstrapOptions, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        bootstrap(config, "loop", options)


def test_the_record_has_the_rounds_and_their_runs_below_it(config: Any) -> None:
    """All of it, really done: two short trainings, and an audit by a network that has learned nothing."""
    short = config.model_copy(update={"train": config.train.model_copy(update={"steps": 2})})
    options = BootstrapOptions(rounds=1, estimate_first=True, holdout=short.data.path, ask=Ask(6, 4))
    result: BootstrapResult = bootstrap(short, "loop", options)
    assert result.ended in ("settled", "rounds", "blind")
    record = find_run(result.tracking_uri, "syncnet", "loop")
    assert record is not None
    assert record.status == "FINISHED"
    below = {run.name for run in child_runs(result.tracking_uri, "syncnet", result.run_id)}
    assert {"loop-audit-0", "loop-audit-1", "loop-round-1"} <= below
    history = read_history(result.tracking_uri, result.run_id, ["audit/clips", "holdout/accuracy"])
    assert [row["step"] for row in history if "audit/clips" in row] == [0, 1]
    assert all(0 <= row["holdout/accuracy"] <= 1 for row in history if "holdout/accuracy" in row)
    assert replace(result, rounds=()) == replace(bootstrap(short, "loop", options), rounds=())
