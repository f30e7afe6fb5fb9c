"""Which settings made the difference between the trials of a sweep: a share for each, adding up to 1.

How: a random forest learns a trial's value from its settings; a setting matters as much as its prediction suffers when
that setting's values are dealt anew among the trials. Why not one of Optuna's evaluators: on made-up sweeps of 8 to 24
trials PED-ANOVA, which only compares the best quarter with the rest, missed settings with two or three values that
decided everything, and fANOVA sees no settings that only some trials have. The forest found what mattered most often,
and for it everything is a place on an axis, also having no such setting. Contract: the same trials give the same
shares; a diverged trial counts as bad and not as the only one that matters; nothing is claimed (an empty mapping) where
too few trials have a value, or where all are alike. It is a hint where to look: with few trials the shares of settings
that do not matter are not yet small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.charts.scales import scale_of, swept
from orchestrator.sweeps.summary import TrialSummary

LEAST_TRIALS = 8
"""With fewer of them the right setting came first in about half of the made-up sweeps only."""

_TREES = 100
_LEAF = 2
_DEALS = 10
_REACH = 2.0
"""Beyond so many interquartile ranges outside the quartiles a value counts as if it were there."""


def importance(metric: str, trials: Sequence[TrialSummary]) -> dict[str, float]:
    """Setting -> its share of what made the trials differ, the biggest first; constant settings are left out.

    Args:
        metric: what they are judged by, e.g. `val/auc`; less or more being better makes no difference here.
        trials: all of a sweep; those without a value and untouched starting states say nothing about settings.
    """
    judged = [(trial, trial.best.value) for trial in trials if trial.best and not trial.baseline]
    known = [(trial.settings, value) for trial, value in judged if math.isfinite(value)]
    columns = swept([settings for settings, _ in known])
    if len(known) < LEAST_TRIALS or not columns or len({value for _, value in known}) == 1:
        return {}
    found = dict(zip(columns, _losses(columns, [value for _, value in known]), strict=True))
    total = sum(found.values())
    ordered = sorted(found, key=lambda name: (-found[name], name))
    return {name: found[name] / total for name in ordered} if total > 0 else {}


def _losses(columns: Mapping[str, Sequence[Any]], values: Sequence[float]) -> list[float]:
    """By how much the forest predicts worse without each setting, never less than 0."""
    # scikit-learn takes a second to import
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    scales = [scale_of(column) for column in columns.values()]
    places = [[scale.place(value) for value in column] for scale, column in zip(scales, columns.values(), strict=True)]
    inputs = np.array(places).T
    targets = _without_extremes(np.array(values))
    forest = RandomForestRegressor(_TREES, min_samples_leaf=_LEAF, random_state=0).fit(inputs, targets)
    found = permutation_importance(forest, inputs, targets, n_repeats=_DEALS, random_state=0)
    return [max(float(loss), 0.0) for loss in found.importances_mean]


def _without_extremes(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75])
    reach = _REACH * (high - low) or np.inf
    return np.clip(values, low - reach, high + reach)
