"""A small corpus whose clips are long enough to be judged, some of them shifted, and a copy of it for every test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.data.manifest import read_manifest
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.revisions import Revision, revise_manifest
from orchestrator.data.synthetic import make_corpus
from orchestrator.storage import open_folder

SHIFTS_S = {"spk00/clip_00.mp4": 0.2, "spk01/clip_01.mp4": -0.1625}
"""Source -> what the manifest wrongly says of it; multiples of 1/80 s."""


@pytest.fixture(scope="session")
def shifted_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of 3 s."""
    folder = tmp_path_factory.mktemp("shifted")
    make_corpus(folder / "videos", speakers=3, clips_per_speaker=2, seconds=3.0, size=64)
    prepare_local(folder / "videos", folder / "corpus", PreparationConfig(resolution=32, val_fraction=0.34))
    return folder / "corpus"


@pytest.fixture
def shifted_corpus(shifted_prepared: Path, tmp_path: Path) -> Path:
    """The same, with wrong offsets in the manifest of two clips."""
    target = tmp_path / "corpus"
    shutil.copytree(shifted_prepared, target)
    folder = open_folder(target)
    ids = {row.source: row.clip_id for row in read_manifest(folder)}
    revise_manifest(folder, [Revision(ids[source], wrong) for source, wrong in SHIFTS_S.items()], "a mistake")
    return target
