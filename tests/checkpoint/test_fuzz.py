"""A short run of `tests.fuzz`: every kind of damaged and hostile input ends in a result or a clear refusal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from orchestrator.checkpoint import inspect
from tests.fuzz import seeds
from tests.fuzz.kinds import KINDS, Arena

CASES = 120


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Any:
    before = tempfile.tempdir
    yield Arena(tmp_path_factory.mktemp("fuzz"))
    tempfile.tempdir = before


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_does_anything_but_be_read_or_refused(kind: str, arena: Arena) -> None:
    @settings(max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(KINDS[kind].draws)
    def case(drawn: Any) -> None:
        arena.run(KINDS[kind], drawn)

    case()


@pytest.mark.parametrize("name", sorted(seeds.folders()))
def test_the_seeds_of_folders_are_whole(name: str, arena: Arena, tmp_path: Path) -> None:
    for file, content in seeds.folders()[name].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    assert inspect(tmp_path, model_config=seeds.CONFIG).parameters > 0


@pytest.mark.parametrize("name", sorted(seeds.files()))
def test_the_seeds_are_whole(name: str, arena: Arena, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(seeds.files()[name])
    if name not in ("torchscript", "torch-export"):  # of another network: only their containers matter
        assert inspect(path, model_config=seeds.CONFIG).parameters > 0
