"""LRS2 and LRS3: `main|pretrain|trainval|test/<id>/00001.mp4` with the words beside it in `00001.txt`.

`<id>` is one broadcast or talk, which is as near to the speaker as these data sets say. The same id appears in several
of the sets, so the set does not belong to the speaker. A root that is one of the sets itself (`<id>/00001.mp4`) is
known by the text files.
"""

from __future__ import annotations

import re
from collections.abc import Set

from orchestrator.data.importers.clips import NameLayout

_CLIP = re.compile(r"(?:.*/)?(?P<set>main|pretrain|trainval|test)/(?P<id>[^/]+)/\d{5}", re.DOTALL)
_BARE = re.compile(r"(?P<id>[^/]+)/\d{5}")


def speaker(clip: str, names: Set[str]) -> str | None:
    """The folder of the clip, which is one broadcast or talk."""
    match = _CLIP.fullmatch(clip)
    if match is None and f"{clip}.txt" in names:
        match = _BARE.fullmatch(clip)
    return match["id"] if match else None


LRS = NameLayout(
    "lrs",
    "LRS2 or LRS3",
    "main|pretrain|trainval|test/<id>/00001.mp4",
    "the <id> folder, one broadcast or talk",
    speaker,
)
