"""Past figures of a run: lists of steps and losses, logs of dicts, and the best figure so far.

Rules for lists that do not agree: a row needs a step and a number, and lists of unequal lengths are used as far as both
go; rows beyond the step counter are left out, because a run that resumes there will make them again. A list without
steps is only taken when it has one figure per step. Every such case is a decision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint.formats.layouts.counters import STEPS
from orchestrator.checkpoint.formats.layouts.scopes import Entry, Scopes
from orchestrator.checkpoint.formats.layouts.values import as_tensor, count, entries_of, number, said
from orchestrator.checkpoint.state import Best, Decision, DecisionSource, Json

_STEP_LIST = re.compile(r"^(?P<group>.*?)_?(global_)?(steps?|iters?|iterations?)(_list|_history|s)?$", re.IGNORECASE)
_FIGURE = re.compile(r"loss|acc|score|auc|metric|error|lr|grad|sync|cosine", re.IGNORECASE)
_ENDINGS = re.compile(r"(_list|_history|_log|_values)$", re.IGNORECASE)
_LOGS = ("log", "logs", "history", "log_history", "metrics", "losses", "train_log", "val_log", "results", "curves")
_BEST = re.compile(r"^(best|min|lowest|highest|max)_(?P<metric>[a-z0-9_/]*)$", re.IGNORECASE)
_NO_METRIC = re.compile(
    r"step|epoch|iter|path|model|state|weights|params|net|ckpt|checkpoint|optim|^lr|grad|norm", re.IGNORECASE
)
_MOST_ROWS = 1_000_000


@dataclass
class Table:
    """Rows while they are collected."""

    rows: dict[int, dict[str, Json]] = field(default_factory=dict)
    """Step -> row."""
    names: list[str] = field(default_factory=list)
    """Entries of the file that went into it."""
    problems: list[str] = field(default_factory=list)
    """Sentences about what did not agree."""

    @property
    def last(self) -> int | None:
        """The last step of a row."""
        return max(self.rows, default=None)

    def add(self, step: Any, name: str, value: Any) -> bool:
        """One figure; false when it is none."""
        at, figure = count(step), number(value)
        if at is None or figure is None:
            return False
        self.rows.setdefault(at, {"step": at})[name] = float(figure)
        return True

    def until(self, step: int | None) -> list[dict[str, Json]]:
        """Rows by step, without those beyond the counter."""
        beyond = [at for at in self.rows if step is not None and at > step]
        if beyond:
            what = f"{len(beyond)} rows after step {step} were left out (the lists go on to {max(beyond)})"
            self.problems.append(f"{what}; the step counter counts")
        return [self.rows[at] for at in sorted(self.rows) if at not in set(beyond)]

    def decisions(self, kept: int) -> list[Decision]:
        """What became of the lists."""
        decisions: list[Decision] = []
        if self.rows:
            why = f"the step and loss lists of the file ({', '.join(self.names[:6])}), one row per step"
            decisions.append(Decision("history", DecisionSource.FILE, f"{kept} rows", why))
        if self.problems:
            why = "the lists of the file do not agree: " + "; ".join(self.problems[:6])
            decisions.append(Decision("history.conflicts", DecisionSource.DERIVED, len(self.problems), why))
        return decisions


def table_of(scopes: Scopes, step: int | None) -> Table:
    """Every list and log beside the weights."""
    table = Table()
    named = [entry for entry in scopes.entries if _STEP_LIST.match(entry.key) or _FIGURE.search(entry.key)]
    lists = {entry.key: entry for entry in named if _as_list(entry.value) is not None}
    _from_lists(lists, table, scopes, step)
    for entry in scopes.all(lambda entry: entry.key.lower() in _LOGS):
        _from_log(entry, table, scopes, step)
    return table


def best_of(scopes: Scopes, step: int | None) -> tuple[Best | None, list[Decision]]:
    """`best_loss` and its like; the step is the file's unless it says another."""
    named = [entry for entry in scopes.entries if _metric(entry.key) and entry.value is not None]
    found = [entry for entry in named if number(entry.value) is not None]
    if not found:
        return None, [_no_best(entry, scopes) for entry in named[:1]]
    entry = found[0]
    scopes.use(entry)
    at_entry = scopes.first(("best_step", "best_global_step", "best_iteration", "best_iter"))
    at = count(at_entry.value) if at_entry else None
    best = Best(_metric(entry.key), float(number(entry.value) or 0.0), step or 0 if at is None else at)
    why = f"`{entry.where}` of the file" + ("" if at is not None else "; when it was measured is not said")
    return best, [Decision("best", DecisionSource.FILE, {"metric": best.metric, "value": best.value}, why)]


def _no_best(entry: Entry, scopes: Scopes) -> Decision:
    """As from trainers that begin with infinity, or that keep a table there."""
    scopes.use(entry)
    why = f"`{entry.where}` of the file is no figure: {said(entry.value)}; the best starts fresh"
    return Decision("best", DecisionSource.DEFAULT, None, why)


def _metric(key: str) -> str:
    """The figure that a `best_...` entry holds; empty when it holds none."""
    found = _BEST.match(key)
    metric = found["metric"] if found and (key.lower().startswith("best") or _FIGURE.search(key)) else ""
    return "" if _NO_METRIC.search(metric) else metric


def _from_lists(lists: Mapping[str, Entry], table: Table, scopes: Scopes, step: int | None) -> None:
    steps = {match["group"]: lists[key] for key in lists if (match := _STEP_LIST.match(key))}
    for key, entry in lists.items():
        if entry in steps.values() or not _FIGURE.search(key):
            continue
        group = max((g for g in steps if key.startswith(g)), key=len, default=None)
        values = _as_list(entry.value) or []
        if group is not None:
            _pair(table, steps[group], entry, _as_list(steps[group].value) or [], values)
            scopes.use(steps[group])
            scopes.use(entry)
        elif values and len(values) == step:
            misfits = [value for i, value in enumerate(values) if not table.add(i + 1, _name(key), value)]
            table.names.append(f"`{entry.where}`, one figure per step")
            table.problems += [f"`{entry.where}` holds {len(misfits)} things that are no numbers"] if misfits else []
            scopes.use(entry)


def _pair(table: Table, steps_entry: Entry, entry: Entry, steps: list[Any], values: list[Any]) -> None:
    """A list of steps and a list of figures."""
    if len(steps) != len(values):
        table.problems.append(
            f"the lists `{steps_entry.where}` and `{entry.where}` have {len(steps)} and {len(values)} values, of which "
            f"the first {min(len(steps), len(values))} were paired"
        )
    misfits = [pair for pair in zip(steps, values, strict=False) if not table.add(pair[0], _name(entry.key), pair[1])]
    if misfits:
        table.problems.append(f"{len(misfits)} pairs of the list `{entry.where}` are no numbers and were left out")
    table.names.append(f"`{entry.where}`")


def _from_log(entry: Entry, table: Table, scopes: Scopes, step: int | None) -> None:
    """A list of dicts with a step each, or a dict of lists."""
    if isinstance(entry.value, Mapping):
        inner = {str(k): Entry(str(k), f"{entry.where}.{k}", v) for k, v in islice(entry.value.items(), 100)}
        before = len(table.names)
        _from_lists({k: e for k, e in inner.items() if _as_list(e.value) is not None}, table, scopes, step)
        if len(table.names) > before:
            scopes.use(entry)
        return
    added = False
    for row in _as_list(entry.value) or []:
        figures = entries_of(row)
        key = next((key for key in STEPS if figures is not None and key in figures), None)
        for name, value in figures.items() if figures is not None and key is not None else ():
            if isinstance(name, str) and name != key and name != "epoch":
                added |= table.add((figures or {}).get(key), _name(name), value)
    if added:
        scopes.use(entry)
        table.names.append(f"`{entry.where}`")


def _name(key: str) -> str:
    """`train_loss_list` -> `train/loss`."""
    short = _ENDINGS.sub("", key)
    short = re.sub(r"loss(es)$", "loss", short)
    for split in ("train", "val", "valid", "eval", "test"):
        if short.startswith(f"{split}_") and len(short) > len(split) + 1:
            return f"{'val' if split == 'valid' else split}/{short[len(split) + 1 :]}"
    return short


def _as_list(value: object) -> list[Any] | None:
    tensor = as_tensor(value)
    if isinstance(tensor, Tensor):
        dense = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
        return tensor.tolist() if dense and tensor.ndim == 1 and tensor.numel() < _MOST_ROWS else None
    return list(value) if isinstance(value, (list, tuple)) and len(value) < _MOST_ROWS else None
