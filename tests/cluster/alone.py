"""A machine of its own for what starts a whole Ray: it sees no other Ray, and all of its ports are free."""

from __future__ import annotations

import os
import shutil

OWN_MACHINE = (
    *("unshare", "--pid", "--net", "--fork", "--mount-proc", "--kill-child"),
    *("sh", "-c", 'ip link set lo up; exec "$@"', "-"),
)
"""Starts a command as the first process of a machine whose only network is its loopback."""


def missing() -> str | None:
    """Why there can be none here; none if there can."""
    absent = [program for program in ("unshare", "ip", "wget") if shutil.which(program) is None]
    wanted = [*absent, *(["root"] if os.geteuid() else [])]
    return f"a machine of its own needs {', '.join(wanted)}" if wanted else None
