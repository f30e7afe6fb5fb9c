"""The budget of a sweep: what its configuration says, or what it was extended to, whichever is more."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.config.load import apply_settings
from orchestrator.config.schema import RunConfig
from orchestrator.config.space import DEFAULT_TRIALS
from orchestrator.errors import RunError
from orchestrator.runtime.sweep.ledger import Ledger


def with_budget(config: RunConfig, ledger: Ledger, more: Mapping[str, float]) -> RunConfig:
    """The configuration with the budget that counts.

    Args:
        config: of the sweep.
        ledger: knows what it was extended to, and is told of more.
        more: what to add now, by limit: `trials`, `hours`, `samples`.

    Raises:
        RunError: it cannot get larger in this way.
    """
    known = _limits(config) | {limit: value for limit, value in ledger.budget.items() if value > _limits(config)[limit]}
    larger = {limit: known[limit] + value for limit, value in more.items() if _extendable(config, limit)}
    if larger:
        ledger.extend(larger)
    return apply_settings(config, {f"sweep.{limit}": value for limit, value in {**known, **larger}.items()})


def _limits(config: RunConfig) -> dict[str, float]:
    """The limits that a sweep has."""
    sweep = config.sweep
    assert sweep is not None
    trials = sweep.trials or (None if sweep.search == "grid" else DEFAULT_TRIALS)
    given = {"trials": trials, "hours": sweep.hours, "samples": sweep.samples}
    return {limit: value for limit, value in given.items() if value is not None}


def _extendable(config: RunConfig, limit: str) -> bool:
    assert config.sweep is not None
    if config.sweep.scheduler == "pbt" and limit == "trials":
        raise RunError(
            "a population cannot get larger", hint="`orchestrator sweep fork` goes on from its best trial for longer"
        )
    if limit not in _limits(config):
        raise RunError(f"the sweep has no limit of {limit}, which could be raised", hint="leave it out")
    return True
