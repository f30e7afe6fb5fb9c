"""Deterministic validation: the same pairs every time, shared by all ranks, with the same result on any number of them.

Each rank embeds its own stretch of the pair list; the cosines are put together in order, so that every rank computes
the figures from the same list. Nothing waits for the device between two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from orchestrator.config.data import DataConfig
from orchestrator.data.corpus import Corpus, CorpusSplit, SplitName
from orchestrator.data.corpus.pairs import (
    clip_names,
    evaluation_pairs,
    pairs_hash,
    pairs_table,
    read_pairs,
    to_parquet,
    write_pairs,
)
from orchestrator.data.corpus.scores import pack_scores
from orchestrator.data.loader.batch import collate
from orchestrator.data.stream import Sample
from orchestrator.models import SyncNet, cosine_similarity
from orchestrator.training.distributed import gather_in_order, sum_over_ranks
from orchestrator.training.metrics import direction_sums, pair_metrics, spread_of
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
        cls, corpus: Corpus, split: SplitName, num_frames: int, count: int, settings: DataConfig | None = None
    ) -> PairList:
        """The pairs of a split, same-clip negatives only: a pure function of its arguments.

        Raises:
            DataError: no clip of the split is long enough.
        """
        clips = corpus.split(split)
        return cls._with(
            clips, evaluation_pairs(clips.table, num_frames, count, settings, seed=EVALUATION_SEED), num_frames
        )

    @classmethod
    def stored(cls, path: str | Path, corpus: Corpus, split: SplitName, num_frames: int) -> PairList:
        """A list that was stored, for a split that holds its clips.

        Raises:
            DataError: as `read_pairs`.
        """
        clips = corpus.split(split)
        return cls._with(clips, read_pairs(Path(path), clips, num_frames), num_frames)

    def to_bytes(self) -> bytes:
        """The file that `stored` reads."""
        return to_parquet(self.table())

    def table(self) -> pa.Table:
        """The same as a table."""
        return pairs_table(self.pairs, self.clips, self.num_frames)

    def scores(self, step: int, cosines: Tensor) -> dict[str, Any]:
        """(N,) cosines of its pairs at an optimizer step, as plain JSON data (see `data.corpus.scores`)."""
        return pack_scores(step, self.hash, cosines.numpy())

    @classmethod
    def _with(cls, clips: CorpusSplit, pairs: Sequence[Sample], num_frames: int) -> PairList:
        return cls(clips, pairs, num_frames, pairs_hash(pairs, clip_names(clips), clips.corpus.preparation))


@dataclass(frozen=True)
class Judged:
    """What a network makes of a pair list."""

    metrics: dict[str, float]
    """The figures of `pair_metrics`, and `spread_vision` and `spread_audio` of the embeddings."""
    cosines: Tensor
    """(N,) float32 of every pair, in the order of the list, in host memory."""


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
    alive: Callable[[], None] = lambda: None,
) -> Judged:
    """What the network makes of the pairs, the same on every rank.

    The model is left in the mode it came in; `alive` is called after every batch.

    Raises:
        RunError: its embeddings are not finite numbers.
    """
    device = device or torch.device("cpu")
    was_training = model.training
    model.eval()
    shares = [pairs.pairs[part] for part in _shares(len(pairs.pairs), world_size)]
    sizes = [len(share) for share in shares]
    cosines, directions = [], []
    # every rank calls the net equally often, which a net whose weights are spread over the ranks needs; one whose share
    # is at its end looks at pairs that do not count
    for first in range(0, max(sizes), batch):
        samples = shares[rank][first : first + batch]
        found, sums = _figures(model, pairs, samples or pairs.pairs[:2], device, precision)
        cosines.append(found[: len(samples)])
        directions.append(sums * bool(samples))
        alive()
    model.train(was_training)
    gathered = gather_in_order(torch.cat(cosines), sizes).cpu()
    metrics = pair_metrics(gathered, torch.tensor([pair.label for pair in pairs.pairs]))
    vision, audio = sum_over_ranks(torch.stack(directions).sum(0)).cpu()
    spreads = {"spread_vision": spread_of(vision), "spread_audio": spread_of(audio)}
    return Judged(metrics | spreads, gathered)


def fixed_pairs(
    path: str | Path | None, corpus: Corpus, split: SplitName, num_frames: int, count: int, settings: DataConfig
) -> PairList:
    """The pairs by which a checkpoint is judged: a stored list; a new one, which is stored under that name; or one that
    is not stored.

    Args:
        path: of the stored list, or none.
        corpus: what `prepare` wrote.
        split: which clips.
        num_frames: video frames per window.
        count: how many pairs; a stored list decides it.
        settings: as `evaluation_pairs`; a stored list decides it.

    Raises:
        DataError: as `PairList.of` and `PairList.stored`.
    """
    if path is not None and Path(path).exists():
        return PairList.stored(path, corpus, split, num_frames)
    fixed = PairList.of(corpus, split, num_frames, count, settings)
    if path is not None:
        write_pairs(Path(path), fixed.pairs, fixed.clips, num_frames)
    return fixed


def _figures(
    model: SyncNet, pairs: PairList, samples: Sequence[Sample], device: torch.device, precision: str
) -> tuple[Tensor, Tensor]:
    """Of one batch, on the device: (B,) cosines, and (2, E + 1) sums of the directions of both towers."""
    batch = collate(pairs.clips, samples, pairs.num_frames, pin_memory=device.type == "cuda")
    frames = model.pixels_to_input(batch.frames.to(device, non_blocking=True))
    with autocast(precision, device):
        vision, audio = model(frames, batch.mel.to(device, non_blocking=True))
    return cosine_similarity(vision, audio), torch.stack([direction_sums(vision), direction_sums(audio)])


def _shares(count: int, world_size: int) -> list[slice]:
    """`count` items as `world_size` contiguous stretches whose lengths differ by at most one."""
    edges = [count * rank // world_size for rank in range(world_size + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]
