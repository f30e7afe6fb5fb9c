"""The layouts, in the order in which they are tried. A new one is a file here and a line in `LAYOUTS`."""

from __future__ import annotations

from orchestrator.checkpoint.formats.base import Contents, Layout
from orchestrator.checkpoint.formats.layouts.anything import ANYTHING
from orchestrator.checkpoint.formats.layouts.bare import BARE
from orchestrator.checkpoint.formats.layouts.dinet import DINET
from orchestrator.checkpoint.formats.layouts.latentsync import LATENTSYNC
from orchestrator.checkpoint.formats.layouts.lightning import LIGHTNING
from orchestrator.checkpoint.formats.layouts.modules import MODULES
from orchestrator.checkpoint.formats.layouts.wav2lip import WAV2LIP

LAYOUTS = (LIGHTNING, WAV2LIP, DINET, LATENTSYNC, MODULES, BARE, ANYTHING)
"""The first that detects an object takes it apart: the more entries a layout asks for, the earlier it comes."""


def layout_of(contents: Contents) -> Layout | None:
    """How an object is laid out; none where it holds no tensors of a model."""
    if not ANYTHING.detect(contents):
        return None
    return next(layout for layout in LAYOUTS if layout.detect(contents))


__all__ = ["LAYOUTS", "layout_of"]
