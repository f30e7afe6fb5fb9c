"""What all tests share: a quiet, offline environment, and one Ray instance for those that need one.

The environment is set before anything heavy is imported, and inherited by the processes that tests start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",  # several workers share few cores; one thread each also keeps sums in one order
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_worker_niceness": "0",  # what else runs on this machine must not starve the workers of a test
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray workers and subprocesses find the package and the tests' own modules whether or not they are installed.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])),
}
os.environ.update(_ENVIRONMENT)
for _name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):  # a developer's own servers are none of the tests' business
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the processes that share the tests, one runs all that need Ray, and one each module: what a module sets up is
    set up once."""
    for item in items:
        needs_ray = "ray_session" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if needs_ray else str(item.path)))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One small Ray instance for the whole test session: four logical CPUs, no GPU, no dashboard."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        object_store_memory=200_000_000,
        namespace="tests",
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


TINY_MODEL: dict[str, Any] = {
    "name": "stable_syncnet",
    "num_frames": 5,
    "resolution": 32,
    "audio_encoder": {"in_channels": 1, "block_out_channels": [32, 32], "downsample_factors": [[8, 4], [10, 4]]},
    "visual_encoder": {"in_channels": 15, "block_out_channels": [32, 32], "downsample_factors": [4, [4, 8]]},
}
"""A StableSyncNet that takes milliseconds per step."""


@pytest.fixture(scope="session")
def tiny_model_config() -> Any:
    """The typed form of `TINY_MODEL`."""
    from orchestrator.config import load_model_config

    return load_model_config(TINY_MODEL)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of four synthetic speakers with two short clips each, at 32 pixels."""
    from orchestrator.data.prepare import PreparationConfig, prepare_local
    from orchestrator.data.synthetic import make_corpus

    folder = tmp_path_factory.mktemp("tiny")
    make_corpus(folder / "videos", speakers=4, clips_per_speaker=2, seconds=1.6, size=64)
    prepare_local(folder / "videos", folder / "corpus", PreparationConfig(resolution=32, val_fraction=0.25))
    return folder / "corpus"


@pytest.fixture
def tiny_config(tiny_corpus: Path, tmp_path: Path) -> Any:
    """A whole configuration on the tiny corpus, run in this process unless a test says otherwise."""
    from orchestrator.config import load_config

    return load_config(
        {
            "model": TINY_MODEL,
            "data": {"path": str(tiny_corpus)},
            "optim": {"lr": 1e-3, "warmup_steps": 2, "schedule": "cosine"},
            "train": {"steps": 12, "global_batch": 8, "micro_batch": 4, "log_every": 3},
            "eval": {"every": 6, "pairs": 16, "batch": 8},
            "checkpoint": {"every": 4, "keep": 1},
            "scale": {"num_workers": 0, "use_gpu": False},
            "storage": str(tmp_path / "runs"),
        }
    )
