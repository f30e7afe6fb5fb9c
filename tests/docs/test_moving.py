"""A run moves as the documentation says, and ends as if it had never moved: with its folder, or by a checkpoint.

docs/training.md tells where journals go; docs/scaling.md, how a run goes on under another storage and another name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

import orchestrator
from orchestrator.checkpoint import read_state, weights_hash
from orchestrator.cli import main
from orchestrator.config import RunConfig, apply_settings
from orchestrator.errors import RunStopped
from orchestrator.runtime import execute
from orchestrator.runtime.paths import RunPaths
from orchestrator.storage import open_folder
from orchestrator.training.retention import checkpoints_in
from tests.runtime.sameness import differences_between

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """Object storage of this process alone."""
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def here(tiny_config: RunConfig, tmp_path: Path) -> RunConfig:
    """The tiny run in a folder, recorded where a run is recorded wherever it lies."""
    return apply_settings(tiny_config, {"tracking.uri": f"sqlite:///{tmp_path / 'mlflow.db'}"})


@pytest.fixture
def stop_midway(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunConfig], None]:
    """Start the run `moved` and stop it after some steps."""

    def begin(config: RunConfig) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(execute, "seldom", _yes_after(5))
            with pytest.raises(RunStopped):
                orchestrator.train(config, "moved")

    return begin


@pytest.mark.parametrize("outwards", [True, False])
def test_a_run_moves_with_its_folder(
    here: RunConfig, bucket: str, stop_midway: Callable[[RunConfig], None], outwards: bool
) -> None:
    there = apply_settings(here, {"storage": f"{bucket}/runs"})
    orchestrator.train(here, "calm")
    stop_midway(here if outwards else there)
    folder, home = RunPaths.of(here.storage, "moved").folder, open_folder(RunPaths.of(there.storage, "moved").where)
    if outwards:
        for path in (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
            name = path.relative_to(folder).as_posix()
            home.write("journal/00000-000000-moved.jsonl" if name == "journal.jsonl" else name, path.read_bytes())
        shutil.rmtree(folder)
    else:
        for entry in home.entries():
            target = folder / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(home.read(entry.name))
        parts = sorted((folder / "journal").iterdir())
        (folder / "journal.jsonl").write_bytes(b"".join(part.read_bytes() for part in parts))
    goes_on = there if outwards else here
    assert orchestrator.train(goes_on, "moved").step == here.train.steps
    assert differences_between((here, "calm"), (goes_on, "moved")) == []


def test_a_run_goes_on_elsewhere_from_one_of_its_checkpoints(
    here: RunConfig, bucket: str, stop_midway: Callable[[RunConfig], None], capsys: pytest.CaptureFixture[str]
) -> None:
    calm = orchestrator.train(here, "calm")
    stop_midway(here)
    latest = checkpoints_in(RunPaths.of(here.storage, "moved").where)[-1]
    assert main(["normalize", str(latest), "--out", f"{bucket}/states"]) == 0
    state = capsys.readouterr().out.rpartition("resumable state: ")[2].split()[0]
    settings = {"storage": f"{bucket}/runs", "start.checkpoint": state, "start.verb": "resume"}
    again = orchestrator.train(apply_settings(here, settings), "moved-there")
    one, other = (read_state(checkpoints_in(run.folder)[-1]) for run in (calm, again))
    assert again.start["verb"] == "resume" and again.step == calm.step
    assert (again.best, again.best_step, other.samples) == (calm.best, calm.best_step, one.samples)
    assert weights_hash(one.weights) == weights_hash(other.weights)


def _yes_after(times: int) -> Callable[[object], Callable[[], bool]]:
    """A question that is answered with yes after it was put so often."""

    def seldom(_ask: object) -> Callable[[], bool]:
        count = iter(range(times))
        return lambda: next(count, None) is None

    return seldom
