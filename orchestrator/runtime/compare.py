"""Compare checkpoints on one corpus: each judges the same stored pairs, in this process, one after the other.

Contract: one network is in memory at a time; files are looked at before anything is computed, so that the fifth does
not turn out to be unreadable after an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from orchestrator.checkpoint import InspectReport, inspect, load_model
from orchestrator.data.corpus import Corpus, SplitName
from orchestrator.data.corpus.pairs import write_pairs
from orchestrator.errors import DataError
from orchestrator.evaluation.compare import Comparison
from orchestrator.evaluation.compare import compare as judge
from orchestrator.evaluation.evaluate import Request, cosines_of, plan_evaluation, reports_here
from orchestrator.evaluation.paired import Entry, centred, short_names
from orchestrator.evaluation.towers import Towers
from orchestrator.storage import redacted
from orchestrator.training.comparison import Metric
from orchestrator.training.evaluation import PairList
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
    precision: str = "fp32",
    on_judged: Callable[[Entry], None] = lambda _: None,
    alive: Callable[[], None] = lambda: None,
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
        precision: as `train.precision`.
        on_judged: called after each checkpoint, for records.
        alive: called after every batch.

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
    fixed = _pairs(corpus, split, max(report.model.num_frames for report in reports), pairs, pair_list)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    request = Request(stride, offsets, batch)
    entries = []
    for name, checkpoint, report in zip(
        short_names(list(map(redacted, checkpoints))), checkpoints, reports, strict=True
    ):
        towers = Towers(load_model(checkpoint).to(target), batch, target, precision, alive)
        entries.append(_entry(name, report, fixed, towers, request))
        on_judged(entries[-1])
    return judge(entries, fixed, metric=metric, notes=_notes(corpus, reports))


def _pairs(corpus: Corpus, split: SplitName, num_frames: int, count: int, stored: str | Path | None) -> PairList:
    """The stored list; a new one, which is stored under that name; or one that is not stored."""
    if stored is not None and Path(stored).exists():
        return PairList.stored(stored, corpus, split, num_frames)
    fixed = PairList.of(corpus, split, num_frames, count)
    if stored is not None:
        write_pairs(Path(stored), fixed.pairs, fixed.clips, num_frames)
    return fixed


def _entry(name: str, report: InspectReport, fixed: PairList, towers: Towers, request: Request) -> Entry:
    plan = plan_evaluation(centred(fixed, towers.num_frames))
    judged = reports_here(plan, towers, request)
    cosines = cosines_of(plan, judged)
    return Entry(name, report.path, towers.num_frames, fixed.hash, cosines, tuple(judged), report.parameters)


def _notes(corpus: Corpus, reports: Sequence[InspectReport]) -> list[str]:
    """What a person should know of the corpus and these networks."""
    unlike = {str(report.model.name) for report in reports}
    if len(unlike) < 2:
        return []
    return [f"networks of {len(unlike)} families ({', '.join(sorted(unlike))}) have losses that mean different things"]
