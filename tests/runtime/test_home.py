"""Runs that live in object storage: whole runs in this process, and what their working copies and parts promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import orchestrator
from orchestrator.checkpoint import read_state, shelf, weights_hash
from orchestrator.config import RunConfig
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.status import RunState, read_statuses
from orchestrator.storage import open_folder
from orchestrator.training.retention import checkpoints_in


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[str]:
    """Object storage of this process alone, empty."""
    uri = f"memory://{tmp_path.name}/runs"
    yield uri
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def remote_config(tiny_config: RunConfig, storage: str, tmp_path: Path) -> RunConfig:
    """The tiny run, whose folder lies there."""
    tracking = tiny_config.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"})
    return tiny_config.model_copy(update={"storage": storage, "tracking": tracking})


def test_a_run_in_object_storage_is_the_run_in_a_folder(
    tiny_config: RunConfig, remote_config: RunConfig, storage: str
) -> None:
    here, there = orchestrator.train(tiny_config, "one"), orchestrator.train(remote_config, "one")
    assert (there.step, there.best, there.best_step) == (here.step, here.best, here.best_step)
    assert weights_hash(read_state(there.best_checkpoint).weights) == weights_hash(
        read_state(here.best_checkpoint).weights
    )
    assert [shelf.name_of(path) for path in checkpoints_in(there.folder)] == [
        path.name for path in checkpoints_in(here.folder)
    ]
    home = open_folder(there.folder)
    names = {entry.name for entry in home.entries()}
    assert {"run.json", "status.json", "pairs/val.parquet", "pairs/best.parquet"} <= names
    assert not [name for name in names if name.startswith(("drivers/", "."))]
    rows = [json.loads(line) for line in (here.folder / "journal.jsonl").read_text().splitlines()]
    parts = sorted(name for name in names if name.startswith("journal/"))
    kept = [json.loads(line) for name in parts for line in home.read(name).splitlines()]
    assert [_told(row) for row in kept] == [_told(row) for row in rows]
    (status,) = read_statuses(storage)
    assert (status.name, status.state, status.step) == ("one", RunState.FINISHED, 12)
    assert status.folder == there.folder and status.checkpoint == 12
    assert not list(RunPaths.of(storage, "one").storage.iterdir())  # nothing stays behind here
    assert orchestrator.train(remote_config, "one").step == 12  # finished already


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says, without the clock's share."""
    figures = {key: value for key, value in row.get("figures", {}).items() if not _is_timed(key)}
    return {**{key: value for key, value in row.items() if key != "at"}, **({"figures": figures} if figures else {})}


def _is_timed(key: str) -> bool:
    return key.startswith("system/") or key.endswith(("_per_s", "data_wait", "seconds"))
