"""What this machine has for a run: the device, free memory, free disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from orchestrator.config.schema import ScaleConfig


def planned_device(scale: ScaleConfig) -> str:
    """`cuda` or `cpu`: what a worker would compute on. A GPU that is asked for counts, whether or not it is here."""
    return "cuda" if scale.use_gpu is True or (scale.use_gpu == "auto" and torch.cuda.is_available()) else "cpu"


def device_here(device_type: str) -> torch.device:
    """The device of this machine that is nearest to the planned one."""
    return torch.device("cuda" if device_type == "cuda" and torch.cuda.is_available() else "cpu")


def free_memory(device: torch.device) -> int | None:
    """Bytes that a worker could use on a device of this machine; none where nobody tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def free_disk(storage: str) -> int:
    """Bytes that are free where runs are kept, or would be: in the nearest folder above that exists."""
    folder = Path(os.path.expanduser(storage)).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
