"""What a case of the zoo is: how to make a file, and what must come of it.

Contract: `build(folder)` writes below `folder` only and returns the file or folder that is given to `normalize`. A
payload in a hostile file makes `folder / MARK`, which must never appear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestrator.config.model import AnyModelConfig
from orchestrator.errors import RefusalReason
from tests.zoo.nets import stable_weights

Weights = dict[str, Tensor]
Moments = dict[str, dict[str, Tensor]]
Build = Callable[[Path], Path]

MARK = "the-payload-ran"
"""Name of the file that payloads make."""


@dataclass(frozen=True)
class Good:
    """A file that must be read."""

    name: str
    """Unique in the zoo, and the id of its test."""
    group: str
    """Row of the table."""
    build: Build
    """Writes it."""
    expected: Callable[[], Weights] = stable_weights
    """The weights that must come out, by clean names and in float32, bit for bit."""
    model: Callable[[], AnyModelConfig] | None = None
    """The network, where it is neither the tiny StableSyncNet nor Wav2Lip's."""
    step: int | None = 0
    """The step that must come out; none where the format does not settle it."""
    epoch: int | None = 0
    """The epoch that must come out; none where the format does not settle it."""
    moments: Callable[[], Moments] | None = None
    """Adam's `exp_avg` and `exp_avg_sq` by parameter name that must come out; without, the optimizer is fresh."""
    history: bool = False
    """Whether a table of past figures must come out."""
    scaler: bool = False
    """Whether the state of a gradient scaler must come out."""
    best: float | None = None
    """The best figure that must come out."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for `normalize`."""
    decides: tuple[str, ...] = ()
    """Words that must occur in the decisions of the report, in any case of letters."""
    slow: bool = False
    """Whether making it takes more than five seconds."""


@dataclass(frozen=True)
class Bad:
    """A file that must be refused."""

    name: str
    """Unique in the zoo, and the id of its test."""
    group: str
    """Row of the table."""
    build: Build
    """Writes it."""
    reason: RefusalReason | tuple[RefusalReason, ...]
    """Why; several where more than one answer is right."""
    says: tuple[str, ...] = ()
    """Words that the message must contain, in any case of letters."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for `normalize`."""
    slow: bool = False
    """Whether making or refusing it takes more than five seconds."""

    @property
    def reasons(self) -> tuple[RefusalReason, ...]:
        """The right answers."""
        return self.reason if isinstance(self.reason, tuple) else (self.reason,)


Case = Good | Bad
