"""Every link of the documentation to itself leads somewhere: to a file of the repository, and to a heading in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.pages import PAGES, ROOT

_ELSEWHERE = ("http://", "https://", "mailto:")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page.read_text("utf-8"), page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One two: `three`\n")
    text = "[a](other.md#one-two-three) [b](other.md#one) [c](none.md) [d](#here) [e](https://example.org)\n\n# Here\n"
    (tmp_path / "page.md").write_text(text)
    assert list(broken_links(text, tmp_path / "page.md")) == ["other.md#one", "none.md"]


def broken_links(text: str, page: Path) -> Iterator[str]:
    """Links in a page that lead nowhere."""
    for link in _links(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


def _links(text: str) -> Iterator[str]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or ():
            link = str(child.attrGet("href") or child.attrGet("src") or "")
            if link and not link.startswith(_ELSEWHERE):
                yield link


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Headings as GitHub makes anchors of them."""
    tokens = MarkdownIt("commonmark").parse(page.read_text("utf-8"))
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)
