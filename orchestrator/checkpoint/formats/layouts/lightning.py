"""Lightning's files: `state_dict`, `global_step`, `epoch`, lists of optimizers and schedules, callbacks, settings.

`global_step` counts optimizer steps. The best figure is that of the ModelCheckpoint callback; with its callback for
averages, `state_dict` holds the averages and `current_model_state` the plain weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.figures import best_of
from orchestrator.checkpoint.formats.layouts.gather import training_state
from orchestrator.checkpoint.formats.layouts.scopes import Scopes
from orchestrator.checkpoint.formats.layouts.values import number
from orchestrator.checkpoint.state import Best, Decision, DecisionSource

_MARKS = {"pytorch-lightning_version", "optimizer_states", "lr_schedulers", "hparams_name", "loops"}


def detect(contents: Contents) -> bool:
    """Whether a dict has a `state_dict` and something that only Lightning writes."""
    data = contents.data
    return isinstance(data, dict) and isinstance(data.get("state_dict"), Mapping) and bool(_MARKS & data.keys())


def extract(contents: Contents, weights: str, path: Path) -> Extracted:
    """Everything."""
    return training_state(contents, weights, path, lambda found: "lightning", _best)


LIGHTNING = Layout("lightning", detect, extract)


def _best(scopes: Scopes, step: int | None) -> tuple[Best | None, list[Decision]]:
    """Of the first ModelCheckpoint callback that watches a figure."""
    callbacks = next((entry for entry in scopes.entries if entry.key == "callbacks"), None)
    states: Any = callbacks.value.values() if callbacks and isinstance(callbacks.value, Mapping) else ()
    for state in states:
        value = number(state.get("best_model_score")) if isinstance(state, Mapping) else None
        if value is not None and isinstance(state.get("monitor"), str):
            best = Best(state["monitor"], float(value), step or 0)
            why = "the best score of Lightning's ModelCheckpoint; when it was measured is not said"
            told = Decision("best", DecisionSource.FILE, {"metric": best.metric, "value": best.value}, why)
            return best, [told]
    return best_of(scopes, step)
