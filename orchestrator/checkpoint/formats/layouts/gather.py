"""A training state out of any object: the weights that are meant, and everything that is carried over beside them.

All layouts end here; what makes them different is what they are called and a few entries that only they have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.formats.base import Contents, Extracted
from orchestrator.checkpoint.formats.layouts.averages import classify
from orchestrator.checkpoint.formats.layouts.choice import Chosen, choose
from orchestrator.checkpoint.formats.layouts.counters import disagreement, epoch_of, step_of, step_of_lists
from orchestrator.checkpoint.formats.layouts.described import described, described_in_text
from orchestrator.checkpoint.formats.layouts.extras import generators_of, optimizers_of, scaler_of, schedule_of
from orchestrator.checkpoint.formats.layouts.figures import Table, best_of, table_of
from orchestrator.checkpoint.formats.layouts.scopes import Scopes
from orchestrator.checkpoint.formats.layouts.search import tensor_sets
from orchestrator.checkpoint.state import AnyModelConfig, Best, Decision, DecisionSource, Json

BestReader = Callable[[Scopes, int | None], tuple[Best | None, list[Decision]]]
"""How a layout finds its best figure."""


@dataclass
class Parts:
    """What was found beside the weights, while it is collected."""

    step: int | None = None
    """Optimizer steps done."""
    epoch: int | None = None
    """Epochs done."""
    history: list[dict[str, Json]] = field(default_factory=list)
    """Past figures."""
    decisions: list[Decision] = field(default_factory=list)
    """What had to be settled."""


def chosen_weights(contents: Contents, weights: str, path: Path) -> Chosen:
    """The set of tensors that is meant.

    Raises:
        CheckpointError: `mismatch`, when several could be.
    """
    sets = tensor_sets(contents)
    return choose(classify(sets, contents.data), [item for item in sets if item.is_model], weights, path)


def training_state(
    contents: Contents, weights: str, path: Path, name: Callable[[Extracted], str], best: BestReader = best_of
) -> Extracted:
    """Everything that is carried over.

    Args:
        contents: what was read.
        weights: `raw` or `ema`.
        path: for messages.
        name: what the layout is called, by what was found.
        best: how it keeps its best figure.

    Raises:
        CheckpointError: `mismatch`, when it is not clear which weights are meant.
    """
    chosen = chosen_weights(contents, weights, path)
    scopes = Scopes(contents.data, chosen.taken)
    parts = _parts(scopes, contents)
    optimizer, no_optimizer = _optimizer(optimizers_of(scopes), chosen)
    figure, told = best(scopes, parts.step)
    schedule, scheduled = schedule_of(scopes)
    scaler, scaled = scaler_of(scopes)
    config, described_by = _network(scopes, contents, chosen, path)
    extracted = Extracted(
        format="",
        weights=chosen.taken.weights,
        step=parts.step,
        epoch=parts.epoch,
        history=parts.history,
        best=figure,
        optimizer=optimizer,
        no_optimizer=no_optimizer,
        schedule=schedule,
        scaler=scaler,
        model_config=config,
        decisions=(
            *_place(chosen), *chosen.decisions, *parts.decisions, *told, *scheduled, *scaled, *described_by,
            *generators_of(scopes),
        ),
        ignored=scopes.left(),
    )  # fmt: skip
    return replace(extracted, format=name(extracted))


def _parts(scopes: Scopes, contents: Contents) -> Parts:
    step, step_told = step_of(scopes, contents.metadata)
    epoch, epoch_told = epoch_of(scopes, contents.metadata)
    table: Table = table_of(scopes, step)
    if step is None and table.last is not None:
        step, step_told = step_of_lists(table.last, table.names, step_told)
    history = table.until(step)
    decisions = [step_told, epoch_told, *(disagreement(scopes, step) if step is not None else ())]
    return Parts(step, epoch, history, [*decisions, *table.decisions(len(history))])


def _optimizer(found: list[Any], chosen: Chosen) -> tuple[Any, str]:
    """The optimizers of the file, or none and why."""
    if found and chosen.averaged:
        return None, "the file's moments belong to the plain weights, not to the averaged ones that were taken"
    return (found[0] if len(found) == 1 else found or None), "the file holds none"


def _network(
    scopes: Scopes, contents: Contents, chosen: Chosen, path: Path
) -> tuple[AnyModelConfig | None, list[Decision]]:
    config, decisions = described_in_text(contents.metadata.get("model_config"))
    if config is not None or decisions:
        return config, decisions
    return described(scopes, chosen.taken.weights, str(path))


def _place(chosen: Chosen) -> list[Decision]:
    """Where the weights were, unless that is plain to see."""
    if len(chosen.taken.path) < 2:
        return []
    why = "the only SyncNet in the file lies there"
    return [Decision("weights.entry", DecisionSource.DERIVED, chosen.taken.where, why)]
