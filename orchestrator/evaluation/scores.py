"""The scores of a batch of videos as files: a table, all figures, a chart of each, and the report.

File contract of a folder: `scores.csv` (a row for each video), `scores.json` (everything; a list, each with the name of
its chart), `timelines/<name>-<hash of the path>.png`, `report.html`. Files of an earlier batch with the same videos are
replaced.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.charts.timeline import timeline_figure
from orchestrator.data.files import printable
from orchestrator.evaluation.report import REPORT, score_report
from orchestrator.evaluation.report.scored import scored_videos
from orchestrator.evaluation.score import VideoScore
from orchestrator.evaluation.verdicts import IN_SYNC_FRAMES
from orchestrator.storage import open_folder, redacted

_TIMELINES = "timelines"


def write_csv(file: Path, scores: Sequence[VideoScore]) -> Path:
    """Write the table of these scores.

    Raises:
        StorageError: it cannot be written.
    """
    open_folder(file.parent).write(file.name, _csv(scores).encode())
    return file


def write_scores(folder: str | Path, scores: Sequence[VideoScore], checkpoint: str) -> str | Path:
    """Write everything about these scores into a folder, which may exist.

    Args:
        folder: a path or URI.
        scores: of all videos.
        checkpoint: the network that scored them.

    Raises:
        StorageError: it cannot be written.
    """
    out = open_folder(folder)
    plain = []
    for score in scores:
        chart = ""
        if score.judged:
            chart = f"{_TIMELINES}/{_name(score.path)}.png"
            out.write(chart, _chart(score))
        plain.append({**score.to_dict(), "chart": chart})
    out.write("scores.csv", _csv(scores).encode())
    out.write("scores.json", json.dumps(plain, indent=1).encode("ascii"))
    page = score_report(scored_videos(scores), redacted(checkpoint))
    out.write(REPORT, page.encode("utf-8", "replace"))
    return folder


def _csv(scores: Sequence[VideoScore]) -> str:
    """A header, and a row for each."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(scores[0].to_row()) if scores else ["video"])
    writer.writeheader()
    for score in scores:
        writer.writerow({k: printable(v) if isinstance(v, str) else v for k, v in score.to_row().items()})
    return text.getvalue()


def _chart(score: VideoScore) -> bytes:
    title = f"{printable(posixpath.basename(score.path))}: {score.status}"
    figure = timeline_figure(title, score.timeline, score.curve, best=score.offset_frames, in_sync=IN_SYNC_FRAMES)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _name(path: str) -> str:
    """A name that every file system takes and that no other path has."""
    stem = re.sub(
        r"[^\w.+=-]", "_", posixpath.splitext(posixpath.basename(path))[0].encode("ascii", "replace").decode()
    )
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"{stem[:60].strip('.') or 'video'}-{digest}"
