"""What stands in a read object where the file names something that only its makers know.

A `Global` is a name, an `Inert` what would have been made by calling it. Neither does anything: nothing is imported
or called for them. Contract: both are hashable by identity or value, so that they may be keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Global:
    """A class or function that the file names."""

    module: str
    """Where it would be imported from."""
    name: str
    """Its name there, with dots for what is nested."""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
    """An object that was not made: what the file gave for it, and nothing else."""

    __slots__ = ("args", "entries", "items", "kwargs", "origin", "state")

    def __init__(self, origin: Global, args: tuple[Any, ...] = (), kwargs: Mapping[Any, Any] | None = None) -> None:
        self.origin = origin
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.state: Any = None
        """What the object's state would be set to."""
        self.items: list[Any] = []
        """What would be appended to it."""
        self.entries: dict[Any, Any] = {}
        """What would be set in it by key."""

    def __repr__(self) -> str:
        return f"<{self.origin}, not made>"

    def attributes(self) -> dict[str, Any]:
        """Its state as attributes by name; empty when it is anything else. A pair is (`__dict__`, slots)."""
        state = self.state
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        found: dict[str, Any] = {}
        for part in parts:
            if isinstance(part, dict):
                found |= {key: value for key, value in part.items() if isinstance(key, str)}
        return found


class OddTensor(Inert):
    """A tensor of a kind that cannot be weights here: sparse, quantized, one rank's shard."""

    __slots__ = ("kind",)

    def __init__(self, origin: Global, args: tuple[Any, ...], kind: str) -> None:
        super().__init__(origin, args)
        self.kind = kind
