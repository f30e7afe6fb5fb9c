"""Real servers of a test's own, on free loopback ports: MLflow's tracking server, and PostgreSQL behind it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.runtime.processes import wait_for

_HOST = "127.0.0.1"
_USER = "orchestrator"
_POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")


class TrackingServer:
    """`mlflow server`, which can be killed and started again at the same address.

    Args:
        folder: for its log.
        options: of the command: where it keeps runs and artifacts.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self._port = free_port()
        self._said, self._options = folder / "server.txt", list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://{_HOST}:{self._port}"

    @property
    def said(self) -> str:
        """Its log."""
        return self._said.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(self._port)]
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [*command, "--workers", "1", *self._options], stdout=said, stderr=said, start_new_session=True
            )
        wait_for(lambda: self._answers() or self._process.poll() is not None, "the server", 120, lambda: self.said)  # type: ignore[union-attr]
        assert self._process.poll() is None, self.said

    def kill(self) -> None:
        """SIGKILL of the server and its workers, which are a process group of their own."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False


class PostgresServer:
    """A PostgreSQL server with a database and a password of its own; without root it runs as who tests.

    Args:
        programs: the folder of its programs, as `postgres_programs` finds it.
    """

    def __init__(self, programs: Path) -> None:
        # not in a folder of pytest's: another user has to get there, and its socket wants a short path
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._user = _other_user() if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self.password, port = secrets.token_hex(8), free_port()
        self._run(programs / "initdb", "--username", _USER, "--auth", "scram-sha-256", "--pwfile", self._pwfile())
        options = ["-k", str(self._folder), "-h", _HOST, "-p", str(port), "-c", "fsync=off"]
        self._process = subprocess.Popen(
            [programs / "postgres", "-D", self._folder / "data", *options],
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.uri = f"postgresql+psycopg2://{_USER}:{self.password}@{_HOST}:{port}/postgres"
        wait_for(lambda: _listens(port), "PostgreSQL", 60)

    def close(self) -> None:
        """Stop it at once and remove what it kept."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pwfile(self) -> str:
        file = self._folder / "password"
        file.touch(mode=0o600)
        file.write_text(self.password)
        if self._user is not None:
            shutil.chown(file, self._user)
        return str(file)

    def _run(self, program: Path, *arguments: str) -> None:
        command = [str(program), "-D", str(self._folder / "data"), *arguments]
        done = subprocess.run(command, user=self._user, cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def postgres_programs() -> Path | None:
    """Where PostgreSQL's programs are on this machine; none if they are not."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    for pattern in _POSTGRES_PLACES:
        places += sorted(Path("/").glob(pattern.lstrip("/")))
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _other_user() -> str:
    """PostgreSQL refuses to run as root."""
    import pwd

    known = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _listens(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
