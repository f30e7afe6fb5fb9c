"""How a process that trains on a CPU uses the host's memory.

Why: C's allocator gives large blocks back to the system as soon as a step frees them, and the system zeroes every page
of 4 KiB again when the next step asks for it: half of a step of a net with 65 million parameters. Promise: no number
changes. Elsewhere than on Linux with glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import platform

_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch's own switch: large tensors in pages of 2 MiB, which are zeroed in one go. Read at its first tensor."""
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of glibc's <malloc.h>."""


def ask_for_huge_pages() -> None:
    """Have this process, if torch has made no tensor in it yet, and those it starts use huge pages.

    The choice of somebody who has set the variable stays.
    """
    os.environ.setdefault(_HUGE_PAGES, "1")


def keep_freed_memory() -> None:
    """From here on memory that is freed is kept for the next step: the process stays as large as it ever was."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)  # no block is one of the system's, to be given back alone
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # nor is the end of the heap ever given back
