"""The commands that ask a finished network: `score` says of videos whether they are in sync."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from orchestrator.cli.console import AsJson, ModelFile, model_in, out, print_json, print_lines
from orchestrator.runtime import logs

if TYPE_CHECKING:
    from orchestrator.evaluation.score import VideoScore

Videos = Annotated[
    list[str], typer.Argument(metavar="VIDEO...", help="Videos, folders of videos, or lists of them (.txt); also URIs.")
]
_EVERY_S = 10.0
"""Seconds between lines of a log."""
_COLOURS = {"in sync": "green", "out of sync": "red", "parts differ": "red", "failed": "red"}


def score(
    videos: Videos,
    checkpoint: Annotated[str, typer.Option("--checkpoint", metavar="FILE", help="The network: any SyncNet file.")],
    config: ModelFile = None,
    face: Annotated[
        Literal["auto", "aligned", "align"],
        typer.Option(help="aligned: the picture is the aligned face. align: find the face. auto: look."),
    ] = "auto",
    max_offset: Annotated[int, typer.Option(min=2, max=100, help="Frames to either side that are tried.")] = 15,
    max_seconds: Annotated[float, typer.Option(min=1, help="Judge no more of each video than this.")] = 300,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write a report, a table, JSON and a chart of each."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Whether videos are in sync: how many frames the sound is early or late, and how sure that is."""
    from orchestrator.evaluation.score import score as run
    from orchestrator.evaluation.scores import write_csv, write_scores

    with _progress(Console(quiet=True) if as_json else out) as (on_start, on_done):
        scores = run(
            videos,
            checkpoint,
            model_config=model_in(config),
            face=face,
            max_offset=max_offset,
            max_seconds=max_seconds,
            on_start=on_start,
            on_done=on_done,
        )
    written = [str(write_csv(csv, scores))] if csv is not None else []
    written += [str(write_scores(folder, scores, checkpoint))] if folder is not None else []
    if as_json:
        print_json([each.to_dict() for each in scores])
    else:
        _print_scores(scores, face)
        print_lines(f"wrote {place}" for place in written)
    raise typer.Exit(int(not any(each.judged for each in scores)))


@dataclass
class _Teller:
    """Tells a log how far it is."""

    console: Console
    clock: Callable[[], float]
    total: int = 0
    done: int = 0

    def start(self, total: int) -> None:
        self.total, self._began = total, self.clock()
        self._said = self._began

    def tell(self) -> None:
        """Take the end of a video."""
        self.done += 1
        now = self.clock()
        if now - self._said >= _EVERY_S and self.done < self.total:
            self._said = now
            left = (now - self._began) / self.done * (self.total - self.done)
            line = f"scored {self.done} of {self.total} videos, about {left:.0f} s left"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _progress(
    console: Console, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Callable[[int], None], Callable[[VideoScore], None]]]:
    """A live bar on a terminal, a line now and then elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    live = console.is_terminal and not console.quiet
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not live, transient=True) as bar:
        task, teller = bar.add_task("score", total=None), _Teller(console, clock)

        def on_start(total: int) -> None:
            teller.start(total)
            bar.update(task, total=total)

        def on_done(_: VideoScore) -> None:
            bar.update(task, advance=1)
            if not live:
                teller.tell()

        yield on_start, on_done


def _print_scores(scores: Sequence[VideoScore], asked: str) -> None:
    """The table, then of each video why; for programs a line of JSON each."""
    if isinstance(out, logs.JsonConsole):
        for each in scores:
            out.event("score", _line(f"{each.path}: {each.status}; {each.why}"), facts=each.to_row())
        return
    table = Table("video", "verdict", "frames", "ms", "confidence", "LSE-D", "LSE-C", box=None)
    for name in ("frames", "ms", "confidence", "LSE-D", "LSE-C"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for each in scores:
        verdict, colour = str(each.status), _COLOURS.get(each.status)
        table.add_row(
            escape(_line(each.path)),
            f"[{colour}]{verdict}[/]" if colour else verdict,
            _shown(each.offset_frames, "+.1f"),
            _shown(each.offset_ms, "+.0f"),
            _shown(each.confidence, ".2f"),
            _shown(each.lse_d, ".3f"),
            _shown(each.lse_c, ".3f"),
        )
    out.print(table)
    for each in scores:
        print_lines([_line(f"{each.path}: {each.status}; {each.why}")])
        remarks = [f"face {each.face}"] if asked == "auto" and each.face else []
        print_lines(_line(f"  {remark}") for remark in (*remarks, *each.notes))


def _line(text: str) -> str:
    """One line of valid Unicode, whatever a file is called."""
    from orchestrator.data.files import printable

    return printable(text).replace("\r", "\\r").replace("\n", "\\n")


def _shown(value: Any, form: str) -> str:
    if value is None:
        return ""
    text = format(value, form)
    return text if float(text) else format(0.0, form)  # no minus before a zero
