"""Sweeps on Ray Tune: `sweep` starts or continues one, `extend` enlarges it, `fork_config` goes on from its best."""

from orchestrator.runtime.sweep.more import extend, fork_config
from orchestrator.runtime.sweep.run import SweepResult, sweep

__all__ = ["SweepResult", "extend", "fork_config", "sweep"]
