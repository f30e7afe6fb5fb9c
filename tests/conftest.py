"""What all tests share: a quiet, offline environment, and one Ray instance for those that need one.

The environment is set before anything heavy is imported, and inherited by the processes that tests start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",  # several workers share few cores; one thread each also keeps sums in one order
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray workers and subprocesses find the package and the tests' own modules whether or not they are installed.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])),
}
os.environ.update(_ENVIRONMENT)
for _name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):  # a developer's own servers are none of the tests' business
    os.environ.pop(_name, None)


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
