"""The report shows what the summary says, in every state of a sweep, and nothing in it can run or call anybody."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweeps.report import REPORT, figures, render, write_report
from orchestrator.sweeps.report.cost import cost_of
from orchestrator.sweeps.report.view import duration, hero_bar, overrides
from orchestrator.sweeps.summary import Interval, Point, SweepSummary, TrialSummary

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}$x$"
_VOID = {"meta", "link", "img", "input", "br", "hr", "use", "path", "rect"}


class Page(HTMLParser):
    """A page taken apart: its tags, attributes, and the text of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: dict[str, list[str]] = {}
        self.open: list[str] = []
        self._row: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self._row = self.rows.setdefault(dict(attrs).get("data-trial") or "", [])
        elif tag in ("td", "th") and self._row is not None:
            self._row.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            self._row = None

    def handle_data(self, data: str) -> None:
        if self._row and data.strip():
            self._row[-1] = f"{self._row[-1]} {data.strip()}".strip()


def trial(name: str, value: float | None = None, state: str = "finished", steps: int = 400, **rest: Any) -> Any:
    curve = tuple(Point(step, 64 * step, (value or 0) - 0.1 + step / 4000) for step in range(0, steps + 1, 200))
    rest = {
        "init": "/models/start.pt",
        "settings": {"optim.lr": 1e-5 * (1 + int(name)), "loss.name": "ab"[int(name) % 2]},
        **rest,
    }
    known: dict[str, Any] = {}
    if value is not None:
        best = Interval(value, value - 0.012, value + 0.011)
        gain = Interval(value - 0.9, value - 0.906, value - 0.894)
        known = {"best": best, "gain": gain, "best_step": 200, "curve": curve, "samples": 64 * steps, "seconds": 90.0}
    return TrialSummary(name, False, state=state, **{**known, **rest})


def baseline() -> TrialSummary:
    return TrialSummary("000", True, "/models/start.pt", {}, "finished", best=Interval(0.9, 0.888, 0.911))


def sweep(*trials: TrialSummary, champion: str | None = None, **rest: Any) -> SweepSummary:
    known: dict[str, Any] = {
        "name": "decay",
        "metric": "val/auc",
        "answer": "trial 001 beats the pretrained file",
        "lead": None,
        "pairs": 2048,
        "pairs_hash": "9f31c7a2",
        "clips": 211,
        "search": "tpe",
        "scheduler": "asha",
        "notes": ("the best of many is optimistic",),
        "hours": 1.5,
        "open_mlflow": "mlflow ui --backend-store-uri sqlite:///mlflow.db",
    }
    return SweepSummary(trials=trials, champion=champion, **{**known, **rest})


FULL = sweep(
    baseline(),
    trial("001", 0.9393, checkpoint="/runs/decay/001/best", learning="AT_CHANCE", run_id="abc"),
    trial("002", 0.8765, "stopped early", 200, why="behind at step 200"),
    trial("003", state="failed", why="CUDA out of memory"),
    champion="001",
    lead=Interval(0.0393, 0.031, 0.048),
    importance={"optim.lr": 0.75, "loss.name": 0.25},
)
STATES = {
    "full": FULL,
    "empty": sweep(),
    "only the baseline": sweep(baseline(), champion="000"),
    "baseline not judged yet": sweep(replace(baseline(), best=None, state="running"), trial("001", state="waiting")),
    "running": sweep(baseline(), trial("001", 0.91, "running"), trial("002", state="waiting"), champion="001"),
    "one": sweep(trial("001", 0.91, gain=None), champion="001"),
    "stopped": sweep(trial("001", 0.91, "stopped", 0), trial("002", 0.8, "stopped"), champion="001"),
    "scratch": sweep(trial("001", 0.91, init="", gain=None), trial("002", 0.9, init="", gain=None), champion="001"),
    "loss": replace(FULL, metric="val/loss"),
    "accuracy": replace(FULL, metric="val/accuracy"),
    "two starts": replace(FULL, trials=(*FULL.trials, replace(baseline(), trial="009", init="s3://other.pt"))),
    "unknown state": sweep(trial("001", 0.9, "paused"), champion="001"),
    "endless interval": sweep(trial("001", 0.9, gain=Interval(0.1, float("-inf"), float("inf"))), champion="001"),
    "conditional": sweep(
        *(trial(f"{i:03d}", 0.9 - i / 99, settings={"a": i, **({"b": [i, None]} if i % 2 else {})}) for i in range(9)),
        champion="000",
    ),
}


@cache
def rendered(name: str) -> str:
    return render(STATES[name])


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_a_whole_page(name: str) -> None:
    text = rendered(name)
    page = Page(text)
    assert page.open == [] and page.tags["h1"] == page.tags["main"] == 1
    words = re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|Undefined)\b", words)
    assert {trial.trial for trial in STATES[name].trials} <= set(page.rows)


@pytest.mark.parametrize("name", STATES)
def test_nothing_is_fetched_and_no_id_comes_twice(name: str) -> None:
    page = Page(rendered(name))
    assert not {"link", "img", "iframe", "object", "image", "foreignobject"} & set(page.tags)
    fetched = {value for _, key, value in page.attributes if key in ("src", "href", "xlink:href", "srcset", "action")}
    assert all(value.startswith("#") for value in fetched)
    assert "://" not in rendered(name).replace(STATES[name].open_mlflow, "").replace("s3://other.pt", "")
    ids = Counter(value for _, key, value in page.attributes if key == "id")
    assert [one for one, count in ids.items() if count > 1] == []
    assert {value[1:] for value in fetched} <= set(ids)


def test_the_figures_are_those_of_the_summary() -> None:
    text = rendered("full")
    rows = Page(text).rows
    assert rows["001"][:7] == [
        "1",
        "★ 001",
        "finished",
        "0.9393 0.9273 … 0.9503",
        "+0.0393 +0.0333 … +0.0453",
        "200",
        "2e-5",
    ]
    assert rows["001"][7:] == ["b", "25.6k", "1 min 30 s", "at chance"]
    assert rows["000"][:5] == ["2", "start.pt", "untouched", "0.9000 0.8880 … 0.9110", "reference"]
    assert rows["003"][:6] == ["–", "003", "failed", "–", "–", "–"]
    assert rows["002"][-6:] == ["002", "stopped early", "200", "12.8k", "0.8765", "behind at step 200"]
    for expected in (
        "trial 001 beats the pretrained file",
        "2,048 pairs",
        "211 clips",
        "1 h 30 min",
        "1 finished, 1 stopped early, 1 failed",
        "CUDA out of memory",
        "the best of many is optimistic",
        "9f31c7a2",
        "/runs/decay/001/best",
        "mlflow ui --backend-store-uri",
        "optim.lr=2e-05 loss.name=b",
    ):
        assert expected in text


def test_the_champion_leads_and_is_green_only_when_clear() -> None:
    page = Page(rendered("full"))
    assert ("span", "class", "big good") in page.attributes
    assert ("tr", "class", "champion ") in page.attributes
    near = replace(FULL, lead=Interval(0.0393, -0.001, 0.08))
    assert ("span", "class", "big open") in Page(render(near)).attributes
    assert "no gain at all lies within it" in render(near) and "no gain at all" not in rendered("full")
    assert "champion-gain" not in render(replace(FULL, champion="000")), "an untouched state has no gain over itself"


def test_a_running_sweep_says_so() -> None:
    assert "still going: 2 of 2 trials to come" in rendered("running")
    assert "still going" not in rendered("full")


def test_many_rows_wait_behind_a_button() -> None:
    many = sweep(baseline(), *(trial(f"{i:03d}", 0.9 - i / 9999) for i in range(1, 61)), champion="000")
    text = render(many)
    classes = [value for tag, key, value in Page(text).attributes if (tag, key) == ("tr", "class")]
    assert sum("more" in value for value in classes) == 31
    assert "Show all 61 rows" in text
    assert len(text) < 1_500_000


def test_hostile_text_is_only_text() -> None:
    evil = trial("001", 0.95, settings={EVIL: EVIL, "b": {EVIL: [EVIL]}}, why=EVIL, checkpoint=EVIL, learning=EVIL)
    failed = trial("002", 0.9, "failed", settings={EVIL: 2}, why=f"{EVIL}\n" * 9, init=EVIL, run_id=EVIL)
    rows = (replace(baseline(), init=f"/{EVIL}"), replace(evil, trial=EVIL), failed)
    told = {"name": EVIL, "answer": EVIL, "notes": (EVIL,), "pairs_hash": EVIL, "importance": {EVIL: 1.0}}
    text = render(sweep(*rows, champion=EVIL, open_mlflow=f"javascript:{EVIL}", search=EVIL, scheduler=EVIL, **told))
    page = Page(text)
    assert page.tags["script"] == 1 and page.tags["img"] == 0
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not [value for _, name, value in page.attributes if name == "href" and "javascript" in value]
    assert page.tags["h1"] == 1 and page.open == []
    assert "{{ 7*7 }}" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_the_page_lets_only_its_own_script_run() -> None:
    text = rendered("full")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script
    allowed = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    (policy,) = [value for _, _, value in Page(text).attributes if value.startswith("default-src")]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"


def test_a_server_of_mlflow_is_a_link() -> None:
    page = Page(render(replace(FULL, open_mlflow="https://mlflow.example/#/experiments/1")))
    assert ("a", "href", "https://mlflow.example/#/experiments/1") in page.attributes


def test_it_is_written_whole_and_over_an_earlier_one(tmp_path: Path) -> None:
    write_report(STATES["empty"], tmp_path / "new")
    path = write_report(FULL, tmp_path / "new")
    assert path == tmp_path / "new" / REPORT
    assert path.read_text(encoding="utf-8") == rendered("full")
    assert [found.name for found in path.parent.iterdir()] == [REPORT]


def test_figures_are_those_that_have_something_to_show() -> None:
    names = ["ranking.png", "curves.png", "parallel.png", "settings.png", "importance.png", "cost.png"]
    assert list(figures(FULL)) == names
    assert figures(STATES["empty"]) == {}
    assert list(figures(STATES["only the baseline"])) == ["ranking.png"]
    assert list(figures(STATES["one"])) == ["ranking.png", "curves.png", "cost.png"]


def test_charts_name_their_trials_and_take_their_colours_from_the_page() -> None:
    svg = "".join(re.findall(r"<svg.*?</svg>", rendered("full"), re.DOTALL))
    assert 'data-trial="001"' in svg and 'data-trial="003"' not in svg
    assert "var(--ink)" in svg and "#111827" not in svg
    assert ">1.   001<" in svg


def test_cost_counts_what_was_spent_and_estimates_what_was_spared() -> None:
    cost = cost_of(FULL.trials)
    assert [(part.state, part.samples) for part in cost.parts] == [("finished", 25_600), ("stopped early", 12_800)]
    assert (cost.samples, cost.spared_samples, cost.spared_seconds) == (38_400, 12_800, 90.0)
    assert cost.spared_share == pytest.approx(0.25)
    assert cost_of(FULL.trials[2:]).spared_samples == 0


def test_little_things() -> None:
    assert [duration(s) for s in (0, 59, 61, 1800, 5400, 200_000)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "30 min",
        "1 h 30 min",
        "2 d 7 h",
    ]
    bar = hero_bar(Interval(0.02, 0.01, 0.03))
    assert 0 < bar.zero < bar.low < bar.value < bar.high < 100
    assert overrides(trial("001", settings={"a.b": 0.1, "c": None, "d": {"e": 1}})) == "a.b=0.1 c=null 'd={\"e\": 1}'"
