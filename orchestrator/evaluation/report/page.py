"""Write the report of an evaluation, of an audit or of scored videos: one HTML file that needs nothing else.

Contract: names, notes and paths come from people and files and are shown as text, whatever they hold; pictures and
clips lie in the page, which fetches nothing. The same input gives the same bytes; a file appears whole or not at all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.charts.drawing import drawing
from orchestrator.charts.page import environment, filled
from orchestrator.evaluation.audit import Audit
from orchestrator.evaluation.report import view
from orchestrator.evaluation.report.advice import ControlLine
from orchestrator.evaluation.report.pictures import audit_figures, clip_figures, evaluation_figures
from orchestrator.evaluation.report.samples import MOST, Sample
from orchestrator.evaluation.report.words import (
    audit_headline,
    evaluation_headline,
    figure_text,
    frames_text,
    interval_text,
    number_text,
    score_headline,
    share_text,
    short_name,
)
from orchestrator.evaluation.results import Evaluation
from orchestrator.storage import redacted
from orchestrator.storage.local import atomic_writer

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

REPORT = "report.html"
"""The file's name."""
_HERE = Path(__file__).parent
_MAGIC = {b"RIFF": "image/webp", b"\x89PNG": "image/png", b"\xff\xd8\xff\xe0": "image/jpeg"}


@dataclass(frozen=True)
class Scored:
    """A video that was scored, as a page shows it."""

    title: str
    """Its path, without credentials."""
    status: str
    """The verdict in a word or two."""
    why: str = ""
    """The verdict in a sentence."""
    seconds: float = 0.0
    """How much of it was judged."""
    offset: float | None = None
    """How much later the sound comes than the picture, in frames."""
    confidence: float | None = None
    """In [0, 1]: how sure the offset is."""
    lse_d: float | None = None
    """The least mean distance."""
    lse_c: float | None = None
    """Median less least mean distance."""
    sample: Sample | None = None
    """What is to be seen, heard and drawn of it."""


def evaluation_report(
    evaluation: Evaluation,
    samples: Sequence[Sample] = (),
    *,
    controls: Sequence[ControlLine] | None = None,
    advice: Sequence[str] = (),
) -> str:
    """The page of an evaluation.

    Args:
        evaluation: what was found.
        samples: clips to show, e.g. of `evaluation_samples`; the first `MOST` are.
        controls: the controls that were run, if any were.
        advice: what to do next, e.g. of `evaluation_advice`.
    """
    content = {
        "kind": "Evaluation",
        "name": short_name(evaluation.checkpoint),
        "headline": evaluation_headline(evaluation),
        "hero": view.hero(evaluation),
        "facts": view.evaluation_facts(evaluation),
        "notes": [*evaluation.notes, *view.verdict_notes(evaluation)],
        "figures": view.main_figures(evaluation.figures),
        "groups": view.group_tables(evaluation),
        "controls": controls,
        "settings": view.evaluation_settings(evaluation),
    }
    return _page("evaluation.html.j2", content, evaluation_figures(evaluation), samples, advice)


def audit_report(
    audit: Audit,
    samples: Sequence[Sample] = (),
    *,
    advice: Sequence[str] = (),
    seconds: Mapping[str, float] | None = None,
) -> str:
    """The page of an audit.

    Args:
        audit: what was found.
        samples: clips to show, e.g. of `audit_samples`; the first `MOST` are.
        advice: what to do next, e.g. of `audit_advice`.
        seconds: how long clips are, by their ids; those that the network judged are known.
    """
    lengths = view.lengths(audit, seconds or {})
    content = {
        "kind": "Audit",
        "name": short_name(audit.corpus),
        "headline": audit_headline(audit),
        "facts": view.audit_facts(audit, lengths),
        "notes": audit.notes,
        "statuses": view.status_lines(audit, lengths),
        "moves": view.move_lines(audit),
        "settings": view.audit_settings(audit),
    }
    return _page("audit.html.j2", content, audit_figures(audit), samples, advice)


def score_report(
    videos: Sequence[Scored], checkpoint: str, *, notes: Sequence[str] = (), advice: Sequence[str] = ()
) -> str:
    """The page of scored videos.

    Args:
        videos: all of them; the first `MOST` with a sample are shown.
        checkpoint: the network that scored them, without credentials.
        notes: what a person should know before believing the figures.
        advice: what to do next.
    """
    content = {
        "kind": "Score",
        "name": short_name(checkpoint),
        "headline": score_headline([video.status for video in videos]),
        "notes": notes,
        "videos": videos,
        "settings": [("Checkpoint", checkpoint)],
    }
    samples = [video.sample for video in videos if video.sample]
    return _page("score.html.j2", content, {}, samples, advice)


def write(text: str, path: str | Path) -> Path:
    """Write a page, over an earlier one; gives the file.

    Args:
        text: the page.
        path: the file, or a folder in which it is called `report.html`.
    """
    path = Path(path)
    path = path if path.suffix == ".html" else path / REPORT
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8", "replace"))
    return path


def _page(
    template: str,
    content: Mapping[str, Any],
    figures: Mapping[str, Figure],
    samples: Sequence[Sample],
    advice: Sequence[str],
) -> str:
    engine = environment(_HERE)
    engine.filters |= {
        "address": redacted,
        "data": _data,
        "frames": frames_text,
        "hours": view.hours_text,
        "interval": interval_text,
        "number": number_text,
        "number_of": figure_text,
        "share": share_text,
        "marked": _marked,
        "tone": view.tone,
    }
    told = {
        "drawings": {name.removesuffix(".png"): _markup(drawing(one, name)) for name, one in figures.items()},
        "samples": [_shown(sample, number) for number, sample in enumerate(samples[:MOST])],
        "left_out": max(len(samples) - MOST, 0),
        "advice": advice,
    }
    return filled(engine, _HERE, template, {**content, **told}, media=True)


def _shown(sample: Sample, number: int) -> dict[str, Any]:
    """A sample with its drawings, under names that come once on a page."""
    figures = clip_figures(sample.curve, sample.offset, sample.timeline)
    drawings = [_markup(drawing(one, f"clip-{number}-{place}")) for place, one in enumerate(figures)]
    return {"sample": sample, "drawings": drawings}


def _data(content: bytes, kind: str = "") -> str:
    """The address of something that lies in the page."""
    kind = kind or next((name for magic, name in _MAGIC.items() if content.startswith(magic)), "image/png")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _marked(text: str) -> Markup:
    """A sentence with its commands, between backticks, as code; all else is escaped."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def _markup(text: str) -> Markup:
    """Our own drawings are the only markup that is put in as it is."""
    from markupsafe import Markup

    return Markup(text)
