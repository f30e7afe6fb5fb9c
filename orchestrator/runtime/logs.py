"""Logs that programs read: with `ORCHESTRATOR_LOG=json` every line is a JSON object that says what it belongs to.

Contract: a line holds `time` (UTC), `level`, `event` and `message` and, where it is known, `run`, `trial` and `rank`.
Who prints need not know: a console of either kind is handed to it. Text for people is the default.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from orchestrator.errors import ConfigError

VARIABLE = "ORCHESTRATOR_LOG"
"""The variable of the environment: `text` or `json`."""

_TRIAL = re.compile(r"trial (\d{3,})\b")
"""How lines about a trial of a sweep begin."""
_who: dict[str, Any] = {}
"""What this process works at, as far as it was told."""


class JsonConsole(Console):
    """A console that prints JSON, one object a line, whatever it is asked to print.

    Args:
        now: seconds since the epoch.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, **options: Any) -> None:
        super().__init__(force_terminal=False, no_color=True, highlight=False, **options)
        self._now, self._one = now, threading.Lock()

    def print(self, *objects: Any, **options: Any) -> None:
        """Print a line whose event nobody named."""
        with self.capture() as captured:
            super().print(*objects, **options)
        text = "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")
        if text:
            self.event("output", text)

    def event(self, event: str, message: str, *, level: str = "info", **about: Any) -> None:
        """Print a line.

        Args:
            event: what kind of line it is.
            message: what a person would read.
            level: `info`, `warning` or `error`.
            about: what it belongs to, and figures; what is empty is left out.
        """
        line = as_json(self._now(), level, event, message, about)
        with self._one:
            self.file.write(line + "\n")
            self.file.flush()


class JsonFormatter(logging.Formatter):
    """Records of Python's logging in the same form, with the logger's name."""

    def format(self, record: logging.LogRecord) -> str:
        about = {"logger": record.name}
        if record.exc_info:
            about["traceback"] = self.formatException(record.exc_info)
        return as_json(record.created, record.levelname.lower(), "log", record.getMessage(), about)


def wants_json(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether logs are asked for as JSON.

    Raises:
        ConfigError: as something else than text or JSON.
    """
    wanted = environ.get(VARIABLE, "text")
    if wanted not in ("text", "json"):
        raise ConfigError([f"{VARIABLE} must be `text` or `json`, but is {wanted!r}"], source="the environment")
    return wanted == "json"


def console(**options: Any) -> Console:
    """A console of the kind that is asked for; where something else is asked for, one for people.

    Args:
        options: of `rich.console.Console`.
    """
    return JsonConsole(**options) if os.environ.get(VARIABLE) == "json" else Console(highlight=False, **options)


def say(console: Console, run: str, text: str, *, event: str = "note", markup: bool = False, **about: Any) -> None:
    """Print one line about a run or sweep.

    Args:
        console: of either kind.
        run: its name.
        text: the line.
        event: what kind of line it is.
        markup: whether the text is console markup.
        about: figures, for those who read JSON.
    """
    if isinstance(console, JsonConsole):
        message = Text.from_markup(text).plain if markup else text
        trial = _TRIAL.match(message)
        console.event(event, message, run=run, trial=trial[1] if trial else "", **about)
    else:
        line = f"{escape(run)}: {text}" if markup else f"{run}: {text}"
        console.print(line, highlight=False, markup=markup, soft_wrap=True)


def take_over(*names: str) -> None:
    """Have loggers print JSON, where it is asked for; what they write into files stays as it is.

    Args:
        names: of the loggers; the root's is empty.
    """
    if not wants_json():
        return
    logging.captureWarnings(True)
    stream = logging.StreamHandler()
    stream.setFormatter(JsonFormatter())
    for logger in map(logging.getLogger, names):
        speaks = not (logger.parent and logger.propagate)  # or else one further up does
        logger.handlers = [*(one for one in logger.handlers if not _prints(one)), *([stream] if speaks else [])]


def identify(folder: str, rank: int) -> None:
    """Have every record that this process logs from now on tell what it works at.

    Args:
        folder: of the run, or of the trial of a sweep.
        rank: of this worker.
    """
    if not _who:
        make = logging.getLogRecordFactory()

        def made(*arguments: Any, **options: Any) -> logging.LogRecord:
            record = make(*arguments, **options)
            record.__dict__.update(_who)
            return record

        logging.setLogRecordFactory(made)
    _who.update({**whose(folder), "rank": rank})
    take_over("", "ray", "ray.train")


def whose(folder: str) -> dict[str, str]:
    """The run and, of a sweep, the trial that a folder is of; a path or a URI."""
    path = PurePosixPath(folder.partition("?")[0])
    if path.parent.name == "trials":
        return {"run": path.parent.parent.name, "trial": path.name}
    return {"run": path.name}


def as_json(at: float, level: str, event: str, message: str, about: Mapping[str, Any]) -> str:
    """A line."""
    known = {key: value for key, value in {**_who, **about}.items() if value not in ("", None)}
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment, "level": level, **known, "event": event, "message": message}, default=str)


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
