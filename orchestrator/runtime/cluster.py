"""Connecting to Ray, and asking what it has, before anything is started on it."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import ray
from ray import PlacementGroupID
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from orchestrator.config.schema import ScaleConfig
from orchestrator.errors import OrchestratorError, RunError
from orchestrator.runtime.head import knock
from orchestrator.runtime.logs import take_over

_LOCAL = {
    # Train's controller has an environment of its own: workers that wait for others without one serve nobody
    "RAY_prestart_worker_first_driver": "0",
    # nobody announces the end of a Ray that lives as long as this process
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""What a Ray of this process's own can do without, to start sooner; a person's own settings stay."""


def connect(scale: ScaleConfig, *, groups: int = 1) -> None:
    """Use the Ray that is there (this process's, or RAY_ADDRESS's), or start a local one.

    A local one gets as many CPUs as the run asks for, even on a smaller machine: two workers on one core are slow, but
    they train.

    Raises:
        RunError: Ray does not answer, refuses this process's token, or cannot be started.
    """
    if ray.is_initialized():
        return
    # it warns that it cannot take SIGTERM for itself in another thread, which is as it should be
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    try:
        if not is_own():
            knock(os.environ["RAY_ADDRESS"])
        with _own_sigterm():
            _start(scale, groups)
        take_over("ray")
    except OrchestratorError:
        raise
    except Exception as error:  # Ray raises whatever comes, bare `Exception` included
        where = os.environ.get("RAY_ADDRESS")
        what = f"Ray at RAY_ADDRESS={where} cannot be reached" if where else "Ray cannot be started on this machine"
        words = " ".join(str(error).split())[:300]
        raise RunError(f"{what}: {words}", hint="`orchestrator doctor` looks at Ray alone") from error


def is_own() -> bool:
    """Whether Ray was started for this process alone and ends with it."""
    return not os.environ.get("RAY_ADDRESS")


def _start(scale: ScaleConfig, groups: int) -> None:
    if not is_own():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
        return
    # it warns that it protects itself with a token, which is as it should be
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    for name, value in _LOCAL.items():
        os.environ.setdefault(name, value)
    needed = math.ceil(max(1, scale.num_workers) * scale.cpus_per_worker * groups)
    ray.init(
        address="local",
        num_cpus=max(needed, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM for itself and aborts with a dump of the stack: whoever was asked before is asked again."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def wants_gpu(scale: ScaleConfig, resources: Mapping[str, float] | None = None) -> bool:
    """Whether each worker gets a GPU.

    Args:
        scale: the workers.
        resources: what the cluster has; asked of it where left out.

    Raises:
        RunError: GPUs were asked for and the cluster has too few.
    """
    workers = fewest(scale)
    found = (ray.cluster_resources() if resources is None else resources).get("GPU", 0)
    if scale.use_gpu is True and found < workers:
        raise RunError(
            f"`scale.use_gpu` asks for {workers} GPUs, but the cluster has {found:g}",
            hint="lower `scale.num_workers`, or set `scale.use_gpu=auto`",
        )
    return scale.use_gpu is not False and found >= workers


def require_gpus(gpus: float) -> None:
    """Refuse tasks that the cluster could never place, instead of waiting for ever.

    Raises:
        RunError: a task asks for more GPUs than the cluster has.
    """
    found = ray.cluster_resources().get("GPU", 0)
    if found < gpus:
        what = f"each task asks for {gpus:g} GPUs, but the cluster has {found:g}"
        raise RunError(what, hint="lower `--gpus`; without it no GPU is asked for")


def require_cpus(scale: ScaleConfig) -> None:
    """Refuse a run that the cluster could never place, instead of waiting for ever.

    Raises:
        RunError: the workers ask for more CPUs than the cluster has.
    """
    workers = fewest(scale)
    needed = workers * scale.cpus_per_worker
    found = ray.cluster_resources().get("CPU", 0)
    if found < needed:
        lower = "scale.num_workers" if scale.min_workers is None else "scale.min_workers"
        raise RunError(
            f"the run needs {needed:g} CPUs ({workers} workers with {scale.cpus_per_worker:g} each), "
            f"but the cluster has {found:g}",
            hint=f"lower `{lower}` or `scale.cpus_per_worker`, or add nodes",
        )


def fewest(scale: ScaleConfig) -> int:
    """Workers without which the run does not start."""
    return max(1, scale.num_workers if scale.min_workers is None else scale.min_workers)


def reservations() -> set[str]:
    """Ray's ids of the placement groups that this driver's job holds."""
    job = ray.get_runtime_context().get_job_id()  # which every such id ends with
    table = placement_group_table()
    return {name for name, group in table.items() if name.endswith(job) and group["state"] != "REMOVED"}


def release(names: Iterable[str]) -> None:
    """Give back what placement groups hold: a controller that is killed leaves its workers' behind.

    (Ray Train has a cleaner for this, which without a dashboard never learns that the controller is gone.)
    """
    for name in names:
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(name)))


def look_often(scale: ScaleConfig) -> None:
    """Have Ray Train's controller look after its workers often enough that a stop fits into `ray job stop`'s 3 s.

    Ray's own choice is every 2 s; a setting of the person's stays. Many workers are asked less often. An elastic run
    does not wait for long either for room that a lost node has only seemed to offer: Ray's own choice is a minute.
    """
    interval = min(2.0, max(0.25, 0.005 * scale.num_workers))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", f"{interval:g}")
    if scale.min_workers is not None:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "10")
