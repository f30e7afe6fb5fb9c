"""Folders in object storage on a real S3 server: signatures, uploads in parts, and a server or a writer that is killed.

The server itself is asked first, by another client than the product's: only one that really refuses can show that the
product tells it well.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import pytest

from orchestrator.errors import StorageError
from orchestrator.storage import Folder, open_folder
from tests.lab import stored
from tests.lab.hosts import Loopback
from tests.lab.s3 import S3Server, missing
from tests.lab.stored import Login

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")
_NUMBERS = count(1)
PART = 6_000_000
"""Bytes; more than a part of an upload must have."""
WRONG = "no-such-secret"
UPLOAD = f"""
import sys
from orchestrator.storage import open_folder

with open_folder(sys.argv[1]).writer("shard.arrow") as file:
    for _ in range(3):
        file.write(b"z" * {PART})
    print("uploading", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    host = Loopback()
    server = S3Server(host)
    server.start()
    yield server
    server.close()
    host.close()


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own; the credentials are in the environment, where every client looks for them."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.make_bucket(f"bucket-{next(_NUMBERS)}")


@pytest.fixture
def folder(server: S3Server, bucket: str) -> Folder:
    return open_folder(server.uri(bucket, "runs"))


@pytest.mark.parametrize("login", ["wrong secret", "unknown key"])
def test_the_server_refuses_who_signs_wrongly(server: S3Server, bucket: str, login: str) -> None:
    key = server.key if login == "wrong secret" else "lab:nobody"
    with pytest.raises(OSError, match="SIGNATURE_DOES_NOT_MATCH"):
        stored.sizes(Login(server.endpoint, key, WRONG), bucket)
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        stored.content(Login(server.endpoint, key, WRONG), f"{bucket}/x")


def test_what_is_written_is_there_at_once(server: S3Server, bucket: str, folder: Folder) -> None:
    parts = [bytes([number]) * PART for number in range(3)]
    with folder.writer("step-1/state.safetensors") as file:
        for part in parts:
            file.write(part)
    with folder.writer("step-1/a name with ü and %20") as file:
        file.write(b"small")
    names = ["step-1/a name with ü and %20", "step-1/state.safetensors"]
    assert [entry.name for entry in folder.entries()] == names
    assert stored.content(server.login, f"{bucket}/runs/{names[1]}") == b"".join(parts)
    folder.delete(names[0])
    assert {entry.name: entry.size for entry in folder.entries()} == {names[1]: 3 * PART}
    with folder.local(names[1]) as copy:
        assert copy.read_bytes() == b"".join(parts)


@pytest.mark.parametrize("action", ["read", "list", "write"])
def test_wrong_credentials_are_one_error_without_them(server: S3Server, bucket: str, action: str) -> None:
    folder = open_folder(server.uri(bucket, "runs", key=server.key, secret=WRONG))
    with pytest.raises(StorageError) as caught:
        if action == "read":
            folder.read("run.json")
        elif action == "list":
            folder.entries()
        else:
            with folder.writer("run.json") as file:
                file.write(b"{}")
    told = f"{caught.value} {caught.value.hint} {caught.value!r} {caught.value.__cause__}"
    assert f"s3://{bucket}/runs" in told and "credentials" in told
    assert WRONG not in told and server.secret not in told
    assert stored.sizes(server.login, bucket) == {}


def test_a_server_killed_during_an_upload_shows_what_was_there_before(
    server: S3Server, bucket: str, folder: Folder
) -> None:
    with folder.writer("best.json") as file:
        file.write(b"whole")
    with pytest.raises(StorageError, match=rf"s3://{bucket}/runs/best\.json cannot be used"):  # noqa: SIM117
        with folder.writer("best.json") as file:
            file.write(b"y" * PART)
            server.kill()
            for _ in range(3):
                file.write(b"y" * PART)
    server.start()
    assert stored.sizes(server.login, bucket) == {"runs/best.json": len(b"whole")}
    assert folder.read("best.json") == b"whole"


def test_a_writer_killed_during_an_upload_leaves_nothing_that_is_seen(server: S3Server, bucket: str) -> None:
    command = [sys.executable, "-c", UPLOAD, server.uri(bucket, "corpus")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdin is not None
        assert writer.stdout.readline() == "uploading\n"
        writer.send_signal(signal.SIGKILL)
    assert stored.sizes(server.login, bucket) == {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        writer.communicate()  # which ends its input
    assert stored.sizes(server.login, bucket) == {"corpus/shard.arrow": 3 * PART}


def test_a_server_that_was_silent_answers_again(server: S3Server, bucket: str, folder: Folder) -> None:
    folder.write("run.json", b"{}")
    server.pause()
    with pytest.raises(TimeoutError), socket.create_connection(server.endpoint.split(":")) as silent:  # type: ignore[arg-type]
        silent.settimeout(0.5)
        silent.sendall(b"GET / HTTP/1.0\r\n\r\n")
        silent.recv(1)
    server.resume()
    assert folder.read("run.json") == b"{}"
