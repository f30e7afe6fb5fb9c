"""Compare checkpoints on one corpus: each judges the same stored pairs, one after the other.

Contract: one network is in memory at a time; files are looked at before anything is computed, so that the fifth does
not turn out to be unreadable after an hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from orchestrator.charts.comparison import comparison_chart
from orchestrator.checkpoint import InspectReport, inspect, load_model
from orchestrator.checkpoint.tensors import weights_hash
from orchestrator.config.data import DataConfig
from orchestrator.data.corpus import Corpus, SplitName
from orchestrator.errors import DataError
from orchestrator.evaluation.compare import Comparison
from orchestrator.evaluation.compare import compare as judge
from orchestrator.evaluation.evaluate import Request, cosines_of, plan_evaluation
from orchestrator.evaluation.paired import Entry, centred, short_names
from orchestrator.runtime.judging import run_judging
from orchestrator.runtime.recording import Finding, Shelf, told
from orchestrator.storage import redacted
from orchestrator.training.comparison import Metric
from orchestrator.training.evaluation import fixed_pairs
from orchestrator.training.fitting import check_fits


def compare(
    checkpoints: Sequence[str | Path],
    data: str | Path,
    *,
    split: SplitName = "val",
    pairs: int = 2048,
    pair_list: str | Path | None = None,
    metric: Metric = "val/auc",
    offsets: bool = True,
    stride: int = 1,
    batch: int = 64,
    device: str | None = None,
    workers: int | None = None,
    gpus: float = 0,
    shelf: Shelf | None = None,
    console: Console | None = None,
) -> Comparison:
    """Compare readable checkpoints on the fixed pairs of a prepared corpus.

    Args:
        checkpoints: at least two; the first is the reference.
        data: the folder that `prepare` wrote.
        split: `train`, `val` or `all`.
        pairs: how many pairs, half of them in sync.
        pair_list: a stored list of pairs for the longest window among the networks, which then decides everything
            about pairs; a missing file is written.
        metric: the figure that counts.
        offsets: whether to look for offsets, too; without, it is faster.
        stride: frames from one window of the picture to the next, for offsets.
        batch: windows that go through a tower at once.
        device: where to compute; a GPU if there is one.
        workers: tasks at a time on Ray; 0 judges in this process; none means Ray where RAY_ADDRESS names a cluster.
        gpus: GPUs, or a share of one, that each task on Ray takes.
        shelf: where the table, the picture and the MLflow run are kept; none keeps nothing.
        console: where progress is shown; none shows nothing.

    Raises:
        OrchestratorError: a checkpoint or the corpus cannot be used.
    """
    if len(checkpoints) < 2:
        found = f"a comparison needs at least two checkpoints, but {len(checkpoints)} was named"
        raise DataError(found, reason="too_few", hint="judge one alone with `orchestrator evaluate`")
    reports = [inspect(checkpoint, deep=False) for checkpoint in checkpoints]
    corpus = Corpus.open(data)
    for report in reports:
        check_fits(corpus, report.model)
    frames = max(report.model.num_frames for report in reports)
    fixed = fixed_pairs(pair_list, corpus, split, frames, pairs, DataConfig())
    request = Request(stride, offsets, batch)
    entries, meant, shown = [], [], console or Console(quiet=True)
    for name, checkpoint, report in zip(
        short_names(list(map(redacted, checkpoints))), checkpoints, reports, strict=True
    ):
        plan = plan_evaluation(centred(fixed, report.model.num_frames))
        model = load_model(checkpoint)
        meant.append(weights_hash(model.state_dict()))
        judged = run_judging(name, plan, model, request, shown, device=device, workers=workers, gpus=gpus)
        frames, cosines = model.config.num_frames, cosines_of(plan, judged)
        entries.append(Entry(name, report.path, frames, fixed.hash, cosines, tuple(judged), report.parameters))
    compared = judge(entries, fixed, metric=metric, notes=_notes(corpus, reports))
    if shelf is not None:
        told(shown, shelf.keep(_finding(compared, meant)))
    return compared


def _finding(found: Comparison, meant: Sequence[str]) -> Finding:
    asked = [*meant, found.pairs_hash, found.metric]
    mark = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:8]
    metrics = {
        f"{standing.name}/{name}": figure.value
        for standing in found.standings
        for name, figure in standing.figures.items()
    }
    return Finding(
        kind="compare",
        name=f"compare-{len(found.standings)}-{mark}",
        facts={
            "checkpoints": {standing.name: standing.checkpoint for standing in found.standings},
            "corpus": found.corpus,
            "split": found.split,
            "pairs": found.pairs,
            "pairs_hash": found.pairs_hash,
        },
        metrics=metrics,
        step=0,
        result=found.to_dict(),
        pictures={"comparison.png": comparison_chart(found.standings, found.metric, found.use)},
        tags={"use": found.use or "none", "advice": found.advice},
    )


def _notes(corpus: Corpus, reports: Sequence[InspectReport]) -> list[str]:
    """What a person should know of the corpus and these networks."""
    unlike = {str(report.model.name) for report in reports}
    if len(unlike) < 2:
        return []
    return [f"networks of {len(unlike)} families ({', '.join(sorted(unlike))}) have losses that mean different things"]
