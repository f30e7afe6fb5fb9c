"""`doctor --cluster` on clusters that are really there, refuse, or are none; each trouble is really caused."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.doctor.cluster import Request, examine_cluster
from orchestrator.doctor.finding import Finding
from tests.runtime import heads
from tests.runtime.nodes import ENVIRONMENT, Nodes

PATIENCE_S = 120.0
"""Instead of half a minute: other tests may hold the processors."""


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 64 MiB; its path is short, as sockets want it."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    shutil.rmtree(folder)


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    """A cluster of this test's own."""
    nodes = Nodes()
    yield nodes
    nodes.close()


def problems(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def test_a_head_that_is_silent_or_away_is_one_finding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with heads.silent() as address:
        (finding,) = problems(examine_cluster(Request(address, seconds=12)))
    assert finding.check == "Ray" and finding.found.startswith(f"Ray at {address} does not answer")
    monkeypatch.setenv("RAY_ADDRESS", address := heads.nobody())
    assert main(["doctor", "--cluster"]) == 1
    shown = capsys.readouterr().out
    assert f"1. problem Ray: Ray at {address} cannot be reached: Connection refused" in shown
    assert shown.count("problem ") == 1


def test_a_wrong_token_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "2" * 32)
    with heads.head(token="1" * 32) as address:
        (finding,) = problems(examine_cluster(Request(address)))
    assert f"Ray at {address} refuses this token" in finding.found and "RAY_AUTH_TOKEN" in finding.hint


@pytest.mark.slow
def test_a_head_that_lets_nobody_in_is_given_up() -> None:
    with heads.head() as address:
        (finding,) = problems(examine_cluster(Request(address, seconds=10)))
    assert finding.found == f"Ray at {address} answers, but lets nobody in within 10 s"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a disk that can be filled")
def test_every_trouble_of_a_real_cluster_is_one_finding(
    cluster: Nodes, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node with an older package and GPUs that it has not; one whose disk is full before its first task."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    older = tmp_path / "older" / "mlflow-3.1.0.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: mlflow\nVersion: 3.1.0\n")
    odd = cluster.add(1, path=older.parent, num_gpus=2)
    full = cluster.add(0, temp_dir=str(small_disk / "ray"))
    fill(small_disk)
    storage = tmp_path / "runs"
    request = Request(cluster.address, str(storage), str(tmp_path / "corpus"), str(tmp_path / "cache"), PATIENCE_S)
    findings = examine_cluster(request)
    wrong = {finding.check: finding for finding in problems(findings)}
    assert set(wrong) == {"version of mlflow", "GPUs", "full disk"}, findings
    assert f"({odd[:6]}) has mlflow 3.1.0, expected " in wrong["version of mlflow"].found
    assert f"({odd[:6]}): Ray gives 2 GPUs, but the node has none" in wrong["GPUs"].found
    assert f"({full[:6]}): its disk is full, so that no task starts there" in wrong["full disk"].found
    found = {finding.check: finding.found for finding in findings}
    assert (
        "2 of 3 answer" in found["nodes"] and "MB/s" in found["network"] and "all nodes are within" in found["clocks"]
    )
    for what in ("storage", "data"):
        assert "written from the driver and 2 nodes, read by the others" in found[what]
    assert not list(tmp_path.rglob(".doctor-*")), "what was written was removed"


def fill(disk: Path) -> None:
    """Write until nothing more goes onto a disk."""
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            assert shutil.disk_usage(disk).free == 0
