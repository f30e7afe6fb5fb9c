"""The settings of a sweep: which settings of a run vary, how points are drawn, how trials are stopped, and its budget.

A setting of the space is named by its dotted name, such as `optim.lr`, or is a whole section, such as
`data.negatives`, whose values are then mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from orchestrator.config.section import Section


class Dimension(Section):
    """One swept setting: exactly one way to draw its values."""

    loguniform: tuple[float, float] | None = None
    """From low to high, evenly in the logarithm."""
    uniform: tuple[float, float] | None = None
    """From low to high, evenly; of a setting that is a whole number, both ends included."""
    choice: tuple[Any, ...] | None = Field(None, min_length=1)
    """One of these at random."""
    grid: tuple[Any, ...] | None = Field(None, min_length=1)
    """Each of these in turn; grids multiply."""
    when: dict[str, Any] | None = Field(None, min_length=1)
    """Drawn only where other swept settings have these values (one value, or a list of them); elsewhere the setting is
    as the configuration has it."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        kinds = ("loguniform", "uniform", "choice", "grid")
        given = [key for key in kinds if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of loguniform, uniform, choice, grid, but has {given or 'none'}")
        low_high = self.range
        if low_high and not low_high[0] < low_high[1]:
            raise ValueError(f"must go from low to high, but is {list(low_high)}")
        if self.loguniform and self.loguniform[0] <= 0:
            raise ValueError(f"a loguniform range must be > 0, but starts at {self.loguniform[0]}")
        return self

    @property
    def range(self) -> tuple[float, float] | None:
        """Low and high of a range; none of a list of values."""
        return self.loguniform or self.uniform

    @property
    def listed(self) -> tuple[Any, ...]:
        """The values of a choice or grid; empty for a range."""
        return self.choice or self.grid or ()

    def applies(self, drawn: Mapping[str, Any]) -> bool:
        """Whether the setting is drawn at a point, whose settings of `when` are drawn already."""
        wanted = {name: value if isinstance(value, list) else [value] for name, value in (self.when or {}).items()}
        return all(name in drawn and drawn[name] in values for name, values in wanted.items())


class SweepConfig(Section):
    """A sweep. What its trials are judged by is `checkpoint.metric`; what each of them may use is `scale`."""

    space: dict[str, Dimension] = Field(min_length=1)
    """Setting -> how to draw it, e.g. `optim.lr: {loguniform: [1e-5, 1e-3]}`."""
    search: Literal["random", "grid", "tpe"] = "random"
    """random draws every point by itself, tpe (Optuna's) near what was good so far; both take the points of grids in
    turn. grid takes every combination of a space that has only listed values."""
    scheduler: Literal["none", "asha", "median", "pbt"] = "none"
    """asha stops trials that lag behind the best third at the same number of samples. median stops those below the
    median of the others. pbt lets the worst of a population go on from checkpoints of the best, with changed
    settings."""
    trials: int | None = Field(None, ge=1)
    """Trials, the untouched starting states not counted; beside a grid, draws for each of its points; with pbt, the
    population. None gives 8, and to the search grid every point."""
    samples: int | None = Field(None, ge=1)
    """Stop when all trials together have trained on so many samples; none has no such limit."""
    hours: float | None = Field(None, gt=0)
    """Stop after so many hours of wall time, those of earlier starts included; none has no such limit."""
    grace_steps: int | None = Field(None, ge=1)
    """Steps (of the configuration's own `train.global_batch`) before which nothing is stopped; none gives a tenth of
    the run, and at least a validation and the longest warm-up. At chance a trial is not stopped before another one
    has left chance behind."""
    reduction: float = Field(3, gt=1)
    """asha: one of so many trials goes on at each rung, and rungs are so many times further apart each."""
    interval_steps: int | None = Field(None, ge=1)
    """pbt: steps between two rounds of copying and changing; a multiple of `eval.every`. None gives an eighth of the
    run."""
    quantile: float = Field(0.25, gt=0, le=0.5)
    """pbt: the share of the population that is replaced by copies of an equal share of the best."""
    max_concurrent: int = Field(0, ge=0)
    """Trials at once; 0 means as many as the cluster has room for."""
    gpus_per_trial: float = Field(1, gt=0, le=1)
    """Share of a GPU for a trial of one worker, where trials use GPUs: 0.5 puts two trials on each."""
    seed: int = Field(42, ge=0)
    """Seed of the draws."""

    @model_validator(mode="after")
    def _coherent(self) -> SweepConfig:
        ranges = [name for name, dimension in self.space.items() if dimension.range]
        if self.search == "grid" and ranges:
            raise ValueError(f"has the search grid, which needs listed values, but {', '.join(ranges)} is a range")
        partial = [name for name, dimension in self.space.items() if dimension.grid and dimension.when]
        if self.search != "grid" and partial:
            raise ValueError(f"has a grid with `when` ({', '.join(partial)}), which needs the search grid; use choice")
        if self.scheduler == "pbt" and self.search != "random":
            raise ValueError(f"has the scheduler pbt, which draws by itself, but the search {self.search}")
        return self


SWEEP_FREE = ("trials", "samples", "hours", "max_concurrent", "gpus_per_trial")
"""Settings of a sweep that may differ between two starts of it: more of them extends it."""
