"""A broken corpus is really repaired: the sound of some files is shifted, and a bootstrap puts their clips right.

By the estimate, because a network that can judge takes minutes to train: `benchmarks/repair.py` measures that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks._repair_data import break_corpus
from orchestrator.config.media import FPS
from orchestrator.data.manifest import read_manifest
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.synthetic import make_corpus
from orchestrator.runtime.audit import Ask
from orchestrator.runtime.bootstrap import BootstrapOptions, bootstrap
from orchestrator.storage import open_folder


@pytest.mark.slow
def test_shifted_files_are_put_right_before_the_first_training(tiny_config: Any, tmp_path: Path) -> None:
    settings = PreparationConfig(resolution=32, val_fraction=0.25)
    make_corpus(tmp_path / "videos", speakers=4, clips_per_speaker=3, seconds=4.0, size=64)
    prepare_local(tmp_path / "videos", tmp_path / "clean", settings)
    truth = break_corpus(
        tmp_path / "videos", tmp_path / "clean", tmp_path / "broken", settings, share=0.4, reach=8.0, seed=3
    )
    corpus = tmp_path / "broken" / "corpus"
    config = tiny_config.model_copy(
        update={
            "data": tiny_config.data.model_copy(update={"path": str(corpus)}),
            "train": tiny_config.train.model_copy(update={"steps": 2}),
        }
    )
    options = BootstrapOptions(rounds=1, estimate_first=True, holdout=str(tmp_path / "clean"), ask=Ask(stride=4))
    result = bootstrap(config, "repair", options)
    assert result.ended == "blind", "two steps teach nothing, and nothing must come of it"
    first = result.rounds[0]
    assert first.changed == sum(abs(seconds) * FPS > 0.5 for seconds in truth.values()) > 0
    found = {row.source: row.av_offset_s for row in read_manifest(open_folder(corpus))}
    assert {source: found[source] for source in truth} == pytest.approx(truth, abs=0.75 / FPS)
