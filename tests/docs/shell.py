"""Shell text as the simple commands in it, by tree-sitter's grammar of bash.

Contract: commands inside of pipes, lists, loops and substitutions are found too; quotes are taken off, expansions stay
as they are written. What bash itself could not read is a `ShellError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

MORE = "..."
"""A word that stands for arguments of the reader's own."""
_OPTIONAL = re.compile(r"(?<=\s)\[([^\]]*)\]")


class ShellError(ValueError):
    """Text that is no shell script."""


@dataclass(frozen=True)
class Command:
    """A simple command: the variables set for it, and its words. `export X=1` and `X=1` have no other words."""

    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    line: int
    """Within the text, from 0."""


def commands(text: str) -> Iterator[Command]:
    """Every simple command, in order.

    Raises:
        ShellError: with the line that cannot be read.
    """
    tree = _parser().parse(text.encode())
    if tree.root_node.has_error:
        broken = next(node for node in _nodes(tree.root_node) if node.is_error or node.is_missing)
        raise ShellError(f"line {broken.start_point.row + 1} cannot be read as shell: {_text(broken)!r}")
    for node in _nodes(tree.root_node):
        if node.type in ("command", "declaration_command", "test_command") or _is_bare_assignment(node):
            yield _command(node)


def usage(text: str) -> str:
    """A line of usage as a command: what is optional is given, `a|b` and `[--option a, b]` are the first choice."""
    given = _OPTIONAL.sub(lambda optional: optional[1].partition(",")[0], text)
    return re.sub(r"(?<=\S)\|\S+", "", given)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _nodes(child)


def _is_bare_assignment(node: Node) -> bool:
    outside = ("command", "declaration_command", "variable_assignments")
    return node.type == "variable_assignment" and node.parent is not None and node.parent.type not in outside


def _command(node: Node) -> Command:
    parts = [node] if node.type == "variable_assignment" else node.children
    variables = [_assignment(part) for part in parts if part.type == "variable_assignment"]
    words = [_word(part) for part in parts if part.type != "variable_assignment" and not part.type.endswith("redirect")]
    return Command(tuple(words), tuple(variables), node.start_point.row)


def _assignment(node: Node) -> tuple[str, str]:
    name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
    assert name is not None
    return _text(name), "" if value is None else _word(value)


def _word(node: Node) -> str:
    """A word as the program gets it, but for expansions."""
    if node.type in ("command_name", "concatenation"):
        return "".join(map(_word, node.children))
    if node.type in ("string", "raw_string"):
        return _text(node)[1:-1]
    return _text(node)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))
