"""Pages show what they are given, whatever its state; nothing in them can run, be fetched or break out."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.evaluation.audit import Audit, AuditStatus, ClipAudit
from orchestrator.evaluation.clips import Moment
from orchestrator.evaluation.figures import Figure
from orchestrator.evaluation.report import (
    REPORT,
    Sample,
    Scored,
    audit_advice,
    audit_report,
    evaluation_advice,
    evaluation_report,
    playable,
    score_report,
    write,
)
from orchestrator.evaluation.report.samples import MOST
from orchestrator.evaluation.report.words import frames_text, short_name
from orchestrator.evaluation.results import Evaluation
from orchestrator.training.chance import LearningState, Verdict
from orchestrator.training.comparison import Estimate
from tests.evaluation.report.test_advice import Control

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}$x$`</code>`"
_VOID = {"meta", "link", "img", "input", "br", "hr", "use", "path", "rect"}


class Page(HTMLParser):
    """A page taken apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words = " ".join(f"{self.words} {data}".split())


@pytest.fixture(scope="module")
def sample() -> Sample:
    video = playable(np.zeros((5, 32, 32, 3), np.uint8), np.zeros(3200, np.float32))
    curve = tuple(math.nan if abs(n) > 12 else 1 + abs(n - 3) / 9 for n in range(-15, 16))
    line = (Moment(0.4, 3, 0.2), Moment(0.6, -4, 0.0))
    return Sample("clip 1", (("speaker", "ann"),), (("", video),), b"\x89PNG", curve, 3.2, line, "it is off", "shifted")


def audit_of(*statuses: AuditStatus, **changes: Any) -> Audit:
    clips = tuple(
        ClipAudit(f"clip {n}", "a.mp4", "ann", "val", one, 0.0, 0.12 if one == "shifted" else 0.0, 0.9, "why", None)
        for n, one in enumerate(statuses)
    )
    return replace(Audit("s3://bucket/corpus", "c.pt", "checkpoint", 15, clips), **changes)


CONTROLS = [
    Control("silence", "silent sound", False, found=Estimate(0.62, 0.57, 0.66), why="it hears more than lips"),
    Control("other", "another speaker", True, found=Estimate(0.5, 0.4, 0.6)),
    Control("face", "another clip", None),
]


@pytest.fixture(scope="module")
def pages(evaluation: Evaluation, sample: Sample) -> dict[str, str]:
    found = [
        Figure(f"offset_accuracy_{windows}_within_1", f"offset, {windows} windows", 0.8, 0.7, 0.9, 3 / 31, "a share")
        for windows in (7, 10)
    ]
    verdict = Verdict(LearningState.LEARNING, "told apart")
    learning = replace(evaluation, verdict=verdict, figures=(*evaluation.figures, *found))
    no_offsets = replace(
        evaluation,
        figures=evaluation.figures[:7],
        groups={},
        clips=tuple(replace(report, offset=None, hits=(), timeline=()) for report in evaluation.clips),
    )
    scored = [
        Scored("a.mp4", "out of sync", "a valley at 3", 4.0, 3.2, 0.98, 0.6, 0.4, sample),
        Scored("b.mp4", "failed", "it has no sound"),
    ]
    return {
        "evaluation": evaluation_report(
            evaluation, [sample], controls=CONTROLS, advice=evaluation_advice(evaluation, CONTROLS)
        ),
        "learning": evaluation_report(learning, []),
        "no offsets": evaluation_report(no_offsets, [replace(sample, videos=(), sheet=b"", curve=(), timeline=())]),
        "audit": audit_report(audit_of(*AuditStatus), [sample], advice=audit_advice(audit_of(*AuditStatus))),
        "estimate": audit_report(
            audit_of(AuditStatus.SHIFTED, checkpoint=None, method="estimate"), seconds={"clip 0": 9}
        ),
        "empty audit": audit_report(audit_of()),
        "score": score_report(scored, "runs/a/best", notes=("one face",)),
        "no video": score_report([], "runs/a/best"),
    }


NAMES = ["evaluation", "learning", "no offsets", "audit", "estimate", "empty audit", "score", "no video"]


@pytest.mark.parametrize("name", NAMES)
def test_every_state_is_a_whole_page(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert page.open == [] and page.tags["h1"] == page.tags["main"] == page.tags["script"] == 1
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", page.words)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_and_only_its_own_script_runs(pages: dict[str, str], name: str) -> None:
    text, page = pages[name], Page(pages[name])
    assert not {"link", "iframe", "object", "image", "foreignobject", "a", "form"} & set(page.tags)
    fetched = {value for _, key, value in page.attributes if key in ("src", "href", "xlink:href", "srcset", "poster")}
    assert all(re.match(r"#|data:(image/(png|webp)|video/webm);base64,", value) for value in fetched)
    assert "://" not in re.sub(r"s3://bucket/corpus", "", text)
    ids = Counter(value for _, key, value in page.attributes if key == "id")
    assert [one for one, count in ids.items() if count > 1] == []
    assert {value[1:] for value in fetched if value.startswith("#")} <= set(ids)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    (policy,) = [value for _, _, value in page.attributes if value.startswith("default-src")]
    wanted = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    assert policy == f"{wanted}script-src 'sha256-{digest}'"


def test_an_evaluation_shows_its_figures(pages: dict[str, str], evaluation: Evaluation) -> None:
    words = Page(pages["evaluation"]).words
    accuracy = evaluation.figure("accuracy")
    assert f"{100 * accuracy.value:.1f}% of pairs [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]" in words
    assert "does not tell in sync from out of sync" in words and "tells in sync" in Page(pages["learning"]).words
    for expected in (evaluation.pairs_hash, accuracy.definition, "few pairs", "runs/tiny/step-000000012", "128"):
        assert expected in words
    for control in CONTROLS:
        assert control.title in words
    assert "0.620 [0.570, 0.660]" in words and "not told" in words
    learning = Page(pages["learning"]).words
    assert "Offset, 10 windows" not in words and "offset, 10 windows 80.0% [70.0, 90.0] 9.7% a share" in learning
    assert "offset, 7 windows" not in learning and "Offset found, by windows averaged" in learning, "the chart has it"
    assert 'id="speaker_accuracy"' in pages["evaluation"] and 'id="roc"' in pages["evaluation"]
    assert 'id="offsets"' in pages["evaluation"] and 'id="offsets"' not in pages["no offsets"]


def test_an_audit_counts_by_status(pages: dict[str, str]) -> None:
    words = Page(pages["audit"]).words
    assert "1 of 9 clips are in sync (11%)" in words
    assert "+3 frames (sound later)" in words and 'id="offsets"' in pages["audit"]
    assert "shifted 1 100.0% 9 s" in Page(pages["estimate"]).words


def test_a_score_shows_every_video(pages: dict[str, str]) -> None:
    words = Page(pages["score"]).words
    assert "2 videos: 1 out of sync, 1 failed" in words
    assert "+3.2 frames (sound later) +128 ms 98.0% 0.600 0.400 4.0 s a valley at 3" in words
    assert "b.mp4 failed – – – – – it has no sound" in words


def test_clips_play_from_within_the_page(pages: dict[str, str], sample: Sample) -> None:
    videos = [value for tag, key, value in Page(pages["audit"]).attributes if (tag, key) == ("video", "src")]
    assert [base64.b64decode(one.partition(",")[2]) for one in videos] == [sample.videos[0][1]]
    svg = "".join(re.findall(r"<svg.*?</svg>", pages["audit"], re.DOTALL))
    assert "var(--ink)" in svg and "#111827" not in svg and "Best offset along the clip" in svg


def test_there_are_never_too_many_clips(evaluation: Evaluation, sample: Sample) -> None:
    many = replace(sample, curve=(), timeline=())
    page = Page(evaluation_report(evaluation, [many] * (MOST + 3)))
    assert page.tags["video"] == MOST and "3 more are not shown" in page.words


def test_hostile_text_is_only_text(evaluation: Evaluation, sample: Sample) -> None:
    bad = replace(sample, title=EVIL, facts=((EVIL, EVIL),), videos=((EVIL, b"x"),), why=EVIL, status=EVIL, sound=EVIL)
    figures = tuple(replace(one, title=EVIL, definition=EVIL) for one in evaluation.figures)
    told = {"checkpoint": EVIL, "corpus": EVIL, "split": EVIL, "pairs_hash": EVIL, "notes": (EVIL,), "clusters": EVIL}
    groups = {"speaker": {EVIL: evaluation.figures, "b": figures}}
    evil = replace(
        evaluation, figures=figures, groups=groups, verdict=Verdict(LearningState.AT_CHANCE, EVIL, (EVIL,)), **told
    )  # type: ignore[arg-type]
    audit = audit_of(AuditStatus.AT_EDGE, corpus=EVIL, checkpoint=EVIL, notes=(EVIL,))
    controls = [Control(EVIL, EVIL, False, EVIL, None, EVIL)]
    for text in (
        evaluation_report(evil, [bad], controls=controls, advice=[EVIL, *evaluation_advice(evil, controls)]),
        audit_report(audit, [bad], advice=[EVIL, *audit_advice(audit)]),
        score_report([Scored(EVIL, EVIL, EVIL, sample=bad)], EVIL, notes=[EVIL], advice=[EVIL]),
    ):
        page = Page(text)
        assert page.open == [] and page.tags["script"] == page.tags["h1"] == 1
        assert page.tags["img"] == 1, "the contact sheet alone"
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        assert "{{ 7*7 }}" in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_commands_in_advice_are_code(evaluation: Evaluation) -> None:
    text = evaluation_report(evaluation, advice=["run `orchestrator audit 'a<b>'` now", "an odd ` is left"])
    assert "run <code>orchestrator audit &#39;a&lt;b&gt;&#39;</code> now" in text
    assert "an odd ` is left" in text


def test_credentials_are_not_shown(evaluation: Evaluation) -> None:
    place = "s3://key:secret@host/corpus"
    assert "secret" not in evaluation_report(replace(evaluation, corpus=place, checkpoint=place))


def test_of_thousands_of_speakers_the_worst_are_listed(evaluation: Evaluation) -> None:
    (accuracy,) = (one for one in evaluation.figures if one.name == "accuracy")
    groups = {"speaker": {f"s{n}": (replace(accuracy, value=n / 999),) for n in range(999)}}
    text = evaluation_report(replace(evaluation, groups=groups))
    assert "The 799 with the highest accuracy are left out." in text
    assert ">s0</th>" in text and ">s199</th>" in text and ">s200</th>" not in text


def test_the_same_input_gives_the_same_bytes(pages: dict[str, str], evaluation: Evaluation, sample: Sample) -> None:
    again = evaluation_report(evaluation, [sample], controls=CONTROLS, advice=evaluation_advice(evaluation, CONTROLS))
    assert again == pages["evaluation"]


def test_it_is_written_whole_and_over_an_earlier_one(pages: dict[str, str], tmp_path: Path) -> None:
    write(pages["no video"], tmp_path / "new")
    path = write(pages["score"], tmp_path / "new")
    assert path == tmp_path / "new" / REPORT and path.read_text(encoding="utf-8") == pages["score"]
    assert [found.name for found in path.parent.iterdir()] == [REPORT]
    assert write("x", tmp_path / "other.html").name == "other.html"


def test_little_things() -> None:
    texts = [frames_text(value) for value in (0, 0.04, 1, -3, 2.5, math.nan)]
    assert texts == ["0 frames", "0 frames", "+1 frame (sound later)", "−3 frames (sound earlier)",
                     "+2.5 frames (sound later)", "–"]  # fmt: skip
    assert [short_name(one) for one in ("/runs/a/step-1/", "x.pt")] == ["a/step-1", "x.pt"]
