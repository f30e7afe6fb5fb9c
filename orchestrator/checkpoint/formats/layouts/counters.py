"""Steps and epochs, by the many names that trainers give them.

Rules: the first name in the list wins, an outer dict goes before an inner one; a string of digits is taken and said to
be one; anything else is no count, and the step is 0; without a counter the last step of the file's own lists is taken.
A number in the name of a file is never a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.checkpoint.formats.layouts.scopes import Scopes
from orchestrator.checkpoint.formats.layouts.values import count_decision, counted
from orchestrator.checkpoint.state import Decision, DecisionSource, Json

STEPS = (
    "global_step", "global_steps", "step", "iteration", "iterations", "iter", "n_iter", "niter", "it", "itr",
    "current_step", "train_step", "step_count",
)  # fmt: skip
"""Names of a count of optimizer steps done; `total_steps` and its like often mean those that are planned."""
EPOCHS = ("global_epoch", "epoch", "current_epoch", "n_epoch")
"""Names of a count of epochs done."""


def step_of(scopes: Scopes, metadata: Mapping[str, str]) -> tuple[int | None, Decision]:
    """Optimizer steps done, and how they are known."""
    return _count("step", STEPS, scopes, metadata)


def epoch_of(scopes: Scopes, metadata: Mapping[str, str]) -> tuple[int | None, Decision]:
    """Epochs done, and how they are known."""
    return _count("epoch", EPOCHS, scopes, metadata)


def step_of_lists(last: int, names: Sequence[str], otherwise: Decision) -> tuple[int, Decision]:
    """The last step of the lists, where no counter tells more."""
    why = f"{otherwise.why}; it is the last step of its lists ({', '.join(names)})"
    return last, Decision("step", DecisionSource.DERIVED, last, why)


def disagreement(scopes: Scopes, step: int) -> list[Decision]:
    """Other counters of the file that say otherwise."""
    found: dict[str, Json] = {}
    for entry in scopes.all(lambda entry: entry.key in STEPS):
        other, _ = counted(entry.value)
        if other is not None:
            scopes.use(entry)
            found |= {entry.where: other} if other != step else {}
    if not found:
        return []
    said = ", ".join(f"`{name}` is {value}" for name, value in found.items())
    why = f"other counters of the file differ and are left: {said}"
    return [Decision("step.others", DecisionSource.FILE, found, why)]


def _count(field: str, keys: Sequence[str], scopes: Scopes, metadata: Mapping[str, str]) -> tuple[int | None, Decision]:
    entry = scopes.first(keys, inside=True)
    if entry is not None:
        value, source = counted(entry.value)
        return value, count_decision(field, entry.where, entry.value, value, source)
    key = next((key for key in keys if key in metadata), None)
    if key is None:
        return None, _absent(field, keys[0])
    value, _ = counted(metadata[key])
    return value, count_decision(field, key, metadata[key], value, DecisionSource.FILE)  # metadata are all strings


def _absent(field: str, key: str) -> Decision:
    return Decision(field, DecisionSource.DEFAULT, 0, f"the file has no `{key}`")
