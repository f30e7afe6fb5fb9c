"""How a chart becomes a part of a page.

Contract: a drawing for a page names no address, holds no id that could meet another one, takes its colours from the
page (so that it suits a dark screen) and marks what belongs to a trial with `data-trial`.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from orchestrator.charts.style import CHAMPION, GRID, INK, PAPER, QUIET, SHADES, STATES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {INK: "ink", QUIET: "quiet", GRID: "grid", PAPER: "paper", CHAMPION: "champion"}
_NAMES |= {color: state.replace(" ", "-") for state, color in STATES.items()}
_NAMES |= {color: f"shade-{index}" for index, color in enumerate(SHADES)}
_EMPTY_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def drawing(figure: Figure, name: str) -> str:
    """A figure as SVG for the inside of a page; `name` keeps its inner ids apart from those of other drawings."""
    import matplotlib

    file = io.StringIO()
    # letters stay letters: they can be searched, scale with the page's font and take a tenth of the room of outlines
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=_EMPTY_METADATA)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text, count=2)
    text = re.sub(r'<g id="trial:([^"]*)">', r'<g data-trial="\1">', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="presentation">', text, count=1)
    for color, variable in _NAMES.items():
        text = re.sub(rf"(?<=[: ]){color}(?=[;\"])", f"var(--{variable})", text)
    return re.sub(r"\n\s*", "\n", text)
