"""Real servers of a test's own beside its runs: MLflow's tracking server, and PostgreSQL behind it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.lab.hosts import Host, Loopback, Process, run, start, until_answers
from tests.processes import wait_for

_USER = "orchestrator"
_POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")


class TrackingServer:
    """`mlflow server`, which can be killed and started again at the same address.

    Args:
        host: where it runs.
        options: of the command: where it keeps runs and artifacts.
        env: more environment variables: what it needs to get at them.
    """

    def __init__(self, host: Host, options: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._host, self._options, self._env = host, list(options), env
        self._port = host.free_port()
        self._process: Process | None = None
        self.uri = f"http://{host.address}:{self._port}"

    @property
    def said(self) -> str:
        """Its log."""
        return "" if self._process is None else self._process.said

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it answers, here or later in `ready`."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", self._host.address, "--port", str(self._port)]
        command += ["--workers", "1", *self._options]
        self._process = start(self._host, command, "server.txt", env=self._env)
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until it answers."""
        server = self._process
        assert server is not None, "it was not started"
        wait_for(
            lambda: server.code is not None or self._host.call(is_healthy, self.uri),
            "the tracking server",
            120,
            lambda: self.said,
        )
        assert server.code is None, self.said

    def kill(self) -> None:
        """SIGKILL of the server and its workers."""
        if self._process is not None:
            self._process.kill()


class PostgresServer:
    """A PostgreSQL server with a database and a password of its own; without root it runs as who tests.

    Args:
        host: where it runs; on loopback when left out.
    """

    def __init__(self, host: Host | None = None) -> None:
        programs = _programs()
        assert programs is not None, "ask `missing` first"
        self._host: Host = host or Loopback()
        self._user = _other_user() if os.geteuid() == 0 else None
        self._files, seen = self._host.files / "pg", self._host.folder / "pg"
        self._files.mkdir()
        self.password, port = secrets.token_hex(8), self._host.free_port()
        self._keep(self._files / "password", self.password)
        login = ["--username", _USER, "--auth", "scram-sha-256", "--pwfile", seen / "password"]
        run(self._host, [programs / "initdb", "-D", seen / "data", *login], user=self._user)
        with (self._files / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        options = ["-k", seen, "-h", self._host.address, "-p", str(port), "-c", "fsync=off"]
        command = [programs / "postgres", "-D", seen / "data", *options]
        self._process = start(self._host, command, "postgres.txt", user=self._user)
        self.uri = f"postgresql+psycopg2://{_USER}:{self.password}@{self._host.address}:{port}/postgres"
        until_answers(self._host, port, self._process, "PostgreSQL")

    def close(self) -> None:
        """Stop it at once and remove what it kept."""
        self._process.signal(signal.SIGQUIT)
        self._process.wait(60)
        shutil.rmtree(self._files, ignore_errors=True)
        if isinstance(self._host, Loopback):
            self._host.close()

    def _keep(self, file: Path, text: str) -> None:
        """A file that only the server's user reads."""
        file.touch(mode=0o600)
        file.write_text(text)
        if self._user is not None:
            for path in (file, self._files):
                shutil.chown(path, self._user)


def missing() -> str | None:
    """Why there can be no PostgreSQL here; none if there can."""
    if _programs() is None:
        return "no PostgreSQL on this machine: `postgres` and `initdb` are neither on PATH nor in its usual places"
    if find_spec("psycopg2") is None:
        return "no driver for PostgreSQL in this Python: psycopg2 is not installed"
    return None


def missing_s3_client() -> str | None:
    """Why a tracking server cannot keep artifacts in object storage here; none if it can."""
    return None if find_spec("boto3") else "MLflow's server needs `boto3` to keep artifacts in S3; it is not installed"


def is_healthy(uri: str) -> bool:
    """Whether a tracking server answers."""
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _programs() -> Path | None:
    """Where PostgreSQL's programs are on this machine; none if they are not."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    for pattern in _POSTGRES_PLACES:
        places += sorted(Path("/").glob(pattern.lstrip("/")))
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def _other_user() -> str:
    """PostgreSQL refuses to run as root."""
    import pwd

    known = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
