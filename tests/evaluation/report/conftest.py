"""A real evaluation of a tiny network on the tiny corpus, which reports are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.data.corpus import Corpus
from orchestrator.evaluation.evaluate import evaluate_here, plan_evaluation
from orchestrator.evaluation.results import Evaluation
from orchestrator.evaluation.towers import Towers
from orchestrator.models import build_model
from orchestrator.training.evaluation import PairList


@pytest.fixture(scope="session")
def corpus(tiny_corpus: Path) -> Corpus:
    return Corpus.open(tiny_corpus)


@pytest.fixture(scope="session")
def pairs(corpus: Corpus) -> PairList:
    return PairList.of(corpus, "all", 5, 128)


@pytest.fixture(scope="session")
def evaluation(pairs: PairList, tiny_model_config: Any) -> Evaluation:
    """Of a network that knows nothing."""
    towers = Towers(build_model(tiny_model_config, seed=3))
    return evaluate_here(plan_evaluation(pairs), towers, "runs/tiny/step-000000012", step=12, notes=("few pairs",))
