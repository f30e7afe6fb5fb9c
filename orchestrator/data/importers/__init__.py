"""Importers: from what people have lying on a disk or in a bucket to one list of clips with their speakers.

Each layout is one small file; `layouts` chooses between them and `recognise` is the part that needs nothing but names.
`find_clips` is the door, `open_clips` the one for a person's own words (a folder, or a list or table itself).
"""

from orchestrator.data.importers.clips import Listing, SourceClip
from orchestrator.data.importers.layouts import LAYOUTS, find_clips, open_clips
from orchestrator.data.importers.recognise import recognise

__all__ = ["LAYOUTS", "Listing", "SourceClip", "find_clips", "open_clips", "recognise"]
