"""What lies beside the weights: the entries of every dict on the way to them, outermost first.

Contract: entries are found by name, whatever layout they come from; what nobody asks for is left and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.checkpoint.formats.layouts.search import AVERAGES_ITSELF, TensorSet
from orchestrator.checkpoint.formats.layouts.values import entries_of, is_tensor
from orchestrator.checkpoint.formats.pickles import Inert

_INSIDE = ("train_state", "trainer_state", "training_state", "progress", "counters", "meta", "meta_info", "state")
"""Entries that hold counters of their own."""


@dataclass(frozen=True)
class Entry:
    """One thing beside the weights."""

    key: str
    """Its name in its dict."""
    where: str
    """Its name from the whole object on."""
    value: Any
    """What it is."""


class Scopes:
    """All entries beside the weights, and which of them were used."""

    def __init__(self, data: Any, taken: TensorSet) -> None:
        self.entries = list(_entries(data, taken))
        self.used: set[str] = set()

    def first(self, keys: Iterable[str], inside: bool = False) -> Entry | None:
        """The entry by the first of these names that is there; `inside` looks into dicts of counters, too."""
        pool = [*self.entries, *(self._inner() if inside else ())]
        for key in keys:
            for entry in pool:
                if entry.key == key and entry.value is not None:
                    self.use(entry)
                    return entry
        return None

    def all(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Entries that fit, none used yet."""
        return [entry for entry in self.entries if wanted(entry)]

    def use(self, entry: Entry) -> None:
        """It is carried over or settled."""
        self.used.add(entry.where)

    def left(self) -> tuple[str, ...]:
        """Names of what nobody used."""
        return tuple(entry.where for entry in self.entries if entry.where not in self.used)

    def _inner(self) -> Iterator[Entry]:
        for entry in self.entries:
            if entry.key in _INSIDE:
                for key, value in (entries_of(entry.value) or {}).items():
                    if isinstance(key, str):
                        yield Entry(key, f"{entry.where}.{key}", value)


def _entries(data: Any, taken: TensorSet) -> Iterator[Entry]:
    value, above = data, ""
    for key in taken.path:
        yield from _beside(value, above, key)
        value, above = _follow(value, key), f"{above}{key}."
        if value is None:
            return
    entries = entries_of(value)
    if entries is not None and taken.kind == "dict":
        parts = {name.partition(".")[0] for name in taken.weights}
        around = [entry for entry in _beside(value, above, "") if not _is_weight(entry, taken, parts)]
        averages = AVERAGES_ITSELF in entries
        yield from (entry for entry in around if not (averages and is_tensor(entry.value)))


def _is_weight(entry: Entry, taken: TensorSet, parts: set[str]) -> bool:
    """Among the weights themselves: their tensors, other dotted tensors, and dicts that they were joined from."""
    if is_tensor(entry.value):
        return entry.key in taken.weights or "." in entry.key
    return entry.key in parts and isinstance(entry.value, (Mapping, Inert))


def _beside(value: Any, above: str, key: str) -> Iterator[Entry]:
    entries = entries_of(value)
    if entries is None and isinstance(value, (list, tuple)):
        entries = {str(i): item for i, item in enumerate(value)}
    for name, item in (entries or {}).items():
        if name != key:
            yield Entry(str(name)[:80], f"{above}{str(name)[:80]}", item)


def _follow(value: Any, key: str) -> Any:
    entries = entries_of(value)
    if entries is not None:
        return entries.get(key)
    return value[int(key)] if isinstance(value, (list, tuple)) else None
