"""`prepare`: videos into shards and a manifest, as Ray tasks on any number of nodes.

Every clip is finished or absent, so that a run that was stopped goes on where it was; sources are only read.
"""

from __future__ import annotations

from rich.console import Console

from orchestrator.data.prepare import PrepareSummary, Where, finish, plan_units
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.runtime.job import describe
from orchestrator.runtime.paths import require_lasting
from orchestrator.runtime.stage import run_stage, tell_plan
from orchestrator.runtime.units import TaskShape
from orchestrator.storage import redacted


def prepare(
    root: Where,
    out: Where,
    config: PreparationConfig | None = None,
    *,
    console: Console | None = None,
    gpus: float = 0,
) -> PrepareSummary:
    """Prepare every video below `root` into `out`; what is there already is not repeated.

    Args:
        root: the videos, or a list of them: a path that every node sees, or a URI of object storage; only read.
        out: folder for shards and manifest: a path that every node sees, or a URI.
        config: how to prepare; the defaults fit LatentSync's nets.
        console: where progress is shown; none shows nothing.
        gpus: GPUs, or a share of one, that each task takes; of use for latents only.

    Raises:
        OrchestratorError: the root has no video, `out` was prepared in another way or would not outlive a submitted
            job, or a storage fails.
    """
    console = console or Console(quiet=True)
    config = config or PreparationConfig()
    require_lasting("the output folder", out)
    describe(kind="prepare", folder=redacted(out))
    plan = plan_units(root, out, config)
    tell_plan(console, plan.listing.notes, f"{plan.done} clips are prepared", plan.done, plan.todo)
    run_stage("prepare", plan.units, console, TaskShape(gpus=gpus))
    return finish(root, out, config)
