"""The same bits on every x86 CPU.

AVX-512 sums in another order than AVX2. On a nearly constant input, where GroupNorm divides by almost nothing, that
alone moves an embedding by 4e-5, and a run that continues on another node would part from the run it continues. So this
product computes with AVX2 wherever a CPU has more, which costs it 5 to 15% there and nothing on a GPU. Embeddings that
upstream's own code gave on an AVX2 machine are then met bit for bit.

To choose otherwise, set ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA; what is set is left alone.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""What torch and oneDNN read, once, when they compute for the first time in a process."""


def use_avx2(environment: MutableMapping[str, str] = os.environ, cpu_info: Path = _CPU_INFO) -> None:
    """Limit this process, and those that it starts, to AVX2 where the CPU has AVX-512.

    It has no effect in a process in which torch has computed something before.

    Args:
        environment: where torch looks.
        cpu_info: the kernel's description of the CPU; where there is none (other systems), nothing is done.
    """
    if not cpu_info.exists() or "avx512f" not in cpu_info.read_text(encoding="utf-8"):
        return
    for name, value in _AVX2.items():
        environment.setdefault(name, value)
