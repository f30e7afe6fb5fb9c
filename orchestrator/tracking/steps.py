"""Which metric values still have to be logged: each step of each metric once, finite numbers only.

Why: a run that continues from an older checkpoint passes through steps that it has logged already, and MLflow would
show them twice; a NaN breaks its charts. Contract: plain bookkeeping, no mlflow in it; a step counts as logged once
`commit` has seen it, so that a failed call can be repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NONFINITE_PREFIX = "nonfinite."
"""Tags of this name count the values of a metric that were not numbers."""


@dataclass(frozen=True)
class NonFinite:
    """How often a metric was NaN or infinite."""

    count: int
    """Values left out."""
    first_step: int
    """Step of the first of them."""
    last_step: int
    """Step of the last of them."""

    def __str__(self) -> str:
        return json.dumps(asdict(self))


class StepFilter:
    """The highest step seen of every metric.

    Args:
        last_logged: metric -> its highest step in the store, or none; asked once per metric, when it first turns up.
        tags: the tags of the run as they are in the store, for its counts of values that were not numbers.
    """

    def __init__(self, last_logged: Callable[[str], int | None], tags: Mapping[str, str]) -> None:
        self._last_logged = last_logged
        self._tags = tags
        self._last: dict[str, int] = {}

    def split(self, values: Mapping[str, Any], step: int) -> tuple[dict[str, float], dict[str, float]]:
        """The values of metrics that have none at this step or after it: those that are finite, those that are not."""
        fresh = {name: float(value) for name, value in values.items() if step > self.last(name)}
        finite = {name: value for name, value in fresh.items() if math.isfinite(value)}
        return finite, {name: value for name, value in fresh.items() if name not in finite}

    def count(self, names: Iterable[str], step: int) -> dict[str, str]:
        """The tags that say that these metrics were no numbers at this step, and at how many steps before it."""
        return {NONFINITE_PREFIX + name: str(self._counted(name, step)) for name in names}

    def commit(self, names: Iterable[str], step: int) -> None:
        """Remember that these metrics are logged up to and including `step`."""
        self._last.update(dict.fromkeys(names, step))

    def last(self, name: str) -> int:
        """The highest step of a metric so far; -1 before the first."""
        if name not in self._last:
            skipped = self._skipped(name)
            steps = [self._last_logged(name), skipped.last_step if skipped else None]
            self._last[name] = max((step for step in steps if step is not None), default=-1)
        return self._last[name]

    def _counted(self, name: str, step: int) -> NonFinite:
        before = self._skipped(name)
        return NonFinite(before.count + 1, before.first_step, step) if before else NonFinite(1, step, step)

    def _skipped(self, name: str) -> NonFinite | None:
        """The values of a metric that were not numbers so far."""
        text = self._tags.get(NONFINITE_PREFIX + name)
        return None if text is None else NonFinite(**json.loads(text))
