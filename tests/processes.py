"""Looking at processes that a test started, and waiting for what they do; imports nothing of the product."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, with its command line (Linux)."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)] = int(fields[1])
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return {child: _command_line(child) for child in found}


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and that nobody has asked about does not."""
    return _state(pid) not in ("", "Z")


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal and has not gone on."""
    return _state(pid) == "T"


def wait_for(
    condition: Callable[[], bool], what: str, timeout_s: float = 600, context: Callable[[], str] = lambda: ""
) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what} {context()}"
        time.sleep(0.02)


def _state(pid: int) -> str:
    """The letter that the system has for it; none when it is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody uses at this moment, another one every time: whoever asks for several gets several,
    though none of them is taken yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
