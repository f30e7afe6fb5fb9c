"""The checks of a machine: what they read, and that none of them raises or waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.doctor import _carried_out, examine, machine, places, services
from tests.runtime import heads


def test_all_checks_run_and_leave_nothing_but_the_store(tmp_path: Path, tiny_corpus: Path) -> None:
    findings = examine(str(tmp_path), str(tiny_corpus))
    names = [finding.check for finding in findings]
    assert len(set(names)) == len(names) >= 17
    assert {finding.check: finding.hint for finding in findings if not finding.ok} == {}
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", "mlflow.db.lock"}
    data = findings[-1]
    assert "6 train and 2 validation clips" in data.found


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> machine.Finding:
        raise RuntimeError("the driver is gone")

    finding = _carried_out("GPU", broken)
    assert not finding.ok and "the driver is gone" in finding.found


def test_a_bad_storage_or_corpus_has_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for finding in (places.storage(str(tmp_path / "file" / "runs")), places.corpus(str(tmp_path / "none"))):
        assert not finding.ok and finding.hint


def test_limits_of_containers(tmp_path: Path) -> None:
    assert machine.cpu_quota(tmp_path) is None and machine.memory_limit(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("2000000000\n")
    assert machine.cpu_quota(tmp_path) == 1.5 and machine.memory_limit(tmp_path) == 2_000_000_000
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.cpu_quota(tmp_path) is None and machine.memory_limit(tmp_path) is None
    old = tmp_path / "old"
    (old / "cpu").mkdir(parents=True)
    (old / "cpu" / "cpu.cfs_quota_us").write_text("200000")
    (old / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert machine.cpu_quota(old) == 2.0


def test_a_ray_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (heads.nobody(), "nowhere", "http://127.0.0.1:8265"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        finding = services.ray()
        assert not finding.ok and address in finding.found and finding.hint


def test_one_who_listens_but_is_no_ray_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with heads.silent() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        finding = services.ray(connect_s=0.3)
    assert not finding.ok and "does not answer within 0.3 s" in finding.found
    with heads.head() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        finding = services.ray(answer_s=0.5)
    assert not finding.ok and "lets nobody in" in finding.found


def test_the_supported_ray_is_that_of_the_project() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f">={services.SUPPORTED.rstrip('.')}," in project
    assert services.ray_version().ok
