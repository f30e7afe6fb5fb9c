"""The parts around a run on Ray, each alone: courier, watchdog, stop file, pace, notices, journal, listener."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.scores import read_scores
from orchestrator.errors import RunError
from orchestrator.runtime.context import Notice, Notices, Pace
from orchestrator.runtime.courier import Courier
from orchestrator.runtime.journal import Journal, read_journal
from orchestrator.runtime.listener import Listener
from orchestrator.runtime.paths import RunPaths, read_json
from orchestrator.runtime.recorder import Recorder, RecordTarget
from orchestrator.runtime.stopping import StopFile, seldom, stoppable
from orchestrator.runtime.watchdog import STUCK_EXIT, Watchdog, explain
from orchestrator.tracking import read_history
from orchestrator.training.evaluation import PairList


def test_a_courier_keeps_the_order_and_raises_what_went_wrong() -> None:
    done: list[int] = []
    courier = Courier()
    for number in range(20):
        courier.send(lambda number=number: done.append(number))  # type: ignore[misc]
    courier.finish()
    assert done == list(range(20))

    broken = Courier()
    broken.send(lambda: done[99])  # type: ignore[arg-type, return-value]
    broken.send(lambda: done.append(-1))
    with pytest.raises(IndexError):
        broken.finish()
    assert -1 not in done, "what was sent after a failure is not done"


def test_a_worker_that_makes_no_step_writes_where_it_stood_and_leaves(tmp_path: Path) -> None:
    left, codes = threading.Event(), []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    dog = Watchdog(tmp_path, 1, 2, 0.2, leave=leave)
    dog.alive(7)
    assert left.wait(60), "it never left"
    dog.stop()
    assert codes == [STUCK_EXIT]
    told = explain(tmp_path)
    assert told is not None and "stuck after step 7: rank 1 on " in told and str(tmp_path / "1") in told
    assert "wait" in (tmp_path / "1" / "rank-1.txt").read_text(), "the trace names this very function's call"
    assert explain(tmp_path) is None, "it is told once"


def test_a_worker_that_shows_signs_of_life_stays(tmp_path: Path) -> None:
    now = [0.0]
    dog = Watchdog(tmp_path, 0, 1, 1.0, clock=lambda: now[0], leave=lambda _: now.append(-1))
    for _ in range(50):
        now[0] += 0.9
        dog.alive()
    dog.stop()
    assert len(now) == 1 and explain(tmp_path) is None


def test_the_first_signal_asks_and_the_second_interrupts(tmp_path: Path) -> None:
    file, said = StopFile(tmp_path), list[str]()
    file.ask()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable(file, said.append):
        assert not file.asked(), "what was asked of an earlier start is done with"
        os.kill(os.getpid(), signal.SIGTERM)
        assert file.asked() and "once more" in said[0]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_question_is_put_seldom() -> None:
    now, asked = [0.0], list[float]()

    def ask() -> bool:
        asked.append(now[0])
        return now[0] > 1

    question = seldom(ask, clock=lambda: now[0])
    answers = []
    for tenth in range(16):
        now[0] = tenth / 10
        answers.append(question())
    assert asked == [0.0, 0.5, 1.0, 1.5] and answers == [False] * 15 + [True]


def test_polls_settle_at_about_a_second() -> None:
    pace, step, now = Pace(1.0), 0, 0.0
    taken = []
    for _ in range(12):
        steps = pace.steps(step, now)
        taken.append(steps)
        step, now = step + steps, now + steps * 0.01
    assert taken[0] == 1 and all(b <= 2 * a for a, b in pairwise(taken))
    assert 90 <= taken[-1] <= 101
    assert Pace(1.0).steps(0, 0.0) == 1
    assert pace.steps(step + 1, now + 1000) == 1, "slow steps are polled one by one"


def test_a_notice_asks_at_once_and_once_more_before_the_end() -> None:
    notices = Notices()
    assert not notices.due(None, 0)
    notice = Notice(frozenset({"a"}), deadline_s=100)
    assert [notices.due(notice, now) for now in (10, 20, 79, 80, 81)] == [True, False, False, True, False]
    both = Notice(frozenset({"a", "b"}), deadline_s=90)
    assert notices.due(both, 82) and not notices.due(both, 89), "too late for a second one"
    assert Notices().due(Notice(frozenset({"a"}), None), 0)


def rows_of(path: Path, offset: int = 0) -> list[dict[str, Any]]:
    return [row for row, _ in read_journal(path, offset)]


def test_a_journal_survives_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert rows_of(path) == []
    Journal(path, now=lambda: 5.0).append(figures={"step": 1, "train/loss": 0.1 + 0.2})
    with path.open("ab") as file:
        file.write(b'{"at": 6, "figu')
    assert len(rows_of(path)) == 1, "half a line is not read"
    again = Journal(path, now=lambda: 7.0)
    again.append(facts={"pairs_file": b"\x00\xff"})
    again.sync()
    first, second = read_journal(path)
    assert first[0] == {"at": 5.0, "figures": {"step": 1, "train/loss": 0.1 + 0.2}}
    assert second[0] == {"at": 7.0, "facts": {"pairs_file": b"\x00\xff"}}
    assert rows_of(path, first[1]) == [second[0]] and rows_of(path, second[1]) == []
    path.write_bytes(b'{"at": 8, "note": "anew"}\n')
    assert rows_of(path, second[1]) == [{"at": 8, "note": "anew"}], "a shorter file is another one"


def test_a_journal_gives_a_storage_that_refuses_its_lines_later(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.write_text("a file where the folder should be")
    journal = Journal(folder / "journal.jsonl")
    journal.append(note="one")
    with pytest.raises(OSError):
        journal.sync()
    folder.unlink()
    journal.append(note="two")
    assert [row["note"] for row in rows_of(folder / "journal.jsonl")] == ["one", "two"]


START = {"start": {"verb": "fresh"}, "pairs_hash": "1", "pairs_file": b"pairs", "notes": ["it is slow"]}
CONTINUES = {"start": {"verb": "continue"}, "notes": []}
CONTINUE = {**START, **CONTINUES}
VERDICT = {"state": "LEARNING", "why": "", "causes": []}


@pytest.fixture
def target(tmp_path: Path) -> RecordTarget:
    return RecordTarget(RunPaths(tmp_path, "run"), f"sqlite:///{tmp_path}/mlflow.db", "syncnet", "run", 10)


def test_a_listener_records_every_row_once(target: RecordTarget) -> None:
    journal, told, reports = Journal(target.paths.journal), list[str](), list[float]()
    journal.append(facts=START)
    journal.append(figures={"step": 1, "train/loss": 0.7})
    Listener(Recorder(target), patience_s=0).finish()
    journal.append(figures={"step": 2, "train/loss": 0.6})  # nobody listens: the driver was killed
    journal.append(note="an old note")
    journal.append(facts=CONTINUE)
    listener = Listener(
        Recorder(target), patience_s=0, on_report=lambda row: reports.append(row["step"]), on_note=told.append
    )
    journal.append(figures={"step": 2, "train/loss": 0.6})
    journal.append(figures={"step": 3, "train/loss": 0.5})
    journal.append(note="a note")
    Journal(target.paths.failures).append(note="a worker died")
    assert listener.look() and listener.look()
    assert reports == [2, 2, 3] and told == ["a note", "a worker died"] and listener.last_note == "a worker died"
    status = read_json(target.paths.status) or {}
    assert status["step"] == 3 and status["restarts"] == 1
    assert [note["text"] for note in status["notes"]] == ["it is slow", "an old note", "a note", "a worker died"]
    history = read_history(target.uri, status["run_id"], ["train/loss"])
    assert [row["train/loss"] for row in history] == [0.7, 0.6, 0.5]


@pytest.fixture
def listed(target: RecordTarget, tiny_corpus: Path) -> tuple[dict[str, Any], PairList]:
    """The facts of a start with a real list of pairs, and the list."""
    pairs = PairList.of(Corpus.open(tiny_corpus), "val", 5, 8)
    return {**START, "pairs_hash": pairs.hash, "pairs_file": pairs.to_bytes(), "scores": None, "notes": []}, pairs


def test_the_scores_of_the_best_are_kept_and_older_ones_are_not(
    target: RecordTarget, listed: tuple[dict[str, Any], PairList]
) -> None:
    (start, pairs), journal, path = listed, Journal(target.paths.journal), target.paths.scores
    best, better = (pairs.scores(step, torch.linspace(0, step / 10, 8)) for step in (5, 7))
    recorder = Listener(Recorder(target), patience_s=0)
    for facts, step in (
        (start, None),
        ({"verdict": VERDICT, "scores": best}, 5),
        ({"verdict": VERDICT}, 5),
        ({"verdict": VERDICT, "scores": better}, 7),
        ({**start, **CONTINUES, "scores": best}, 5),  # a power cut took the checkpoint of step 7
        ({**start, **CONTINUES}, None),
    ):
        journal.append(facts=facts)
        recorder.finish()
        assert path.exists() == (step is not None)
        if step is not None:
            assert read_scores(path).step == step
    assert list(path.parent.iterdir()) == [target.paths.pairs]


def test_scores_that_do_not_fit_the_pairs_are_a_note_and_no_end(
    target: RecordTarget, listed: tuple[dict[str, Any], PairList]
) -> None:
    (start, pairs), journal = listed, Journal(target.paths.journal)
    journal.append(facts=start)
    journal.append(facts={"verdict": VERDICT, "scores": pairs.scores(0, torch.zeros(8))})
    journal.append(facts={"verdict": VERDICT, "scores": pairs.scores(5, torch.zeros(7))})
    Listener(Recorder(target), patience_s=0).finish()
    assert not target.paths.scores.exists()
    assert "7 scores" in (read_json(target.paths.status) or {})["notes"][-1]["text"]


@pytest.mark.parametrize(
    "refused", ["orchestrator.runtime.recorder.write_json", "orchestrator.tracking.writer.RunWriter._batch"]
)
def test_a_record_that_cannot_be_written_is_tried_again(
    target: RecordTarget, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    now, said = [0.0], list[str]()
    listener = Listener(Recorder(target), patience_s=60, tell=said.append, clock=lambda: now[0])
    journal = Journal(target.paths.journal)
    journal.append(facts=START)
    assert listener.look()
    journal.append(figures={"step": 1, "train/loss": 0.7})
    journal.append(note="a note")

    def refuse(*_: object, **__: object) -> None:
        raise RunError("it cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(refused, refuse)
        assert not listener.look() and not listener.look()
        assert len(said) == 1 and "No space left" in said[0]
        now[0] = 61
        with pytest.raises(RunError, match="No space left"):
            listener.look()
    assert listener.look() and "can be written again" in said[1]
    status = read_json(target.paths.status) or {}
    assert status["step"] == 1 and [note["text"] for note in status["notes"]] == ["it is slow", "a note"]
    assert [row["train/loss"] for row in read_history(target.uri, status["run_id"], ["train/loss"])] == [0.7]
