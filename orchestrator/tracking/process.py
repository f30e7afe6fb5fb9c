"""Which process writes a run, and whether it still lives.

Why: a driver that is killed cannot say so, and its run would stay RUNNING for ever. Contract: `start` distinguishes
two processes that had the same pid, across reboots too; where the system does not tell it is empty, and a process with
the same pid then counts as the same.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessMark:
    """One process of one machine."""

    host: str
    """Host name of its machine."""
    pid: int
    """Its process id there."""
    start: str
    """When it began: the machine's boot and the clock ticks since; empty where the system does not tell."""


def this_process() -> ProcessMark:
    """The mark of the calling process."""
    pid = os.getpid()
    return ProcessMark(host=socket.gethostname(), pid=pid, start=_start(pid) or "")


def process_is_alive(pid: int, start: str) -> bool:
    """Whether the process that had this pid and start on this machine is still running."""
    if not Path("/proc/self/stat").exists():
        return _pid_exists(pid)
    now = _start(pid)
    return now is not None and start in ("", now)


def _start(pid: int) -> str | None:
    """The start of a process from Linux's /proc; none when there is no such process, or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in front may itself hold blanks and brackets
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{ticks}"


def _pid_exists(pid: int) -> bool:
    """Whether any process has this pid, for systems without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it exists and is somebody else's
    return True
