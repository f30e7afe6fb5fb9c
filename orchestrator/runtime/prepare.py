"""`prepare`: videos into shards and a manifest, as Ray tasks, one unit of clips each.

Every unit is finished or absent, so that a run that was stopped goes on where it was; sources are only read.
"""

from __future__ import annotations

import os
from pathlib import Path

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.config.schema import ScaleConfig
from orchestrator.data.prepare import PreparationConfig, PrepareSummary, Unit, UnitResult, finish, plan_units, run_unit
from orchestrator.runtime import cluster


def prepare(
    root: str | Path,
    out: str | Path,
    config: PreparationConfig | None = None,
    *,
    console: Console | None = None,
) -> PrepareSummary:
    """Prepare every video below `root` into `out`; what is there already is not repeated.

    Args:
        root: folder of aligned talking-head videos; never written to.
        out: folder for shards and manifest; all workers must see both folders.
        config: how to prepare; the defaults fit LatentSync's nets.
        console: where progress is shown; none shows nothing.

    Raises:
        OrchestratorError: the root has no video, or `out` was prepared in another way.
    """
    console = console or Console(quiet=True)
    config = config or PreparationConfig()
    root, out = Path(root).expanduser().resolve(), Path(out).expanduser().resolve()
    units = plan_units(root, out, config)
    if units:
        cluster.connect(ScaleConfig(num_workers=os.cpu_count() or 1))
        _run_all(units, console)
    return finish(root, out, config)


@ray.remote(num_cpus=1, max_retries=3)
def _run_remotely(unit: Unit) -> UnitResult:
    return run_unit(unit)


def _run_all(units: list[Unit], console: Console) -> None:
    """Run units with a bounded number in flight: a plan of a million clips must not become a million tasks."""
    columns = (TextColumn("prepare"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    limit = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(units))
        waiting = list(reversed(units))
        running: list[ray.ObjectRef] = []
        done = 0
        while waiting or running:
            while waiting and len(running) < limit:
                running.append(_run_remotely.remote(waiting.pop()))
            ready, running = ray.wait(running, num_returns=1)
            ray.get(ready)
            done += 1
            progress.advance(task)
            if not console.is_terminal:
                console.print(f"prepare: {done}/{len(units)} units", highlight=False)
