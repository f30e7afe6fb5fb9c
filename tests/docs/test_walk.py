"""The documentation's commands, really given: in a folder that holds what they speak of.

By default those that only look at files, normalize and export them, and plan; the slow test gives all of the README's
commands for one's own file and videos, in their order, from raw videos to an exported file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

from orchestrator.cli import app, main
from tests.docs.desk import CHECKPOINT, finish, furnish
from tests.docs.pages import SHELL, Shown, all_shown
from tests.docs.settings import EXAMPLE
from tests.docs.shell import MORE, Command, ShellError, commands, usage
from tests.docs.trees import WrongUse, call

_GIVEN = {"inspect", "normalize", "list", "verify", "diff", "export", "plan", "score"}
_GIVEN |= {"summary", "show", "history", "undo"}  # of `data`
"""Commands that take no second on small files."""
_ADDED = {"plan": ["--no-probe"]}
"""What keeps a command as short as that."""
_CODES = {"diff": [1], "doctor": [0, 1]}
"""Exit codes other than 0: the two files differ, and this machine may lack something."""
_WORDS = {"F": "latentsync"}
"""Placeholders that are no files."""
_RUN = CHECKPOINT.rpartition("/")[0]
_BUCKET = re.compile(r"(?:s3|gs)://[\w-]+/")
"""What of an address is left out: nothing here leaves this machine."""


@pytest.fixture(scope="module")
def desk(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which the commands are given."""
    folder, before = tmp_path_factory.mktemp("desk"), Path.cwd()
    furnish(folder)
    finish(folder, tiny_corpus)
    os.chdir(folder)
    yield folder
    os.chdir(before)


def _cheap(shown: Sequence[Shown]) -> list[tuple[str, ...]]:
    """Command lines of `orchestrator` in what is shown that are cheap to run, each once."""
    tree, found = typer.main.get_command(app), {}
    for each in shown:
        for command in _commands(each):
            words = [_here(word) for word in command.words[1:] if word not in (MORE, EXAMPLE)]
            if command.words[:1] == ("orchestrator",) and (name := _name(tree, words)) in _GIVEN:
                found[*words, *_ADDED.get(name, [])] = None
    return list(found)


def _here(word: str) -> str:
    """A word with what it speaks of on the desk."""
    return re.sub(rf"^{_RUN}/step-\d+$", CHECKPOINT, _BUCKET.sub("", _WORDS.get(word, word)))


def _commands(each: Shown) -> list[Command]:
    inline = each.kind == "inline" and each.text.startswith("orchestrator ")
    if not inline and each.language not in SHELL:
        return []
    try:
        return list(commands(usage(each.text) if inline else each.script))
    except ShellError:  # test_commands.py says where
        return []


def _name(tree: object, words: Sequence[str]) -> str:
    try:
        asked = call(tree, words, "orchestrator")
    except WrongUse:  # the name of a command in a text
        return ""
    return asked.name if asked else ""


@pytest.mark.parametrize("words", _cheap(all_shown()), ids=" ".join)
def test_a_cheap_command_does_what_the_documentation_says(
    desk: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words)
    said = capsys.readouterr()
    assert code in _CODES.get(words[0], [0]), said.err
    assert said.out
    if "--out" in words:
        assert (desk / words[words.index("--out") + 1]).exists()


def test_every_cheap_command_is_given_somewhere() -> None:
    tree = typer.main.get_command(app)
    assert {_name(tree, words) for words in _cheap(all_shown())} == _GIVEN


def test_a_command_that_fails_is_noticed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = _cheap([Shown("a page", 1, "orchestrator inspect no_such_file.pt\n", "bash")])
    assert main(words) == 2
    assert "no_such_file.pt" in capsys.readouterr().err


@pytest.mark.slow
def test_the_readmes_commands_lead_from_videos_to_a_file(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("facenet_pytorch", reason="`align` needs the extra align")
    from tests.data.align.face_video import Scene, write_face_video

    furnish(tmp_path)
    for number, speaker in enumerate(("ada", "grace")):
        write_face_video(tmp_path / "raw" / speaker / "talk.mp4", [Scene(50, background=number)], seed=number)
    monkeypatch.chdir(tmp_path)
    block = next(each for each in all_shown() if each.page == "README.md" and "sweep fork" in each.text)
    said = {}
    for command in commands(block.script):
        words = _shorter(command.words[1:])
        code = main(words)
        captured = capsys.readouterr()
        said[" ".join(words)] = captured.out
        assert code in _CODES.get(words[0], [0]), (words, captured.err)
    assert (tmp_path / "my_syncnet.pt").is_file()
    assert "next: " in said["inspect stable_syncnet.pt"]


def _shorter(words: Sequence[str]) -> list[str]:
    """The same command with fewer steps and pairs; the checkpoint is the last of so few steps."""
    numbers = {"20000": "4", CHECKPOINT: "runs/first/step-000000002"}
    fewer = ["--pairs", "4"] if words[0] in ("evaluate", "compare") else []
    return [*(numbers.get(word, word) for word in words), *fewer]
