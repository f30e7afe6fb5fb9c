"""Where a run starts: one pure decision, printed and stored with every run.

Order of precedence: this run's own latest checkpoint, then an explicit resume or fork, then init, then scratch.

What becomes of a running average of the weights: resume and fork take it beside the weights, because it belongs to the
path of the weights, which goes on; init takes the average as its weights, because that is what its source was judged
by, and nothing of the path.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from orchestrator.checkpoint import TrainState
from orchestrator.config.schema import StartConfig
from orchestrator.storage import redacted


class StartVerb(StrEnum):
    """The ways a run can begin."""

    CONTINUE = "continue"
    """This run's own latest checkpoint: everything is taken, nothing was lost but the steps since."""
    RESUME = "resume"
    """Another checkpoint, of which everything is taken: training goes on exactly."""
    FORK = "fork"
    """Another checkpoint, of which weights with their average, step and data position are taken; optimizer,
    best-so-far and histories are new."""
    INIT = "init"
    """The weights that another checkpoint is judged by; step 0, fresh optimizer, data from the beginning."""
    SCRATCH = "scratch"
    """Fresh weights."""


@dataclass(frozen=True)
class StartDecision:
    """What was decided, in plain values that can be printed, stored and compared."""

    verb: StartVerb
    step: int
    """Optimizer steps already taken."""
    samples: int
    """Global samples already consumed: the position in the data stream."""
    source: str
    """The file or run that the state comes from; empty from scratch."""
    optimizer: str
    """`fresh` or `restored`."""
    weights: str = "trained"
    """`trained` by the optimizer, also from scratch; or `average`, where an init takes the running average."""

    def __str__(self) -> str:
        origin = f" from {self.source}" if self.source else ""
        average = ", weights of its running average" if self.weights == "average" else ""
        return f"{self.verb}{origin}: step {self.step}, sample {self.samples}, optimizer {self.optimizer}{average}"

    def to_dict(self) -> dict[str, str | int]:
        """Plain values, for MLflow and state files."""
        return {**asdict(self), "verb": str(self.verb)}


def decide_start(
    latest: TrainState | None, given: TrainState | None, start: StartConfig
) -> tuple[StartDecision, TrainState | None]:
    """Decide the start and give the state to begin with (none from scratch).

    Args:
        latest: this run's own latest checkpoint, if it has one.
        given: the state of `start.checkpoint`, if one is configured.
        start: what the configuration asks for.
    """
    if latest is not None:
        return _decision(StartVerb.CONTINUE, latest, "this run's own checkpoint"), latest
    if given is None:
        return StartDecision(StartVerb.SCRATCH, 0, 0, "", "fresh"), None
    source = redacted(start.checkpoint or "")
    match start.verb:
        case "resume":
            # the best checkpoint so far lies in another run's folder: here the state that is resumed is the first
            resumed = replace(given, best=None)
            return _decision(StartVerb.RESUME, resumed, source), resumed
        case "fork":
            forked = replace(given, optimizer=None, scaler=None, best=None, history=[], progress={})
            return _decision(StartVerb.FORK, forked, source), forked
        case _:
            blank: dict[str, Any] = {"step": 0, "samples": 0, "epoch": 0, "history": [], "progress": {}}
            blank |= dict.fromkeys(("optimizer", "scaler", "best", "rng"))
            initial = replace(given.judged(), **blank)
            decision = _decision(StartVerb.INIT, initial, source)
            return replace(decision, weights="trained" if given.ema is None else "average"), initial


def _decision(verb: StartVerb, state: TrainState, source: str) -> StartDecision:
    optimizer = "fresh" if state.optimizer is None else "restored"
    return StartDecision(verb, state.step, state.samples, source, optimizer)
