"""What a node tells of itself, here of this machine; and a link and a storage that are really used."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from pathlib import Path

import pytest

from orchestrator.doctor.cluster import access, probe

ROOT = Path(__file__).parents[3]


def test_a_look_at_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "45")
    facts = probe.look({"data.cache": str(tmp_path / "not" / "there")})
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["torch"] == importlib.metadata.version("torch")
    assert facts["product"]["where"] == str(ROOT / "orchestrator") and len(facts["product"]["code"]) == 12
    assert 0 < facts["cpus"] <= (os.cpu_count() or 1) and facts["memory"] > 10**8
    cache = facts["disks"]["data.cache"]
    assert 0 < cache["free"] <= cache["total"] and cache["device"] == os.stat(tmp_path).st_dev
    assert facts["stop_wait_s"] == "45"


def test_a_missing_package_and_an_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tmp_path / "mlflow-3.1.0.dist-info"
    older.mkdir()
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: mlflow\nVersion: 3.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "PACKAGES", ("mlflow", "nowhere-to-be-found"))
    versions = probe.look({})["versions"]
    assert versions["mlflow"] == "3.1.0" and versions["nowhere-to-be-found"] is None


def test_a_storage_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs")
    written = probe.write(uri, ".doctor-1", corpus=False)
    assert written == {"skew": pytest.approx(0, abs=1)}
    assert probe.read(uri, ".doctor-1") == "" and probe.read(uri, ".doctor-2") == "missing"
    (tmp_path / "runs" / ".doctor-2").write_text("something else")
    assert probe.read(uri, ".doctor-2") == "it holds 14 other bytes"
    assert probe.remove(uri, ".doctor-1") == "" and not (tmp_path / "runs" / ".doctor-1").exists()


def test_a_storage_that_refuses_says_the_same_everywhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answers = [probe.write(str(tmp_path / "file"), f".doctor-{n}", corpus=True) for n in range(2)]
    assert answers[0] == answers[1] and answers[0]["readable"] is False
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        closed = place.getsockname()[1]
    uri = f"s3://AKIAUSER:hush%2Fhush@bucket/runs?endpoint_override=127.0.0.1:{closed}&scheme=http"
    first, second = (probe.write(uri, f".doctor-{n}", corpus=False)["error"] for n in range(2))
    assert first == second and "Could not connect to server" in first
    assert not any(word in first for word in ("hush", "AKIAUSER", "doctor-"))


@pytest.mark.parametrize(
    ("written", "before", "after", "skew"),
    [
        (100.0, 100.4, 100.5, 0.0),  # whole seconds: it may well have been 100.4
        (130.0, 100.4, 100.5, 29.5),
        (70.0, 100.4, 100.5, -29.4),
        (100.5001, 100.4, 100.6, 0.0),
        (0, 100.4, 100.5, None),
    ],
)
def test_the_clock_of_a_storage_is_judged_by_what_is_sure(
    written: float, before: float, after: float, skew: float | None
) -> None:
    found = probe.skew(round(written * 1e9), before, after)
    assert found is skew if skew is None else found == pytest.approx(skew)


def test_a_link_is_measured_and_a_closed_one_is_told() -> None:
    one = probe.Probe()
    port = one.serve("127.0.0.1", 10)
    link = one.measure("127.0.0.1", port, 0.4)
    assert 0 < link["latency_s"] < 1 and link["bytes_per_s"] > 1e6
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        closed = place.getsockname()[1]
    assert "refused" in one.measure("127.0.0.1", closed, 0.4)["error"]


def test_what_travels_with_a_job_is_counted_by_ray_s_own_rules(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(bytes(1000))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large.bin").write_bytes(bytes(5_000_000))
    assert list(access.working_dir(tmp_path)) == [], "no folder to submit from"
    (tmp_path / ".rayignore").write_text("data/\n")
    assert access.upload_bytes(tmp_path) == 1000 + len("data/\n")
    (tmp_path / ".rayignore").write_text("\n")
    assert access.upload_bytes(tmp_path, most=2_000_000) > 2_000_000
    (finding,) = access.working_dir(tmp_path)
    assert "5.0 MB go with a job from here" in finding.found and finding.ok
