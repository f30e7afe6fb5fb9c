"""What runs on every node for `doctor --cluster`: it looks, writes a little into the storage, and measures a link.

Contract: it travels to the nodes by value, so that a node with another version of this product, or without it, can say
so; hence nothing of the product is imported here but what travels too. Everything it returns is plain data. Its calls
come in bounded numbers and are given up by the driver, never waited for.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from orchestrator.doctor.machine import cpu_quota, memory_limit

PACKAGES = ("ray", "torch", "torchaudio", "mlflow", "numpy", "pyarrow")
"""Whose versions must be the same everywhere."""
_CGROUP = Path("/sys/fs/cgroup")
_CHUNK = 1 << 16
_PINGS = 10
_CUDA_S = 15.0
_CUDA = (
    "import json, torch\n"
    "n = torch.cuda.device_count()\n"
    "print(json.dumps([torch.cuda.get_device_name(i) for i in range(n)]))\n"
)


class Probe:
    """An actor, one on each node."""

    def look(self, cache: str | None) -> dict[str, Any]:
        """Everything about the node that takes no other node and no other process."""
        return look({"the session's folder": _session(), **({"data.cache": cache} if cache else {})})

    def cuda(self) -> dict[str, Any]:
        """The GPUs that torch can use, asked for in a process that Ray hides none from."""
        env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        try:
            command = [sys.executable, "-c", _CUDA]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_CUDA_S, env=env)
        except subprocess.TimeoutExpired:
            return {"error": f"torch finds no GPU within {_CUDA_S:g} s"}
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]}
        return {"names": json.loads(done.stdout.strip().splitlines()[-1])}

    def now(self) -> float:
        """This node's clock."""
        return time.time()

    def write(self, uri: str, name: str, corpus: bool) -> dict[str, Any]:
        """Write a small file into a storage; how far its clock is from this node's, where they surely differ."""
        return write(uri, name, corpus)

    def read(self, uri: str, names: list[str]) -> dict[str, str]:
        """Read what other nodes have written; what went wrong with each."""
        return {name: error for name in names if (error := read(uri, name))}

    def remove(self, uri: str, name: str) -> str:
        """Remove a file; what went wrong."""
        return remove(uri, name)

    def serve(self, address: str, seconds: float) -> int:
        """Answer whoever measures a link to this node, for a while; the port."""
        server = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        server.settimeout(seconds)
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        return int(server.getsockname()[1])

    def measure(self, address: str, port: int, seconds: float) -> dict[str, Any]:
        """Round trips and throughput of a plain TCP connection to another node."""
        try:
            with socket.create_connection((address, port), timeout=seconds) as link:
                return _measured(link, seconds)
        except OSError as error:
            return {"error": str(error) or type(error).__name__}


def look(folders: dict[str, str]) -> dict[str, Any]:
    """What this machine is and has, in this process's environment.

    Args:
        folders: what they are -> where they are; the system's folder for temporary files is looked at anyway.
    """
    places = {"TMPDIR": tempfile.gettempdir(), **folders}
    shared = Path("/dev/shm")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = memory_limit(_CGROUP)
    return {
        "host": socket.gethostname(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "product": product(),
        "cpus": min(usable, cpu_quota(_CGROUP) or usable),
        "memory": min(pages, limit) if limit else pages,
        "shm": shutil.disk_usage(shared).total if shared.is_dir() else None,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "disks": {what: _disk(where) for what, where in places.items()},
        "gpus": gpus(),
        "stop_wait_s": os.environ.get("RAY_JOB_STOP_WAIT_TIME_S"),
    }


def product() -> dict[str, str]:
    """This product as this process would import it: its version, and a digest of its code."""
    try:
        import orchestrator
    except Exception as error:  # whatever a half-installed package raises
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    folder, digest = Path(orchestrator.__file__ or "").parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return {"version": orchestrator.__version__, "code": digest.hexdigest()[:12], "where": str(folder)}


def gpus() -> dict[str, Any]:
    """The GPUs of this machine by NVIDIA's driver, whatever Ray or CUDA_VISIBLE_DEVICES show of them."""
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/dxg").exists():
        return {"names": []}
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
        return {"names": names, "driver": pynvml.nvmlSystemGetDriverVersion()}
    except Exception as error:  # a driver that is broken is what was found
        return {"names": [], "error": f"{type(error).__name__}: {error}"[:200]}


def write(uri: str, name: str, corpus: bool) -> dict[str, Any]:
    """Write `name` into a storage, as its own content.

    Args:
        uri: the storage.
        name: of the file.
        corpus: where writing is refused, look whether there is a corpus to read.
    """
    try:
        from orchestrator.storage import open_folder

        folder, before = open_folder(uri), time.time()
        with folder.writer(name) as file:
            file.write(name.encode())
        after, entry = time.time(), folder.entry(name)
    except Exception as error:
        return {"error": said(error, uri), "readable": corpus and _holds_corpus(uri)}
    if entry is None:
        return {"error": "what was written there is not there"}
    return {"skew": skew(entry.mtime_ns, before, after)}


def read(uri: str, name: str) -> str:
    """Read `name` from a storage; what went wrong."""
    try:
        from orchestrator.storage import open_folder

        content = open_folder(uri).read(name)
    except Exception as error:
        return "missing" if getattr(error, "missing", False) else said(error, uri)
    return "" if content == name.encode() else f"it holds {len(content)} other bytes"


def remove(uri: str, name: str) -> str:
    """Remove `name` from a storage; what went wrong."""
    try:
        from orchestrator.storage import open_folder

        open_folder(uri).delete(name)
    except Exception as error:
        return said(error, uri)
    return ""


def said(error: Exception, uri: str) -> str:
    """Why something failed, in words that are the same on every node, without what the address keeps secret."""
    if isinstance(error, ImportError):
        return f"this product or a library of it is not there: {error}"
    from orchestrator.storage.addresses import secrets_of, without_secrets

    text = str(getattr(error, "message", "")) or without_secrets(error, secrets_of(uri))
    return re.sub(r"^.* cannot be \w+: |When [^:]*: |; Details: .*$", "", text)


def skew(mtime_ns: int, before: float, after: float) -> float | None:
    """Seconds by which a storage's clock is surely ahead of this one; none where it tells no time.

    A file was written between `before` and `after`; many storages round its time down to whole seconds.
    """
    if not mtime_ns:
        return None
    written, resolution = mtime_ns / 1e9, 1.0 if mtime_ns % 10**9 == 0 else 0.01
    least, most = written - after, written + resolution - before
    return least if least > 0 else min(most, 0.0)


def _holds_corpus(uri: str) -> bool:
    try:
        from orchestrator.storage import open_folder

        return open_folder(uri).entry("manifest.parquet") is not None
    except Exception:  # the write has told why
        return False


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _session() -> str:
    """Where Ray keeps logs, sockets, spilled objects and the working directories of jobs on this node."""
    import ray

    return str(ray.get_runtime_context().get_temp_dir())


def _disk(where: str) -> dict[str, Any]:
    folder = Path(where).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    usage, system = shutil.disk_usage(folder), os.statvfs(folder)
    # what has no room for another file is full too
    free = 0 if system.f_files and not system.f_favail else usage.free
    return {"path": where, "total": usage.total, "free": free, "device": os.stat(folder).st_dev}


def _serve(server: socket.socket) -> None:
    with server:
        while True:
            try:
                link, _ = server.accept()
            except OSError:  # nobody came any more
                return
            link.settimeout(server.gettimeout())
            threading.Thread(target=_answer, args=(link,), daemon=True).start()


def _answer(link: socket.socket) -> None:
    with link:
        try:
            for _ in range(_PINGS):
                link.sendall(link.recv(1))
            received = 0
            while chunk := link.recv(_CHUNK):
                received += len(chunk)
            link.sendall(struct.pack("!Q", received))
        except OSError:  # whoever measures says what went wrong
            return


def _measured(link: socket.socket, seconds: float) -> dict[str, Any]:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    trips = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        link.sendall(b"p")
        if not link.recv(1):
            return {"error": "the other node hung up"}
        trips.append(time.perf_counter() - began)
    block, began = bytes(_CHUNK), time.perf_counter()
    while time.perf_counter() - began < seconds / 4:
        link.sendall(block)
    link.shutdown(socket.SHUT_WR)
    received = struct.unpack("!Q", link.recv(8, socket.MSG_WAITALL))[0]
    return {"latency_s": min(trips), "bytes_per_s": received / (time.perf_counter() - began)}
