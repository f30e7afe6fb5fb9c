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
from orchestrator.models import build_model
from orchestrator.models.base import initialise
from orchestrator.runtime import compare as runtime
from orchestrator.runtime.evaluate import evaluate
from orchestrator.tracking import find_run
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
    stored = tmp_path / "pairs.parquet"
    found = orchestrator.compare(states, tiny_corpus, pairs=PAIRS, pair_list=stored, offsets=False)
    assert {each.name for each in found.standings} == {"one", "two"}
    assert all(each.parameters > 0 for each in found.standings)
    assert stored.exists() and found.reference == "one" and found.pairs == PAIRS
    for standing in found.standings:
        report = evaluate(standing.checkpoint, tiny_corpus, pair_list=stored, offsets=False)
        assert report.pairs_hash == found.pairs_hash
        for name in ("auc", "accuracy", "loss"):
            assert standing.figures[f"val/{name}"].value == pytest.approx(report.metrics[name], abs=1e-4)
    again = orchestrator.compare(states[::-1], tiny_corpus, pair_list=stored, offsets=False)
    assert again.pairs == PAIRS and again.reference == "two" and again.best == found.best


def test_the_command_says_which_one_to_use(
    states: list[str], tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", *states, "--data", str(tiny_corpus), "--pairs", str(PAIRS), "--stride", "3"]
    assert main([*words, "--storage", str(tmp_path / "runs"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    said_of = {each["name"]: each for each in said["standings"]}
    (kept,) = (tmp_path / "runs" / "findings").iterdir()
    assert said == json.loads((kept / "compare.json").read_text())
    assert {each["name"] for each in said["standings"]} == {"one", "two"} and said["advice"]
    assert (kept / "comparison.png").read_bytes().startswith(b"\x89PNG")
    record = find_run(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}", "syncnet", kept.name)
    assert record is not None and record.metrics["one/val/auc"] == said_of["one"]["figures"]["val/auc"]["value"]
    assert main([*words, "--no-offsets", "--metric", "loss", "--no-record"]) == 0
    shown = capsys.readouterr().out
    assert "loss over one" in shown and said["pairs_hash"][:12] in shown and "offset accuracy" not in shown


def test_what_cannot_be_compared_is_refused_before_anything_is_judged(
    states: list[str], tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="at least two checkpoints, but 1 was named"):
        orchestrator.compare(states[:1], tiny_corpus)
    judged = list[str]()
    monkeypatch.setattr(runtime, "run_judging", lambda name, *_, **__: judged.append(name))
    with pytest.raises(CheckpointError):
        orchestrator.compare([*states, "no-such-file.pt"], tiny_corpus)
    assert judged == []
