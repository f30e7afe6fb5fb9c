"""The layouts, in the order in which they are tried. A new one is a file here and a line in `LAYOUTS`."""

from __future__ import annotations

from orchestrator.checkpoint.formats.layouts.bare import BARE
from orchestrator.checkpoint.formats.layouts.latentsync import LATENTSYNC
from orchestrator.checkpoint.formats.layouts.wav2lip import WAV2LIP

LAYOUTS = (WAV2LIP, LATENTSYNC, BARE)
"""The first that detects an object takes it apart: the more entries a layout asks for, the earlier it comes."""

__all__ = ["LAYOUTS"]
