"""`compare`, from files to a table: the call, the command, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import orchestrator
from orchestrator.checkpoint import normalize
from orchestrator.cli import main
from orchestrator.config import load_model_config
from orchestrator.errors import CheckpointError, DataError
from orchestrator.evaluation.paired import Entry
from orchestrator.models import build_model
from orchestrator.models.base import initialise
from orchestrator.training.evaluation import evaluate
from tests.conftest import TINY_MODEL

PAIRS = 16


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two untrained networks in folders of the same name."""
    folder, found = tmp_path_factory.mktemp("states"), []
    for seed, name in enumerate(("one", "two")):
        model = build_model(load_model_config(TINY_MODEL))
        initialise(model, seed)
        torch.save(model.state_dict(), folder / f"{name}.pt")
        path = normalize(folder / f"{name}.pt", folder / name, model_config=model.config).path
        found.append(str(Path(path).rename(folder / name / "step-000000001")))
    return found


def test_checkpoints_are_judged_as_evaluate_judges_them(states: list[str], tiny_corpus: Path, tmp_path: Path) -> None:
    stored, told = tmp_path / "pairs.parquet", list[Entry]()
    found = orchestrator.compare(
        states, tiny_corpus, pairs=PAIRS, pair_list=stored, offsets=False, on_judged=told.append
    )
    assert [entry.name for entry in told] == ["one", "two"] and all(entry.parameters > 0 for entry in told)
    assert stored.exists() and found.reference == "one" and found.pairs == PAIRS
    for standing in found.standings:
        report = evaluate(standing.checkpoint, tiny_corpus, pair_list=stored)
        assert report.pairs_hash == found.pairs_hash
        for name in ("auc", "accuracy", "loss"):
            assert standing.figures[f"val/{name}"].value == pytest.approx(report.metrics[name], abs=1e-4)
    again = orchestrator.compare(states[::-1], tiny_corpus, pair_list=stored, offsets=False)
    assert again.pairs == PAIRS and again.reference == "two" and again.best == found.best


def test_the_command_says_which_one_to_use(
    states: list[str], tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", *states, "--data", str(tiny_corpus), "--pairs", str(PAIRS), "--stride", "3"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert {each["name"] for each in said["standings"]} == {"one", "two"} and said["advice"]
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--no-offsets", "--metric", "loss"]) == 0
    shown = capsys.readouterr().out
    assert "loss over one" in shown and said["pairs_hash"][:12] in shown and "offset accuracy" not in shown


def test_what_cannot_be_compared_is_refused_before_anything_is_judged(states: list[str], tiny_corpus: Path) -> None:
    with pytest.raises(DataError, match="at least two checkpoints, but 1 was named"):
        orchestrator.compare(states[:1], tiny_corpus)
    judged = list[Entry]()
    with pytest.raises(CheckpointError):
        orchestrator.compare([*states, "no-such-file.pt"], tiny_corpus, on_judged=judged.append)
    assert judged == []
