"""Deterministic validation: the same pairs every time, shared by all ranks, with the same result on any number of them.

Each rank embeds its own stretch of the pair list; the cosines are put together in order, so that every rank computes
the figures from the same list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.checkpoint import ModelOption, load_model
from orchestrator.data.corpus import Corpus, CorpusSplit, SplitName
from orchestrator.data.loader import collate
from orchestrator.data.stream import Sample, evaluation_pairs, pairs_hash
from orchestrator.models import SyncNet, cosine_similarity
from orchestrator.training.distributed import gather_in_order
from orchestrator.training.fitting import check_fits
from orchestrator.training.metrics import pair_metrics
from orchestrator.training.precision import autocast

EVALUATION_SEED = 0
"""The pairs never depend on the run's own seed, so that runs compare."""


@dataclass(frozen=True)
class PairList:
    """The fixed validation pairs of one split."""

    clips: CorpusSplit
    pairs: Sequence[Sample]
    num_frames: int
    hash: str
    """Figures are comparable only where this agrees."""

    @classmethod
    def of(
        cls, corpus: Corpus, split: SplitName, num_frames: int, count: int, min_shift: int, max_shift: int | None
    ) -> PairList:
        """The pairs of a split: a pure function of its arguments.

        Raises:
            DataError: no clip of the split is long enough.
        """
        clips = corpus.split(split)
        pairs = evaluation_pairs(
            clips.lengths, num_frames, count, seed=EVALUATION_SEED, min_shift=min_shift, max_shift=max_shift
        )
        return cls(clips, pairs, num_frames, pairs_hash(pairs, clips.clip_ids, corpus.preparation))


@dataclass(frozen=True)
class EvaluationReport:
    """How well a checkpoint tells in-sync from out-of-sync on a prepared corpus."""

    metrics: dict[str, float]
    """The figures of `pair_metrics`."""
    pairs: int
    """Balanced pairs judged; chance is 0.5 for accuracy and AUC."""
    clips: int
    """Clips that they come from."""
    split: str
    pairs_hash: str
    """Reports are comparable only where this agrees."""


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    *,
    split: SplitName = "val",
    pairs: int = 2048,
    batch: int = 64,
    min_shift: int = 1,
    max_shift: int | None = None,
    device: str | None = None,
    model_config: ModelOption = None,
) -> EvaluationReport:
    """Judge any readable checkpoint on the fixed pairs of a prepared corpus.

    Args:
        checkpoint: a normalized directory, a checkpoint of a run, or any SyncNet file.
        data: the folder that `prepare` wrote.
        split: `train`, `val` or `all`.
        pairs: how many pairs, half of them in sync.
        batch: pairs that go through the net at once.
        min_shift: least gap of a negative in frames.
        max_shift: greatest gap; none means anywhere in the clip.
        device: where to compute; a GPU if there is one.
        model_config: describes the network where a foreign file's weights cannot (see `load_model`).

    Raises:
        OrchestratorError: the checkpoint or the corpus cannot be used.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_model(checkpoint, model_config=model_config).to(target)
    corpus = Corpus.open(data)
    check_fits(corpus, model.config)
    fixed = PairList.of(corpus, split, model.config.num_frames, pairs, min_shift, max_shift)
    metrics = evaluate_pairs(model, fixed, batch, device=target)
    return EvaluationReport(metrics, len(fixed.pairs), len({pair.clip for pair in fixed.pairs}), split, fixed.hash)


@torch.no_grad()
def evaluate_pairs(
    model: SyncNet,
    pairs: PairList,
    batch: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
    precision: str = "fp32",
) -> dict[str, float]:
    """The figures of `pair_metrics` for a model, on every rank. The model is left in the mode it came in."""
    device = device or torch.device("cpu")
    was_training = model.training
    model.eval()
    sizes = [len(pairs.pairs[part]) for part in _shares(len(pairs.pairs), world_size)]
    mine = pairs.pairs[_shares(len(pairs.pairs), world_size)[rank]]
    cosines = [
        _cosines(model, pairs, mine[start : start + batch], device, precision) for start in range(0, len(mine), batch)
    ]
    gathered = gather_in_order(torch.cat(cosines) if cosines else torch.empty(0, device=device), sizes).cpu()
    model.train(was_training)
    return pair_metrics(gathered, torch.tensor([pair.label for pair in pairs.pairs]))


def _cosines(
    model: SyncNet, pairs: PairList, samples: Sequence[Sample], device: torch.device, precision: str
) -> Tensor:
    batch = collate(pairs.clips, samples, pairs.num_frames, pin_memory=device.type == "cuda")
    frames = model.pixels_to_input(batch.frames.to(device, non_blocking=True))
    with autocast(precision, device):
        vision, audio = model(frames, batch.mel.to(device, non_blocking=True))
    return cosine_similarity(vision, audio)


def _shares(count: int, world_size: int) -> list[slice]:
    """`count` items as `world_size` contiguous stretches whose lengths differ by at most one."""
    edges = [count * rank // world_size for rank in range(world_size + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]
