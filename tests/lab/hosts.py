"""Where a server of a test runs, and its processes: this machine's loopback, or a machine as `machines.py` makes them.

Contract: what is started here belongs to the test, is killed without a goodbye and takes its children with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.processes import descendants, free_port, is_alive, is_stopped, wait_for

T = TypeVar("T")
Command = Sequence[str | Path]


class Process:
    """A process that was started on a host; what it says is kept in a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen, self._log = popen, log

    @property
    def code(self) -> int | None:
        """Its exit code; none while it runs."""
        return self._popen.poll()

    @property
    def said(self) -> str:
        """Everything it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code."""
        return self._popen.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL of it and of everything below it."""
        every = self._every()
        self.signal(signal.SIGKILL)
        self._popen.wait()
        wait_for(lambda: not any(map(is_alive, every)), "processes to be gone", 30)

    def signal(self, number: int) -> None:
        """Send a signal to it and to everything below it."""
        for pid in self._every():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def pause(self) -> None:
        """SIGSTOP of it and of everything below it."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`. Who entered a machine for it stops itself whenever it sees that its child has stopped."""

        def goes_on() -> bool:
            self.signal(signal.SIGCONT)
            return not any(map(is_stopped, self._every()))

        wait_for(goes_on, "processes to go on", 30)

    def _every(self) -> list[int]:
        if self.code is not None:
            return []
        return [self._popen.pid, *descendants(self._popen.pid)]


class Host(Protocol):
    """What servers need of the machine that they run on."""

    address: str
    """Where others on the same network find it."""

    @property
    def folder(self) -> Path:
        """For files of servers, as processes on the host see it; short, because sockets want that."""

    @property
    def files(self) -> Path:
        """The same folder, as the test sees it."""

    def inside(self, command: Command, user: str | None = None) -> list[str]:
        """The command that runs a command there, as another user where one is given."""

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of a module in the host's network."""

    def free_port(self) -> int:
        """A port that nobody uses there."""


class Loopback:
    """This machine, where nobody from outside can connect.

    Args:
        folder: for files of servers; one of its own when left out.
    """

    address = "127.0.0.1"

    def __init__(self, folder: Path | None = None) -> None:
        self._own = folder is None
        # not a folder of pytest's, unless one is given: other users have to get there
        self.folder = self.files = folder or Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
        if self._own:
            self.folder.chmod(0o755)

    def inside(self, command: Command, user: str | None = None) -> list[str]:
        """The command itself; only root needs another user."""
        return [*as_user(user), *map(str, command)]

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """A call."""
        return function(*arguments)

    def free_port(self) -> int:
        """A loopback port that nobody uses at this moment, another one every time."""
        return free_port()

    def close(self) -> None:
        """Remove its own folder."""
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)


def start(
    host: Host, command: Command, log: str, *, env: Mapping[str, str] | None = None, user: str | None = None
) -> Process:
    """Start a command on a host.

    Args:
        host: where.
        command: what.
        log: name of the file, in the host's folder, to which its output is appended.
        env: more environment variables.
        user: who runs it.
    """
    file = host.files / log
    with file.open("ab") as said:
        popen = subprocess.Popen(
            host.inside(command, user),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, **(env or {})},
            cwd="/",
            start_new_session=True,
        )
    return Process(popen, file)


def run(host: Host, command: Command, *, env: Mapping[str, str] | None = None, user: str | None = None) -> str:
    """Run a command on a host to its end, which must be a good one, and return what it printed."""
    full = host.inside(command, user)
    done = subprocess.run(full, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd="/")
    # not all of the command, which may hold a password
    assert done.returncode == 0, f"{Path(command[0]).name} {command[1]} ...: {done.stdout}{done.stderr}"
    return done.stdout


def until_answers(host: Host, port: int, process: Process, what: str, timeout_s: float = 60) -> None:
    """Wait until a server listens; an end of it is an error with what it said."""
    wait_for(
        lambda: process.code is not None or host.call(listens, host.address, port),
        what,
        timeout_s,
        lambda: process.said,
    )
    assert process.code is None, f"{what} ended with {process.code}: {process.said}"


def listens(address: str, port: int) -> bool:
    """Whether somebody takes connections."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def as_user(user: str | None) -> list[str]:
    """What stands before a command to run it as another user."""
    if user is None:
        return []
    import pwd

    found = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]
