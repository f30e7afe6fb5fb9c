"""A network that was really trained, asked everything: known offsets are found, and the controls hold.

The corpus and the network are the demo's, smaller; the clips that are asked about are of speakers it has never seen.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks._repair_data import shift_sound
from orchestrator.checkpoint import load_model
from orchestrator.config import load_config
from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.corpus import Corpus
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.synthetic import make_corpus
from orchestrator.evaluation.controls import controls_here
from orchestrator.evaluation.evaluate import plan_evaluation
from orchestrator.evaluation.score import score_video
from orchestrator.evaluation.towers import Towers
from orchestrator.models import build_model
from orchestrator.runtime.train import train
from orchestrator.training.evaluation import PairList

pytestmark = pytest.mark.slow

SHIFTS_OF_EACH = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of drawn heads, and the same prepared."""
    made = tmp_path_factory.mktemp("trained")
    make_corpus(made / "videos", speakers=16, clips_per_speaker=5, seconds=4.0, size=96)
    prepare_local(made / "videos", made / "corpus", PreparationConfig(resolution=32, val_fraction=0.25))
    return made


@pytest.fixture(scope="module")
def towers(folder: Path) -> Towers:
    """The demo's network, trained for a minute."""
    recipe = yaml.safe_load(files("orchestrator").joinpath("demo.yaml").read_text(encoding="utf-8"))
    section = recipe["train"]
    config = load_config(
        {
            **section,
            "model": recipe["model"],
            "data": {"path": str(folder / "corpus")},
            "train": {**section["train"], "steps": 300},
            "eval": {"every": 100, "pairs": 200},
            "checkpoint": {"every": 100, "keep": 1},
            "scale": {"num_workers": 0, "use_gpu": False},
            "storage": str(folder / "runs"),
        }
    )
    return Towers(load_model(train(config, "net").best_checkpoint))


def test_known_offsets_are_found_within_a_frame(towers: Towers, folder: Path, tmp_path: Path) -> None:
    rng, errors = np.random.default_rng(0), []
    for row in Corpus.open(folder / "corpus").clips("val"):
        for turn in range(SHIFTS_OF_EACH):
            frames = float(rng.integers(-10, 11) if turn else rng.uniform(-10, 10))
            video = tmp_path / "shifted.mp4"
            shift_sound(folder / "videos" / row.source, video, round(frames * SAMPLE_RATE / FPS))
            found = score_video(video, towers, face="aligned").offset_frames
            assert found is not None
            errors.append(abs(found - frames))
    assert len(errors) >= 40
    assert np.mean(np.array(errors) <= 1) >= 0.95
    assert np.median(errors) < 0.5


def test_the_controls_hold_and_of_a_fresh_network_nothing_beats_chance(towers: Towers, folder: Path) -> None:
    listed = PairList.of(Corpus.open(folder / "corpus"), "val", towers.num_frames, 2048)
    plan = plan_evaluation(listed)
    trained = controls_here(plan, towers, pairs=2048)
    assert [(each.name, each.why) for each in trained if not each.passed] == []
    fresh = controls_here(plan, Towers(build_model(towers.model.config)))
    assert [each.name for each in fresh if each.passed is False] == ["as_it_is"]
