"""`evaluate` as a whole: the figures of training's pairs, the same on Ray, kept once in a folder and in MLflow."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import orchestrator
from orchestrator.config.model import AnyModelConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import read_manifest, write_manifest
from orchestrator.errors import ConfigError, DataError
from orchestrator.models import build_model
from orchestrator.runtime.recording import Shelf
from orchestrator.storage import open_folder
from orchestrator.tracking import find_run
from orchestrator.training.evaluation import PairList, evaluate_pairs


@pytest.fixture
def weights(tiny_model_config: AnyModelConfig, tmp_path: Path) -> Path:
    """A file that knows nothing."""
    path = tmp_path / "fresh.pt"
    torch.save({"state_dict": build_model(tiny_model_config).state_dict()}, path)
    return path


def test_the_pairs_are_judged_as_training_judges_them(
    weights: Path, tiny_corpus: Path, tiny_model_config: AnyModelConfig
) -> None:
    found = orchestrator.evaluate(weights, tiny_corpus, pairs=40, workers=0, model_config=tiny_model_config)
    model = build_model(tiny_model_config)
    model.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    listed = PairList.of(Corpus.open(tiny_corpus), "val", 5, 40)
    judged = evaluate_pairs(model, listed, 7)
    assert found.pairs_hash == listed.hash
    assert torch.allclose(found.tensor(), judged.cosines, atol=1e-6)
    assert found.metrics == pytest.approx(judged.metrics, abs=1e-6)
    assert [row.clip_id for row in found.rows] == Corpus.open(tiny_corpus).split("val").clip_ids
    assert found.figure("accuracy").value == pytest.approx(judged.metrics["accuracy"])


def test_pairs_alone_look_for_no_offsets(weights: Path, tiny_corpus: Path, tiny_model_config: AnyModelConfig) -> None:
    asked = {"pairs": 16, "workers": 0, "model_config": tiny_model_config}
    whole = orchestrator.evaluate(weights, tiny_corpus, **asked)
    alone = orchestrator.evaluate(weights, tiny_corpus, offsets=False, **asked)
    assert torch.allclose(alone.tensor(), whole.tensor(), atol=1e-6)
    assert all(report.offset is None for report in alone.clips)
    assert not any(figure.name.startswith(("offset", "clip_offset", "lse")) for figure in alone.figures)


@pytest.mark.usefixtures("ray_session")
def test_a_cluster_says_the_same(weights: Path, tiny_corpus: Path, tiny_model_config: AnyModelConfig) -> None:
    asked = {"split": "all", "pairs": 40, "model_config": tiny_model_config}
    here = orchestrator.evaluate(weights, tiny_corpus, workers=0, **asked).to_dict()
    there = orchestrator.evaluate(weights, tiny_corpus, workers=2, **asked).to_dict()
    assert _close(here, there)


def test_a_finding_is_kept_once(
    weights: Path, tiny_corpus: Path, tiny_model_config: AnyModelConfig, tmp_path: Path
) -> None:
    shelf = Shelf.under(tmp_path / "runs")
    for _ in range(2):
        found = orchestrator.evaluate(
            weights, tiny_corpus, pairs=16, workers=0, model_config=tiny_model_config, shelf=shelf
        )
    (folder,) = (tmp_path / "runs" / "findings").iterdir()
    kept = json.loads((folder / "evaluate.json").read_text())
    assert kept["pairs_hash"] == found.pairs_hash and kept["metrics"] == found.metrics
    record = find_run(shelf.tracking_uri, "syncnet", folder.name)
    assert record is not None and record.status == "FINISHED"
    assert record.metrics["eval/auc"] == pytest.approx(found.metrics["auc"])
    assert record.metrics["eval/auc_low"] <= record.metrics["eval/auc"] <= record.metrics["eval/auc_high"]


def test_a_refused_corpus_leaves_nothing(
    weights: Path, tiny_model_config: AnyModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="not a prepared corpus"):
        orchestrator.evaluate(
            weights, tmp_path / "nothing", model_config=tiny_model_config, shelf=Shelf.under(tmp_path / "runs")
        )
    assert not (tmp_path / "runs").exists()
    copy = tmp_path / "runtime_resources" / "working_dir_files"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ConfigError, match="temporary copy"):
        Shelf.under("runs")


def test_figures_are_told_by_speaker_language_and_source(
    weights: Path, tiny_corpus: Path, tiny_model_config: AnyModelConfig, tmp_path: Path
) -> None:
    folder = open_folder(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    rows = read_manifest(folder)
    spoken = {row.speaker: "en" if number % 2 else "de" for number, row in enumerate(rows[::2])}
    write_manifest(folder, [replace(row, language=spoken[row.speaker], tag="ours") for row in rows])
    found = orchestrator.evaluate(
        weights, tmp_path / "corpus", split="all", pairs=64, workers=0, model_config=tiny_model_config
    )
    assert set(found.groups) == {"speaker", "language"}, "there is but one source"
    assert set(found.groups["language"]) == {"de", "en"} and set(found.groups["speaker"]) == set(spoken)
    listed = PairList.of(Corpus.open(tmp_path / "corpus"), "all", 5, 64)
    for language, figures in found.groups["language"].items():
        mine = [n for n, pair in enumerate(listed.pairs) if found.rows[pair.clip].language == language]
        right = [(found.cosines[n] > 0.5) == bool(listed.pairs[n].label) for n in mine]
        named = {figure.name: figure for figure in figures}
        assert named["accuracy"].value == pytest.approx(sum(right) / len(right))
        assert 0 <= named["accuracy"].low <= named["accuracy"].value <= named["accuracy"].high <= 1
        assert named["clip_offset_accuracy_within_1"].chance == pytest.approx(3 / 31)


def _close(here: object, there: object) -> bool:
    """Whether two plain results agree to rounding, in every place."""
    if isinstance(here, dict) and isinstance(there, dict):
        return here.keys() == there.keys() and all(_close(here[key], there[key]) for key in here)
    if isinstance(here, list) and isinstance(there, list):
        return len(here) == len(there) and all(_close(*both) for both in zip(here, there, strict=True))
    if isinstance(here, float) and isinstance(there, float):
        return here == pytest.approx(there, abs=1e-5)
    return here == there
