"""The checkpoints in a folder, here and in remote storage: one behaviour, whole or none at every moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from orchestrator.checkpoint import TrainState, is_complete, read_state, save_state, shelf, state_hash
from orchestrator.config.schema import CheckpointConfig
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import build_model
from orchestrator.storage import Location, open_folder
from orchestrator.training.retention import checkpoint_folder, checkpoints_in, step_of
from orchestrator.training.saver import Saver, latest_undamaged


@pytest.fixture(params=["here", "memory", "local"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """The folder of a run: here, and in two kinds of remote storage."""
    if request.param == "here":
        yield tmp_path / "run"
        return
    if request.param == "local":
        yield f"local://{tmp_path}/run"
        return
    yield f"memory://{tmp_path.name}/run"
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def at(tiny_model_config: Any) -> Callable[[int], TrainState]:
    weights = dict(build_model(tiny_model_config, seed=1).state_dict())
    return lambda step: TrainState(tiny_model_config, weights, step=step, rng={"torch": torch.ones(2)})


def everything(run: Location) -> list[str]:
    return [entry.name for entry in open_folder(run).entries()]


def test_names_and_places(run: Location) -> None:
    checkpoint = checkpoint_folder(run, 7)
    assert shelf.name_of(checkpoint) == "step-000000007" and step_of(checkpoint) == 7
    assert shelf.above(checkpoint) == run and type(checkpoint) is type(run)
    assert shelf.subfolders(run) == [] and checkpoints_in(run) == [] and not shelf.stands(checkpoint)
    shelf.remove(checkpoint)
    shelf.sweep(run)


def test_options_of_a_uri_stay_behind_its_path() -> None:
    run = "s3://key:secret@bucket/my%20runs/one?scheme=http&endpoint_override=10.0.0.1:9000"
    checkpoint = checkpoint_folder(run, 7)
    assert checkpoint == run.replace("/one?", "/one/step-000000007?") and shelf.above(checkpoint) == run
    assert (
        shelf.inside("hdfs:///runs", "one") == "hdfs:///runs/one" and shelf.above("hdfs:///runs/one") == "hdfs:///runs"
    )
    assert step_of(checkpoint) == 7 and shelf.name_of("s3://bucket/my%20runs?a=b/c") == "my runs"


def test_saved_renamed_copied_and_removed(run: Location, at: Any) -> None:
    first, second = checkpoint_folder(run, 1), checkpoint_folder(run, 2)
    save_state(at(1), first)
    assert is_complete(first) and state_hash(read_state(first)) == state_hash(at(1))
    shelf.duplicate(first, second)
    assert state_hash(read_state(second)) == state_hash(at(1)) and checkpoints_in(run) == [first, second]
    moved = shelf.rename(second, "damaged-step-000000002")
    assert shelf.name_of(moved) == "damaged-step-000000002" and is_complete(moved)
    assert checkpoints_in(run) == [first] and not shelf.stands(second)
    shelf.remove(first)
    assert checkpoints_in(run) == [] and all(name.startswith("damaged-") for name in everything(run))
    with pytest.raises(CheckpointError) as caught:
        read_state(first)
    assert caught.value.reason in (RefusalReason.MISSING, RefusalReason.CORRUPT)


def test_what_is_half_written_is_no_checkpoint_and_goes_at_the_next_start(run: Location, at: Any) -> None:
    half, whole = checkpoint_folder(run, 2), checkpoint_folder(run, 1)
    save_state(at(1), whole)
    if isinstance(run, Path):  # here it has another name until it is whole
        return
    open_folder(half).write("model.safetensors", b"cut short")
    assert checkpoints_in(run) == [whole] and not is_complete(half)
    Saver(run, settings=CheckpointConfig(), tell=print)
    assert not [name for name in everything(run) if name.startswith("step-000000002")] and is_complete(whole)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(run: Location, at: Any) -> None:
    told: list[str] = []
    saver = Saver(run, settings=CheckpointConfig(keep=9, keep_every=1, asynchronous=False), tell=told.append)
    for step in (1, 2):
        saver.save(at(step))
    folder = open_folder(checkpoint_folder(run, 2))
    folder.write("model.safetensors", b"x" * len(folder.read("model.safetensors")))
    latest = latest_undamaged(run, told.append)
    assert latest is not None and latest.step == 1
    assert "step-000000002 is damaged and now damaged-step-000000002" in told[0]
    saver.save(at(2))
    assert latest_undamaged(run, told.append).step == 2  # type: ignore[union-attr]


def test_retention_lets_go_what_need_not_be_kept(run: Location, at: Any) -> None:
    saver = Saver(run, settings=CheckpointConfig(keep=1, keep_every=2), tell=print)
    for step in (1, 2, 3, 4, 5):
        saver.save(at(step))
    saver.wait()
    assert [step_of(path) for path in checkpoints_in(run)] == [2, 4, 5]
