"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check and its outcome."""

    check: str
    """What was looked at."""
    found: str
    """What is there."""
    ok: bool = True
    """False where training would fail or lose something."""
    hint: str = ""
    """What to do about it; beside `ok` something that could be better."""
