"""Checks of the machine itself: what is installed, what it computes with, and what its limits are."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import sys
import threading
from datetime import timedelta
from pathlib import Path

from orchestrator.doctor.finding import Finding

_PACKAGES = ("torch", "torchaudio", "ray", "mlflow", "pyarrow", "av", "safetensors")
_FILES = 8192
_SHARED_GB = 1.0
_LEAST_MEMORY_GB = 4
_CGROUP = Path("/sys/fs/cgroup")
_GROUP_S = 10.0


def python() -> Finding:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, sys.version_info >= (3, 11), "" if sys.version_info >= (3, 11) else "use 3.11+")


def packages() -> Finding:
    """What must be installed."""
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    hint = f"missing: {', '.join(missing)}; install with `pip install syncnet-orchestrator`" if missing else ""
    return Finding("packages", ", ".join(found), not missing, hint)


def torch_pair() -> Finding:
    """Both must load and be of one version."""
    try:
        import torch
        import torchaudio
    except (ImportError, OSError) as error:
        return Finding("torch and torchaudio", str(error), False, "install the same version of both from one index")
    same = torch.__version__.split("+")[0] == torchaudio.__version__.split("+")[0]
    hint = "" if same else "their versions must be the same"
    return Finding("torch and torchaudio", f"{torch.__version__}, {torchaudio.__version__}", same, hint)


def processors() -> Finding:
    """Cores of the machine against those that this process may use, and torch's threads."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(_CGROUP)
    allowed = min(usable, quota) if quota is not None else usable
    found = f"{os.cpu_count()} CPU cores, {allowed:g} of them for this process, torch uses {torch.get_num_threads()}"
    if torch.get_num_threads() > max(1, allowed):
        hint = f"more threads than cores slow each other down: set OMP_NUM_THREADS={max(1, int(allowed))}"
        return Finding("processors", found, hint=hint)
    return Finding("processors", found)


def memory() -> Finding:
    """Main memory, and how much of it is free and allowed."""
    total, free = (os.sysconf("SC_PAGE_SIZE") * os.sysconf(name) / 1e9 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    free = _available_gb(Path("/proc/meminfo")) or free
    limit = memory_limit(_CGROUP)
    allowed = min(total, limit / 1e9) if limit else total
    found = f"{total:.1f} GB, {free:.1f} GB free" + (f", {allowed:.1f} GB for this container" if limit else "")
    enough = min(allowed, free) >= _LEAST_MEMORY_GB
    return Finding("memory", found, hint="" if enough else f"Ray and one worker want about {_LEAST_MEMORY_GB} GB")


def accelerator() -> Finding:
    """GPUs with what they can do, and whether torch can use those that are there."""
    import torch

    if not torch.cuda.is_available():
        if torch.version.cuda is not None and shutil.which("nvidia-smi") is not None:
            hint = "`nvidia-smi` is there: is the driver new enough, and CUDA_VISIBLE_DEVICES not empty?"
            return Finding("GPU", f"none that torch (CUDA {torch.version.cuda}) can use", False, hint)
        return Finding("GPU", "none: everything runs on the CPU")
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = [f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards]
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else ""
    found = f"{', '.join(names)}; CUDA {torch.version.cuda}, NCCL {nccl or 'missing'}, bf16 {'yes' if bf16 else 'no'}"
    if len(cards) > 1 and not nccl:
        return Finding("GPU", found, False, "several GPUs need a torch with NCCL: install the CUDA build for Linux")
    return Finding("GPU", found, hint="" if bf16 else "these cards have no bf16: use train.precision=fp16")


def compiler() -> Finding:
    """What `torch.compile` needs on a CPU and for its kernels' launchers."""
    found = next((name for name in (os.environ.get("CXX"), "g++", "clang++", "c++") if name and shutil.which(name)), "")
    hint = "" if found else "speed.compile=true would fall back to the plain network: install g++ to use it"
    return Finding("compiler", found or "no C++ compiler", hint=hint)


def open_files() -> Finding:
    """Files and connections that one process may hold open: Ray needs many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= _FILES
    hint = "" if enough else f"Ray wants more on big clusters: `ulimit -n {_FILES}` before the start"
    return Finding("open files", f"{soft} at once, may be raised to {hard}", hint=hint)


def shared_memory() -> Finding:
    """The place of Ray's object store."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", "no /dev/shm: Ray keeps its objects in files")
    size = shutil.disk_usage(folder).total / 1e9
    enough = size >= _SHARED_GB
    hint = "" if enough else "too small for Ray's object store, which then uses slow files: `docker run --shm-size=4g`"
    return Finding("shared memory", f"{size:.2f} GB in /dev/shm", hint=hint)


def process_group() -> Finding:
    """Two members of a gloo group on this machine meet and add up, as workers without GPUs do."""
    import torch
    from torch import distributed

    if not distributed.is_available():
        return Finding("process group", "torch has no torch.distributed", False, "install an official build of torch")
    store = distributed.HashStore()
    sums: dict[int, float] = {}

    def join(rank: int) -> None:
        group = distributed.ProcessGroupGloo(store, rank, 2, timedelta(seconds=_GROUP_S))
        tensor = torch.ones(1)
        group.allreduce([tensor]).wait()  # type: ignore[attr-defined]
        sums[rank] = float(tensor)

    members = [threading.Thread(target=join, args=(rank,), daemon=True) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join(_GROUP_S + 1)
    if sums == {0: 2.0, 1: 2.0}:
        return Finding("process group", "two gloo members on this machine add up")
    hint = "does the host's name resolve (`getent hosts $(hostname)`)? else set GLOO_SOCKET_IFNAME=lo (or eth0)"
    return Finding("process group", "two gloo members on this machine do not reach each other", False, hint)


def cpu_quota(cgroup: Path) -> float | None:
    """Cores that a container may use at once, by cgroup v2 or v1; none without a limit."""
    if (cgroup / "cpu.max").is_file():
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    legacy = cgroup / "cpu" / "cpu.cfs_quota_us"
    if not legacy.is_file():
        return None
    limit = int(legacy.read_text())
    return None if limit < 0 else limit / int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())


def memory_limit(cgroup: Path) -> int | None:
    """Bytes that a container may use, by cgroup v2 or v1; none without a limit."""
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        if file.is_file():
            text = file.read_text().strip()
            # v1 writes the largest number there is where there is no limit
            return None if text == "max" or int(text) >= 1 << 60 else int(text)
    return None


def _available_gb(meminfo: Path) -> float | None:
    """What the kernel believes can be used without swapping, its caches included."""
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 / 1e9 if "MemAvailable" in fields else None
