"""Lines of JSON where they are asked for: each whole, each with what it belongs to; text for people otherwise."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.runtime import logs
from orchestrator.runtime.logs import VARIABLE, JsonConsole, JsonFormatter, say, wants_json, whose
from orchestrator.runtime.train import train


@pytest.fixture
def console() -> JsonConsole:
    return JsonConsole(file=io.StringIO(), width=80, now=lambda: 1_700_000_000.25)


def lines(console: Console) -> list[dict[str, Any]]:
    """What was printed; every line must be an object."""
    assert isinstance(console.file, io.StringIO)
    return [json.loads(line) for line in console.file.getvalue().splitlines()]


def test_a_line_tells_what_it_belongs_to(console: JsonConsole) -> None:
    say(console, "first", "saves a checkpoint [soon]")
    say(console, "first", "trial 007 is stopped: asha: too slow")
    say(console, "first", "3/12 [green]LEARNING[/], loss 0.5", event="progress", markup=True, completed=3, total=12)
    known = {"time": "2023-11-14T22:13:20.250Z", "level": "info", "run": "first"}
    assert lines(console) == [
        {**known, "event": "note", "message": "saves a checkpoint [soon]"},
        {**known, "trial": "007", "event": "note", "message": "trial 007 is stopped: asha: too slow"},
        {**known, "completed": 3, "total": 12, "event": "progress", "message": "3/12 LEARNING, loss 0.5"},
    ]


def test_text_is_the_default() -> None:
    console = Console(file=io.StringIO(), width=20)
    say(console, "first", "saves a checkpoint [soon], and goes on until then")
    say(console, "first", "3/12 [green]LEARNING[/]", event="progress", markup=True, completed=3, total=12)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "first: saves a checkpoint [soon], and goes on until then\nfirst: 3/12 LEARNING\n"
    )


def test_whatever_is_printed_is_one_object_each(console: JsonConsole) -> None:
    table = Table("rank", "trial", box=None)
    table.add_row("1", "000")
    console.print(table)
    console.print("[bold]done[/] in", 3, "s", style="dim")
    console.print()
    console.print("ünïcode \udcff", markup=False)
    found = lines(console)
    assert [line["event"] for line in found] == ["output"] * 3
    assert [line["message"] for line in found] == [" rank  trial\n 1     000", "done in 3 s", "ünïcode \udcff"]


def test_lines_of_many_threads_stay_whole(console: JsonConsole) -> None:
    def talk(name: str) -> None:
        for number in range(50):
            say(console, name, "x" * number)

    threads = [threading.Thread(target=talk, args=(f"run{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(console)) == 400


def test_records_of_pythons_logging() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        record = logging.LogRecord("alembic", logging.WARNING, "f.py", 1, "%d tables", (3,), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["event"], line["logger"], line["message"]) == ("warning", "log", "alembic", "3 tables")
    assert line["traceback"].endswith("ValueError: no such thing")


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/shared/runs/first", {"run": "first"}),
        ("/shared/runs/search/trials/003", {"run": "search", "trial": "003"}),
        ("s3://bucket/runs/search/trials/003?endpoint_override=http://s3:7070", {"run": "search", "trial": "003"}),
    ],
)
def test_whose_a_folder_is(folder: str, found: dict[str, str]) -> None:
    assert whose(folder) == found


def test_a_setting_that_is_none_is_refused() -> None:
    assert not wants_json({}) and not wants_json({VARIABLE: "text"}) and wants_json({VARIABLE: "json"})
    with pytest.raises(ConfigError, match="ORCHESTRATOR_LOG must be `text` or `json`, but is 'yaml'"):
        wants_json({VARIABLE: "yaml"})


def test_a_run_in_json(tiny_config: RunConfig, console: JsonConsole) -> None:
    for _ in range(2):
        train(tiny_config, "run", console=console)
    found = lines(console)
    assert {line["run"] for line in found} == {"run"}
    assert [line["message"] for line in found if line["event"] == "start"] == [
        "starts from scratch",
        "is finished already: 12 steps",
    ]


_WORKER = """
import logging
import sys
from orchestrator.runtime.logs import identify
logging.getLogger("ray.train").addHandler(logging.FileHandler(sys.argv[1]))
for trial in ("000", "001"):
    identify(f"/runs/search/trials/{trial}", rank=0)
    logging.getLogger("ray.train").warning("one")
    logging.getLogger("somebody").error("two")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_records_of_a_worker_carry_what_it_works_at(tmp_path: Path, form: str) -> None:
    file = tmp_path / "kept.log"
    command = [sys.executable, "-c", _WORKER, file]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, VARIABLE: form})
    assert file.read_text() == "one\none\n", "files of others stay as they are"
    if form == "text":
        assert done.stderr == "two\ntwo\n"
        return
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert {(line["run"], line["rank"]) for line in found} == {("search", 0)}
    wanted = [("000", "ray.train"), ("000", "somebody"), ("001", "ray.train"), ("001", "somebody")]
    assert [(line["trial"], line["logger"]) for line in found] == wanted


def test_a_command_in_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "status", "nothing", "--storage", str(tmp_path)]
    for form, code in (("json", 2), ("yaml", 2)):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, VARIABLE: form})
        assert done.returncode == code and done.stdout == ""
        if form == "json":
            (line,) = [json.loads(line) for line in done.stderr.splitlines()]
            assert (line["level"], line["event"]) == ("error", "error") and "no run 'nothing'" in line["message"]
        else:
            assert "must be `text` or `json`" in done.stderr


def test_the_console_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(logs.console(), JsonConsole)
    monkeypatch.setenv(VARIABLE, "json")
    assert isinstance(logs.console(width=200), JsonConsole) and not logs.console().is_terminal
