"""Optimizers, schedules, gradient scalers and generators beside the weights, by the names that trainers give them.

Contract: optimizers come out as the file has them (which of several fits is told by their shapes, later); a schedule is
plain data; a scaler has its five fields with sensible values or is left; generators of other programs are never taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.checkpoint.formats.layouts.scopes import Entry, Scopes
from orchestrator.checkpoint.formats.layouts.values import count, entries_of, number
from orchestrator.checkpoint.formats.pickles import plain
from orchestrator.checkpoint.state import Decision, DecisionSource, Json

_OPTIMIZER = re.compile(r"(^|_)optim(izer)?s?(_|$)|^opt(_state(_dict)?)?$|^optimizer", re.IGNORECASE)
_SCHEDULE = re.compile(r"sched", re.IGNORECASE)
_SCALER = re.compile(
    r"(^|_)(grad)?scaler(_|$)|^amp$|^MixedPrecision|^native_amp_scaling_state$|^amp_scal", re.IGNORECASE
)
_RNG = re.compile(r"(^|_)rng|random_?state|generator_state|^seed_state", re.IGNORECASE)
_SCALER_FIELDS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
_ONLY_COUNTS = ("step", "steps", "epoch", "step_size", "count", "index")


def optimizers_of(scopes: Scopes) -> list[Any]:
    """Every optimizer's state as it is, also where it is an object or a senseless value; but no None."""
    found: list[Any] = []
    for entry in scopes.all(lambda entry: bool(_OPTIMIZER.search(entry.key)) and not _is_named_otherwise(entry.key)):
        value = entry.value
        if isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Mapping)]
        elif isinstance(value, Mapping):
            value = _nested(value)
            found += [value] if "state" in value or not value else _inner_optimizers(value)
        elif value is not None:
            found.append(entries_of(value) or {})
        scopes.use(entry)
    return found


def schedule_of(scopes: Scopes) -> tuple[dict[str, Json] | None, list[Decision]]:
    """The state of the schedule as plain data; of several, all by name."""
    found: dict[str, Json] = {}
    for entry in scopes.all(lambda entry: bool(_SCHEDULE.search(entry.key))):
        values = entry.value if isinstance(entry.value, (list, tuple)) else [entry.value]
        states = [plain(value) for value in values if entries_of(value)]
        scopes.use(entry)
        found |= {entry.where if i == 0 else f"{entry.where}.{i}": state for i, state in enumerate(states)}
    if not found:
        return None, []
    named = ", ".join(f"`{name}`" for name in found)
    why = f"the state in {named}, for information: schedules come from the run's settings"
    only = next(iter(found.values()))
    schedule = only if len(found) == 1 and isinstance(only, dict) else found
    return schedule, [Decision("schedule", DecisionSource.FILE, f"{len(schedule)} fields", why)]


def scaler_of(scopes: Scopes) -> tuple[dict[str, Json] | None, list[Decision]]:
    """The state of a gradient scaler, where it is whole and sensible."""
    for entry in scopes.all(lambda entry: bool(_SCALER.search(entry.key))):
        scopes.use(entry)
        state = entries_of(entry.value)
        fields = _scaler_fields(state) if state else None
        if fields is not None:
            why = f"`{entry.where}` of the file"
            return fields, [Decision("scaler", DecisionSource.FILE, f"scale {fields['scale']}", why)]
        if state or not isinstance(entry.value, Mapping):
            why = f"`{entry.where}` of the file is no state of a gradient scaler, so it starts fresh"
            return None, [Decision("scaler", DecisionSource.DEFAULT, None, why)]
    return None, []


def generators_of(scopes: Scopes) -> list[Decision]:
    """That generators are left."""
    found: list[Entry] = scopes.all(lambda entry: bool(_RNG.search(entry.key)))
    if not found:
        return []
    named = ", ".join(f"`{entry.where}`" for entry in found[:6])
    why = f"the generators of another program ({named}) mean nothing to this one; they start from the run's seed"
    return [Decision("rng", DecisionSource.DEFAULT, None, why)]


def _is_named_otherwise(key: str) -> bool:
    """`optimizer_step`, `optimizer_class`: about an optimizer."""
    rest = key.lower().rpartition("_")[2]
    return rest in (*_ONLY_COUNTS, "class", "name", "type", "args", "config", "kwargs")


def _nested(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """As it was before torch's `flatten_optimizer_state_dict` made one name of `state`, parameter and slot."""
    flat = [str(key).split(".", 1) for key in value]
    if not flat or any(len(parts) < 2 or parts[0] not in ("state", "param_groups") for parts in flat):
        return value
    state: dict[str, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    for (part, rest), item in zip(flat, value.values(), strict=True):
        name, _, key = rest.rpartition(".")
        if part == "state":
            state.setdefault(name, {})[key] = item
        else:
            settings.setdefault(key, item)
    return {"state": state, "param_groups": [{**settings, "params": list(state)}]}


def _inner_optimizers(value: Mapping[Any, Any]) -> list[Any]:
    """A dict of optimizers by name; anything else is passed on, to be reported for what it lacks."""
    inner = [item for item in value.values() if isinstance(item, Mapping) and "state" in item]
    return inner or [value]


def _scaler_fields(state: Mapping[Any, Any]) -> dict[str, Json] | None:
    """The five fields of torch's GradScaler."""
    scale, growth, backoff = (number(state.get(key)) for key in _SCALER_FIELDS[:3])
    interval, tracker = (count(state.get(key)) for key in _SCALER_FIELDS[3:])
    if scale is None or growth is None or backoff is None or not interval or tracker is None:
        return None
    if not (scale > 0 and growth > 1 and 0 < backoff < 1):
        return None
    values = (float(scale), float(growth), float(backoff), interval, tracker)
    return dict(zip(_SCALER_FIELDS, values, strict=True))
