"""Validation: the same figures on any number of ranks, what its figures are, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from orchestrator.config import load_model_config
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.scores import read_scores
from orchestrator.errors import RunError
from orchestrator.models import build_model
from orchestrator.runtime.evaluate import evaluate
from orchestrator.training.chance import LearningState
from orchestrator.training.evaluation import Judged, PairList, evaluate_pairs
from orchestrator.training.metrics import direction_sums, pair_metrics, spread_of
from tests.conftest import TINY_MODEL

PAIRS, WORLD = 4, 3
"""Shares of 1, 1 and 2 pairs: with one pair at a time two ranks end before the third."""


def test_figures_are_the_same_on_any_number_of_ranks(tiny_corpus: Path, tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tiny_corpus), str(tmp_path)), nprocs=WORLD)
    alone = _judged(tiny_corpus, 0, 1)
    shared = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    assert shared[0] == shared[1] == shared[2]
    metrics, cosines = shared[0]
    assert metrics == pytest.approx(alone.metrics, abs=1e-6) and cosines == pytest.approx(
        alone.cosines.tolist(), abs=1e-6
    )
    assert {name for name in metrics if name.endswith(("_low", "_high"))} == {
        f"{name}_{end}" for name in ("loss", "gap", "auc") for end in ("low", "high")
    }


def _rank(rank: int, corpus: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    judged = _judged(Path(corpus), rank, WORLD)
    torch.save((judged.metrics, judged.cosines.tolist()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _judged(corpus: Path, rank: int, world: int) -> Judged:
    # the last group norm refuses a single window of as many channels as groups
    encoders = {name: TINY_MODEL[name] | {"block_out_channels": [32, 64]} for name in TINY_MODEL if "encoder" in name}
    model = build_model(load_model_config(TINY_MODEL | encoders))
    pairs, signs = PairList.of(Corpus.open(corpus), "val", 5, PAIRS), list[int]()
    judged = evaluate_pairs(model, pairs, 1, rank=rank, world_size=world, alive=lambda: signs.append(rank))
    assert model.training and len(signs) == -(-PAIRS // world)
    assert judged.cosines.dtype == torch.float32 and len(judged.cosines) == PAIRS
    return judged


def test_spread_is_one_less_the_mean_direction() -> None:
    across = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    assert spread_of(direction_sums(across)) == pytest.approx(1 - 0.5**0.5)
    parts = direction_sums(across[:1]) + direction_sums(across[1:])
    assert torch.equal(parts, direction_sums(across))
    assert spread_of(direction_sums(torch.ones(5, 7) * torch.arange(1, 6)[:, None])) < 1e-12
    assert spread_of(direction_sums(torch.zeros(4, 8))) == 0.0


def test_embeddings_that_are_no_numbers_are_refused(tiny_corpus: Path, tiny_model_config: Any) -> None:
    model = build_model(tiny_model_config)
    torch.nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(RunError, match="not finite numbers") as caught:
        evaluate_pairs(model, PairList.of(Corpus.open(tiny_corpus), "val", 5, 4), 2)
    assert "optim.lr" in caught.value.hint


def test_a_report_says_whether_the_checkpoint_tells_pairs_apart(
    tiny_corpus: Path, tiny_model_config: Any, tmp_path: Path
) -> None:
    torch.save({"state_dict": build_model(tiny_model_config).state_dict()}, tmp_path / "fresh.pt")
    report = evaluate(tmp_path / "fresh.pt", tiny_corpus, pairs=16, model_config=tiny_model_config)
    assert report.verdict.state is LearningState.AT_CHANCE
    assert f"AUC {report.metrics['auc']:.3f}" in report.verdict.why


def test_the_cosines_of_a_report_can_be_stored(tiny_corpus: Path, tiny_model_config: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": build_model(tiny_model_config).state_dict()}, tmp_path / "fresh.pt")
    file, path = tmp_path / "scores.parquet", tmp_path / "fresh.pt"
    report = evaluate(path, tiny_corpus, pairs=16, scores=file, model_config=tiny_model_config)
    kept = read_scores(file)
    assert (kept.step, kept.pairs_hash, len(set(kept.clips))) == (0, report.pairs_hash, len(report.clips))
    figures = pair_metrics(torch.from_numpy(kept.cosines), torch.from_numpy(kept.labels))
    assert figures.items() <= report.metrics.items()
