"""What a run takes of its machine, as `system/...` figures beside those of its training.

Why: a run that is slow, or that was killed for its memory, is explained by the charts it has anyway. Contract: nothing
here waits or raises, and nothing of it counts: these figures are another every time, even of the same run. They are
those of rank 0's process and of its node, and of how its checkpoints come about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil
import torch

SYSTEM = "system/"
"""What the names of these figures begin with."""
_EVERY_S = 1.0
_GIB = 2**30


class Usage:
    """Measures from one report to the next.

    Args:
        device: where the run computes.
        every_s: seconds below which nothing is measured again: shares of a moment are noise.
        clock: monotonic seconds.
    """

    def __init__(
        self, device: torch.device, *, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._device, self._every_s, self._clock = device, every_s, clock
        self._process = psutil.Process()
        self._measured_at: float | None = None
        self._tells_load = device.type == "cuda"
        self._process.cpu_percent()  # the first of them only begin to count
        psutil.cpu_percent()

    def beside(self, metrics: Mapping[str, float], others: Mapping[str, float] | None = None) -> dict[str, float]:
        """The figures of a report, with those of the machine, and others like them, where it is time for them."""
        now = self._clock()
        if self._measured_at is not None and now - self._measured_at < self._every_s:
            return dict(metrics)
        self._measured_at = now
        found = {**self._node(), **self._gpu(), **(others or {})}
        return {**metrics, **{f"{SYSTEM}{name}": value for name, value in found.items()}}

    def _node(self) -> dict[str, float]:
        """Of this process percent of one core (1600 is sixteen of them) and GiB; of the node percent of all it has."""
        try:
            return {
                "cpu_percent": self._process.cpu_percent(),
                "memory_gib": self._process.memory_info().rss / _GIB,
                "node_cpu_percent": psutil.cpu_percent(),
                "node_memory_percent": psutil.virtual_memory().percent,
            }
        except (psutil.Error, OSError):  # a container may hide all this
            return {}

    def _gpu(self) -> dict[str, float]:
        """GiB that this process holds, and that all hold; percent of the time in which the GPU computed."""
        if self._device.type != "cuda":
            return {}
        free, total = torch.cuda.mem_get_info(self._device)
        held = {"gpu_memory_gib": torch.cuda.memory_reserved(self._device) / _GIB}
        return held | {"gpu_memory_all_gib": (total - free) / _GIB} | self._load()

    def _load(self) -> dict[str, float]:
        """Asked of NVML, which tells nothing of a part of a GPU, and which some images leave out."""
        if self._tells_load:
            try:
                return {"gpu_percent": float(torch.cuda.utilization(self._device))}
            except Exception:  # whatever NVML raises, under whichever of its names: it will again
                self._tells_load = False
        return {}
