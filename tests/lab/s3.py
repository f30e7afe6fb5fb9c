"""A real S3 server of a test's own: OpenStack Swift behind its S3 interface, four processes and one folder.

Why Swift: it is what many sites run behind their S3 endpoint, and the one such server that a package index carries
whole. It speaks HTTP, calculates signatures (version 4) and refuses wrong ones, takes uploads in parts and in signed
chunks with checksums, shows an object only when its upload has been completed, lists (ListObjectsV2) what was written
before, copies, writes only what is not there (`If-None-Match: *`), and keeps all that on disk: killed and started again
it has what it had confirmed.

What it is not: spread over several disks and machines, encrypted by TLS, or fast. There is one user with all rights and
no policies, it does not write on a condition about what is there (`If-Match`), and what AWS does under load (503
SlowDown) it never does.
"""

from __future__ import annotations

import secrets
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from tests.lab.hosts import Host, Process, run, start, until_answers
from tests.lab.stored import Login, make_bucket
from tests.lab.swift import STORAGE, write_configuration


def missing() -> str | None:
    """Why there can be no such server here; none if there can."""
    return None if find_spec("swift") else "no S3 server in this Python: `swift` is not installed"


class S3Server:
    """The server, which can be killed, paused, and started again at the same address with the same content.

    Args:
        host: where it runs.
    """

    def __init__(self, host: Host) -> None:
        self._host, self._running = host, dict[str, Process]()
        self._ports = {kind: host.free_port() for kind in ("proxy", *STORAGE)}
        self._files = host.files / "swift"
        self.endpoint = f"{host.address}:{self._ports['proxy']}"
        self.key, self.secret = "lab:runs", secrets.token_hex(20)
        write_configuration(self._files, self._seen, host.address, self._ports, self.key, self.secret)
        rings = [f"{kind}={self._ports[kind]}" for kind in STORAGE]
        self._prepare(*rings)

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, as every S3 client reads them."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # nobody is there to ask, and asking takes seconds
        }

    @property
    def login(self) -> Login:
        """What `stored.py` needs to look inside."""
        return Login(self.endpoint, self.key, self.secret)

    @property
    def said(self) -> str:
        """The logs of all four servers."""
        return "".join(process.said for process in self._running.values())

    def uri(self, bucket: str, path: str = "", *, key: str | None = None, secret: str | None = None) -> str:
        """The address of a folder or file: without credentials, which are the environment's, unless some are given."""
        login = f"{quote(key, safe='')}:{quote(secret or '', safe='')}@" if key else ""
        where = f"{bucket}/{path}".rstrip("/")
        return f"s3://{login}{where}?scheme=http&endpoint_override={self.endpoint}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        before = bool(self._running)
        for kind in (*STORAGE, "proxy"):
            command = [self._program(f"{kind}-server"), self._seen / f"{kind}.conf", "--verbose"]
            self._running[kind] = start(self._host, command, f"swift-{kind}.txt")
        for kind in STORAGE:
            self._host.call(_wait_for_storage, self._ports[kind])
        until_answers(self._host, self._ports["proxy"], self._running["proxy"], "the S3 server")
        if before:
            self._prepare()

    def kill(self) -> None:
        """SIGKILL of all its processes, in the middle of whatever they do; what others see of it is gone first."""
        for process in reversed(self._running.values()):
            process.kill()

    def pause(self) -> None:
        """It takes connections and answers none, as when its disk hangs."""
        for process in self._running.values():
            process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        for process in self._running.values():
            process.resume()

    def close(self) -> None:
        """Kill it and remove what it kept."""
        self.kill()
        shutil.rmtree(self._files, ignore_errors=True)

    def make_bucket(self, name: str) -> str:
        """A new bucket, and its name."""
        self._host.call(make_bucket, self.login, name)
        return name

    @property
    def _seen(self) -> Path:
        return self._host.folder / "swift"

    def _prepare(self, *rings: str) -> None:
        root = Path(__file__).parents[2]
        run(self._host, [sys.executable, "-m", "tests.lab.swift", self._seen, *rings], env={"PYTHONPATH": str(root)})

    def _program(self, name: str) -> Path:
        return Path(sys.executable).with_name(f"swift-{name}")


def _wait_for_storage(port: int) -> None:
    """Called in the server's network: storage servers listen on its loopback."""
    from tests.lab.hosts import listens
    from tests.processes import wait_for

    wait_for(lambda: listens("127.0.0.1", port), "a storage server", 60)
