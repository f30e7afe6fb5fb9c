"""What the trials of a sweep have in common, as plain values that travel to every node.

The starting state is read and verified once, by the driver, and put into Ray's object store: every node fetches it
once, and its trials read it in place. Trials know neither the foreign file nor where its normalized form lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.load import load_config
from orchestrator.config.schema import RunConfig
from orchestrator.config.space import Point
from orchestrator.config.trial import INIT, trial_config
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.worker import Assignment, StartingState


@dataclass(frozen=True)
class SweepWork:
    """What is common to all trials."""

    config: dict[str, Any]
    """The sweep's configuration as plain data, with absolute places."""
    folder: str
    """The sweep's folder: a path or a URI."""
    states: Mapping[str, StartingState]
    """What a person gave -> its normalized form."""
    pairs: str
    """The stored list of validation pairs that all trials are judged on."""
    until: int | None = None
    """The step at which trials pause: the end of a round of population-based training."""

    @property
    def paths(self) -> RunPaths:
        """The sweep's places."""
        return RunPaths.at(self.folder)

    def settings(self, point: Point, *, baseline: bool = False) -> RunConfig:
        """The configuration of a trial.

        Raises:
            ConfigError: the point is impossible.
        """
        config = trial_config(load_config({**self.config, "sweep": None}), point)
        if not baseline:
            return config
        return config.model_copy(update={"train": config.train.model_copy(update={"steps": 0})})

    def state_of(self, point: Point) -> StartingState | None:
        """What a trial starts from; none from scratch."""
        return self.states.get(point.get(INIT, self.config["start"]["checkpoint"]) or "")

    def assignment(self, trial: str, point: Point, *, baseline: bool = False) -> Assignment:
        """What a trial is told; the state itself comes beside it."""
        config = self.settings(point, baseline=baseline)
        state = self.state_of(point)
        folder = self.paths.trial(trial).where
        plain = config.model_dump(mode="json")
        # the start decision names the normalized state: no trial has to do with the foreign file
        plain["start"]["checkpoint"] = None if state is None else state.path
        if state is None:
            return Assignment(plain, str(folder), None, pairs=self.pairs, until=self.until)
        return Assignment(
            plain, str(folder), state.path, state.origin, pairs=self.pairs, until=self.until, shared=state.reference
        )

    def with_references(self, references: Mapping[str, Any], until: int | None) -> SweepWork:
        """What a trial needs: where the states lie, and nothing of how they came to be."""
        states = {
            name: replace(state, origin={}, reference=references.get(name)) for name, state in self.states.items()
        }
        return replace(self, states=states, until=until)
