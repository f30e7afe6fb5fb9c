"""The parts around a run on Ray, each alone: courier, watchdog, stop file, pace, notices, figures."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.runtime.context import Notice, Notices, Pace
from orchestrator.runtime.courier import Courier
from orchestrator.runtime.figures import FigureFile, read_figures
from orchestrator.runtime.stopping import StopFile, seldom, stoppable
from orchestrator.runtime.watchdog import STUCK_EXIT, Watchdog, explain


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

    dog = Watchdog(tmp_path, 1, 0.2, leave=leave)
    dog.alive(7)
    assert left.wait(60), "it never left"
    dog.stop()
    assert codes == [STUCK_EXIT]
    told = explain(tmp_path, range(2))
    assert told is not None and "stuck after step 7: rank 1 on " in told and str(tmp_path / "1") in told
    assert "wait" in (tmp_path / "1" / "rank-1.txt").read_text(), "the trace names this very function's call"
    assert explain(tmp_path, range(2)) is None, "it is told once"


def test_a_worker_that_shows_signs_of_life_stays(tmp_path: Path) -> None:
    now = [0.0]
    dog = Watchdog(tmp_path, 0, 1.0, clock=lambda: now[0], leave=lambda _: now.append(-1))
    for _ in range(50):
        now[0] += 0.9
        dog.alive()
    dog.stop()
    assert len(now) == 1 and explain(tmp_path, range(1)) is None


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


def test_figures_survive_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    assert list(read_figures(path)) == []
    first = FigureFile(path)
    first.append({"step": 1, "train/loss": 0.1 + 0.2})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "train/lo')
    again = FigureFile(path)
    again.append({"step": 3})
    again.sync()
    assert list(read_figures(path)) == [{"step": 1, "train/loss": 0.1 + 0.2}, {"step": 3}]
