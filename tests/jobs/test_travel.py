"""What travels with `ray job submit --working-dir .`, by Ray's own packaging, and the runtime environments."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package
from ray._private.runtime_env.pip import _get_pip_hash
from ray.runtime_env import RuntimeEnv

from orchestrator.doctor.cluster.access import upload_bytes

ROOT = Path(__file__).parents[2]
MOST_BYTES = 3_000_000
"""The code has 1.8 MB, and Ray packs without compressing."""
NEEDED = (
    "orchestrator/__init__.py",
    "orchestrator/demo.yaml",
    "orchestrator/sweeps/report/page.html.j2",
    "jobs/train.py",
    "jobs/runtime_env.yaml",
    "configs/sweep.yaml",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project as a clone has it, with what people leave in theirs."""
    copy = tmp_path_factory.mktemp("clone") / "project"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    for name in (
        "runs/one/step-000000100/weights",
        "data/clip.mp4",
        "init.pt",
        ".env",
        ".venv/bin/python",
        "mlflow.db",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(bytes(5_000_000))
    return copy


@pytest.fixture(scope="module")
def packed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Ray would upload."""
    target = tmp_path_factory.mktemp("package") / "package.zip"
    create_package(str(project), target, include_gitignore=True, logger=logging.getLogger("quiet"))
    return target


def test_the_upload_is_small_and_holds_what_jobs_need(packed: Path) -> None:
    with ZipFile(packed) as package:
        names = set(package.namelist())
    assert packed.stat().st_size < MOST_BYTES
    assert [name for name in NEEDED if name not in names] == []
    tops = {name.split("/")[0] for name in names}
    assert not tops & {
        "tests",
        "docs",
        "benchmarks",
        "cluster",
        "runs",
        "data",
        "init.pt",
        ".env",
        ".venv",
        "mlflow.db",
    }


def test_all_code_travels(packed: Path, project: Path) -> None:
    with ZipFile(packed) as package:
        names = set(package.namelist())
    for folder in ("orchestrator", "jobs", "configs"):
        files = {path.relative_to(project).as_posix() for path in (project / folder).rglob("*") if path.is_file()}
        assert files - names == set()


def test_the_doctor_counts_as_ray_packs(packed: Path, project: Path) -> None:
    with ZipFile(packed) as package:
        assert upload_bytes(project) == sum(entry.file_size for entry in package.infolist())


@pytest.mark.parametrize("name", ["runtime_env.yaml", "runtime_env_pip.yaml"])
def test_a_runtime_environment_is_valid_and_gives_a_stopped_job_time(name: str) -> None:
    environment = RuntimeEnv(**read(name), working_dir="gcs://_ray_pkg_0.zip", _validate=True)
    assert int(environment.env_vars()["RAY_JOB_STOP_WAIT_TIME_S"]) >= 30
    RuntimeEnv.deserialize(environment.serialize())


def test_the_environment_that_installs_takes_the_pins_and_the_code_that_travel() -> None:
    number, pins, product = read("runtime_env_pip.yaml")["pip"]
    assert pins == "--constraint ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
    assert product == "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
    hashes = {_get_pip_hash({"packages": [line, pins, product]}) for line in (number, "# environment 2")}
    assert len(hashes) == 2, "a comment makes another environment"


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / name).read_text())
    return content
