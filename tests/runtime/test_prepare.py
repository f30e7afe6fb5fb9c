"""`prepare` on Ray: what a person reads meanwhile, and a driver and its workers that are killed in the middle."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.data.prepare import prepare_local
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.data.synthetic import make_corpus
from orchestrator.errors import ConfigError
from orchestrator.runtime.align import align
from orchestrator.runtime.prepare import prepare
from tests.runtime.processes import descendants, wait_for

CONFIG = PreparationConfig(resolution=64, clips_per_shard=3)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    make_corpus(root, speakers=4, clips_per_speaker=2, seconds=1.6, size=64)
    (root / "spk00" / "broken.mp4").write_text("no video")
    return root


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected")
    prepare_local(videos, out, CONFIG)
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("ray_session")
def test_it_tells_how_it_goes_and_gives_what_one_process_gives(
    videos: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=False)
    summary = prepare(videos, tmp_path, CONFIG, console=console)
    assert (summary.ok, summary.rejected, summary.pending) == (8, {"unreadable": 1}, 0)
    assert files(tmp_path) == expected
    assert "rejected spk00/broken.mp4: unreadable" in text.getvalue()
    assert "prepare: 9/9 clips, 1 rejected" in text.getvalue()
    prepare(videos, tmp_path, CONFIG, console=console)
    assert text.getvalue().count("9/9 clips") == 1  # nothing was left to do


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["driver", "worker"])
def test_killed_in_the_middle_the_same_command_ends_with_the_same_bytes(
    videos: Path, expected: dict[str, bytes], tmp_path: Path, whom: str
) -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "prepare", str(videos), "--out", str(tmp_path)]
    command += ["--resolution", "64", "--set", "clips_per_shard=3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        wait_for(lambda: any((tmp_path / "parts").glob("*.json")), "a finished clip")
        os.kill(driver.pid if whom == "driver" else busy_worker(driver.pid), signal.SIGKILL)
        driver.communicate(timeout=150)
    if whom == "driver":
        assert not (tmp_path / "manifest.parquet").exists()
        # Tasks of the dead driver may still be at work for a moment; they write the same files.
        subprocess.run(command, check=True, capture_output=True, timeout=150)
    else:
        assert driver.returncode == 0
    assert files(tmp_path) == expected


def busy_worker(driver: int) -> int:
    """The process of a task."""
    workers = {pid: name for pid, name in descendants(driver).items() if "ray::" in name}
    return next((pid for pid, name in workers.items() if "_run_remotely" in name), min(workers))


def test_a_submitted_job_does_not_write_into_its_temporary_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "runtime_resources" / "working_dir_files" / "x"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for stage in (prepare, align):
        with pytest.raises(ConfigError, match="the output folder is the relative path 'out'"):
            stage(tmp_path, "out")
