"""Machines of their own on one computer: namespaces of network, processes, files, host name and shared memory.

One machine is the switch that the others are plugged into; it has no way out, so nothing that is sent in here leaves
the computer. The namespaces have no names: they are gone when their first process is, and that one goes with the test's
process, whatever ends it. On a machine every file is read-only but those in its own folder, which no other machine
sees, so machines share nothing that is written.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from tests.lab.hosts import Command, T, as_user

_NETWORK = "10.99.0"
_PROGRAMS = ("ip", "tc", "unshare", "nsenter", "mount", "hostname", "setpriv")
_FIRST = """
set -e
hostname "$1"
mount -t tmpfs -o size=512m tmpfs /dev/shm
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2" "$3"
mount -o remount,bind,ro /
ip link set lo up
echo ready
sleep infinity &
wait
"""
"""What the first process of a machine does; while it waits, it buries the processes whose parents are gone."""
_NEW_NET = 0x40000000
_DIE_WITH_PARENT = 1


def missing() -> str | None:
    """Why there can be no machines here; none if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines of their own need root on Linux"
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (packages iproute2 and util-linux)" if absent else None


class Machine:
    """One machine; a `Host` for servers.

    Args:
        name: its host name.
        number: the last part of its address.
        root: the folder that holds the machines' folders; on the machine, its own folder lies in this place.
        switch: the machine that it is plugged into; none makes a switch.
    """

    def __init__(self, name: str, number: int, root: Path, switch: Machine | None) -> None:
        self.name, self.address = name, f"{_NETWORK}.{number}"
        self.folder, self.files = root, root / name
        self._number, self._switch, self._ports = number, switch, count(7000)
        self._pool: ProcessPoolExecutor | None = None
        for folder in (self.files, self.files / "tmp", self.files / "home"):
            folder.mkdir(exist_ok=True)
        (self.files / "tmp").chmod(0o1777)
        (self.files / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {name}\n")
        self._start()

    def inside(self, command: Command, user: str | None = None) -> list[str]:
        """The command that runs a command on this machine."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--net", "--uts", "--ipc", "--pid"]
        home = ["env", f"--chdir={self.folder}", f"HOME={self.folder}/home", f"TMPDIR={self.folder}/tmp"]
        return [*enter, *as_user(user), *home, *map(str, command)]

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of a module in this machine's network; what it takes and gives is pickled."""
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, spawn, initializer=_enter_network, initargs=(self._pid,))
        return self._pool.submit(function, *arguments).result()

    def free_port(self) -> int:
        """Another one every time."""
        return next(self._ports)

    def processes(self) -> dict[int, str]:
        """Everything that runs on it: command lines by the ids that this computer knows the processes by."""
        own, found = os.readlink(f"/proc/{self._pid}/ns/pid"), {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if os.readlink(folder / "ns" / "pid") == own:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def unplug(self) -> None:
        """Nothing reaches it any more, nor it others; its connections stay open."""
        self._on_switch("ip", "link", "set", self._plug, "down")

    def plug(self) -> None:
        """Undo `unplug`."""
        self._on_switch("ip", "link", "set", self._plug, "up")

    def slow(self, mbit: float, ms: float = 0, loss: float = 0) -> str:
        """Make its link slow in both directions, and say what the kernel had for it.

        `netem` delays every packet and loses some. A kernel without it limits the rate and has a short queue, which
        delays packets under load, by `ms` at most, and drops those that do not fit: a slow link, but never a long one.
        """
        netem = ["netem", "delay", f"{ms}ms", "loss", f"{loss:.0%}", "rate", f"{mbit}mbit"]
        bucket = ["tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", f"{max(ms, 20)}ms"]
        for discipline in (netem, bucket):
            try:
                self._shape(*discipline)
            except AssertionError as error:
                refusal = error
                continue
            return discipline[0]
        raise refusal

    def fast(self) -> None:
        """Undo `slow`."""
        self._on_switch("tc", "qdisc", "del", "dev", self._plug, "root")
        self._here("tc", "qdisc", "del", "dev", "eth0", "root")

    def kill(self) -> None:
        """As when it loses its power: all its processes are gone at once, and its link; its files stay."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._first.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
            for pid in self._visitors():  # a machine is gone when all who brought processes in have buried them
                os.kill(pid, signal.SIGKILL)
            self._first.wait()
        if self._switch is not None and self._switch._first.poll() is None:
            # the network lives as long as a connection that waits for an answer; its link must not
            subprocess.run(self._switch._in_net("ip", "link", "del", self._plug), capture_output=True)

    def boot(self) -> None:
        """Start it again after `kill`, with the same address and the same files."""
        self._start()

    def _start(self) -> None:
        spaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        first = ["sh", "-c", _FIRST, "first", self.name, str(self.files), str(self.folder)]
        with (self.files / "machine.txt").open("ab") as said:
            self._first = subprocess.Popen(
                ["unshare", *spaces, *first],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == b"ready\n", (self.files / "machine.txt").read_text()
        self._pid = int(Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text())
        self._connect()

    def _connect(self) -> None:
        """Its end of the link always has the same hardware address, so that others find it after a restart."""
        mac, address = f"02:00:0a:63:00:{self._number:02x}", f"{self.address}/24"
        if self._switch is None:
            _checked(self._in_net("ip", "link", "add", "eth0", "address", mac, "type", "bridge"))
        else:
            switch = self._switch
            here = ["peer", "name", "eth0", "netns", str(self._pid), "address", mac]
            _checked(switch._in_net("ip", "link", "add", self._plug, "type", "veth", *here))
            self._on_switch("ip", "link", "set", self._plug, "master", "eth0", "up")
        self._here("ip", "address", "add", address, "dev", "eth0")
        self._here("ip", "link", "set", "eth0", "up")

    def _visitors(self) -> list[int]:
        """The processes outside that have started others in here."""
        entered, found = f"nsenter\0--target={self._pid}\0".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (folder / "cmdline").read_bytes().startswith(entered):
                    found.append(int(folder.name))
        return found

    def _shape(self, *discipline: str) -> None:
        self._on_switch("tc", "qdisc", "replace", "dev", self._plug, "root", *discipline)
        self._here("tc", "qdisc", "replace", "dev", "eth0", "root", *discipline)

    @property
    def _plug(self) -> str:
        return f"port{self._number}"

    def _on_switch(self, *command: str) -> None:
        assert self._switch is not None, "a switch is plugged into nothing"
        _checked(self._switch._in_net(*command))

    def _here(self, *command: str) -> None:
        _checked(self._in_net(*command))

    def _in_net(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self._pid}", "--net", *command]


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _enter_network(pid: int) -> None:
    """Move this process, which has one thread yet, into a machine's network."""
    _die_with_parent()
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as space:
        if libc.setns(space.fileno(), _NEW_NET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the machine's network")
