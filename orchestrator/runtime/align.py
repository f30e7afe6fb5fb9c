"""`align`: raw videos into aligned clips of one face each, as Ray tasks on any number of nodes.

Every video is finished or absent, so that a run that was stopped goes on where it was; sources are only read.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.run import AlignSummary, align_finish, align_plan
from orchestrator.runtime.job import describe
from orchestrator.runtime.paths import require_lasting
from orchestrator.runtime.stage import run_stage, tell_plan
from orchestrator.runtime.units import TaskShape
from orchestrator.storage import redacted

_PATIENCE_S = 12 * 3600
"""Seconds after which a video counts as hanging: a long one takes a core as long as it plays, or longer."""


def align(
    root: str | Path,
    out: str | Path,
    config: AlignConfig | None = None,
    *,
    console: Console | None = None,
    gpus: float = 0,
) -> AlignSummary:
    """Align every video below `root` into `out`; what is there already is not repeated.

    Args:
        root: the raw videos, or a list of them: a path that every node sees, or a URI of object storage; only read.
        out: folder for the clips and their table: a path that every node sees.
        config: how to cut, judge and align; the defaults fit LatentSync's template.
        console: where progress is shown; none shows nothing.
        gpus: GPUs, or a share of one, that each task takes; faces are then found on it.

    Raises:
        OrchestratorError: the root has no video, `out` was made with other settings, the optional libraries are not
            installed, or a storage fails.
    """
    console = console or Console(quiet=True)
    config = config or AlignConfig()
    require_lasting("the output folder", out)
    describe(kind="align", folder=redacted(out))
    plan = align_plan(root, out, config)
    tell_plan(console, plan.listing.notes, f"{plan.done} videos are aligned", plan.done, len(plan.units))
    run_stage("align", plan.units, console, TaskShape(gpus=gpus, clip_timeout_s=_PATIENCE_S))
    return align_finish(root, out, config)
