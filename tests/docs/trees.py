"""Command lines against real trees of click commands: a copy of the tree whose commands only tell what they got.

Contract: everything that click checks before it runs a command is checked: names, options, arguments, their types. A
word in capitals or an expansion of the shell stands for any value. Typer brings a click of its own, so that errors are
told from others by what they can do and not by their class.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.docs.shell import MORE

_CAPITALS = re.compile(r"[A-Z][A-Z_]*")


class WrongUse(ValueError):
    """What a program would refuse about its command line."""


@dataclass(frozen=True)
class Call:
    """A command as it would be run."""

    name: str
    values: dict[str, Any]
    """Parameters by name; those that are left out have their default."""


def is_placeholder(word: object) -> bool:
    """Whether a word stands for one of the reader's."""
    return isinstance(word, str) and (_CAPITALS.fullmatch(word) is not None or "$" in word or "<" in word)


def call(tree: Any, words: Sequence[str], name: str, *, mention: bool = False) -> Call | None:
    """What a command line asks of a program; none if it is answered by the tree itself, as `--help` is.

    A line with `...` before any `--` may lack what is required.

    Args:
        tree: a click command or group.
        words: what follows the program's name.
        name: the program's name.
        mention: whether the mere name of a command is enough.

    Raises:
        WrongUse: in click's words.
    """
    seen: list[Call] = []
    end = words.index("--") if "--" in words else len(words)
    own, rest = [word for word in words[:end] if word != MORE], list(words[end:])
    silent = _silent(tree, seen, partial=MORE in words[:end] or (mention and _is_name(tree, words)))
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            silent.main([*own, *rest], prog_name=name, standalone_mode=False)
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            raise WrongUse(f"{name}: {error.format_message().splitlines()[0]}") from None
    return seen[-1] if seen else None


def _is_name(tree: Any, words: Sequence[str]) -> bool:
    """Whether words lead from a group to a group or command, and no further."""
    for word in words:
        tree = getattr(tree, "commands", {}).get(word)
    return tree is not None


def _silent(command: Any, seen: list[Call], partial: bool) -> Any:
    """A copy of a command, with all below it, that does nothing."""
    twin = copy.copy(command)
    twin.params = [_lenient(parameter, partial) for parameter in command.params]
    if hasattr(command, "commands"):
        twin.commands = {name: _silent(inner, seen, partial) for name, inner in command.commands.items()}
        twin.callback = None
        if partial:
            twin.invoke_without_command, twin.no_args_is_help = True, False
    else:
        twin.callback = lambda **values: seen.append(Call(command.name, values))
    return twin


def _lenient(parameter: Any, partial: bool) -> Any:
    twin = copy.copy(parameter)
    twin.required = parameter.required and not partial
    convert = twin.process_value
    twin.process_value = lambda context, value: value if _stands_for(value) else convert(context, value)
    return twin


def _stands_for(value: object) -> bool:
    return any(map(is_placeholder, value)) if isinstance(value, (list, tuple)) else is_placeholder(value)
