"""Remote storage that is away, silent, or answers: told of in time, with one error and no credentials."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.storage import RemoteFolder, StorageError, bounds, open_folder, open_place


def s3(port: int, bucket: str = "bucket") -> str:
    return f"s3://AKIAUSER:hush%2Fhush@{bucket}/a b?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


@pytest.fixture
def refusing() -> Iterator[tuple[int, list[str]]]:
    """The port of a storage that answers every request with a refusal, and the requests that it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        """Refuses."""

        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of one who listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_storage_that_answers_is_asked_once(refusing: tuple[int, list[str]]) -> None:
    port, asked = refusing
    folder = open_folder(s3(port)).child("ü/50% #1?")
    assert isinstance(folder, RemoteFolder) and folder._place.path == "bucket/a b/ü/50% #1?"
    again = open_folder(folder.uri)
    assert isinstance(again, RemoteFolder) and again._place.path == folder._place.path
    assert folder.name == "s3://bucket/a b/ü/50% #1?" and "hush" not in repr(folder)
    assert asked == ["/bucket"]
    open_folder(s3(port, "other"))
    assert asked == ["/bucket", "/other"]


def test_s3_is_given_up_after_a_while_and_writes_in_bounded_memory(refusing: tuple[int, list[str]]) -> None:
    _, (options,) = open_place(s3(refusing[0])).filesystem.__reduce__()
    assert options["request_timeout"] == 20 and options["connect_timeout"] == 10
    assert options["background_writes"] is False and options["access_key"] == "AKIAUSER"


def test_a_silent_storage_is_one_error_in_time(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times are what is left of half a minute for two attempts; here they are shorter."""
    attempts = bounds._KNOCKS * bounds._S3_KNOCK["request_timeout"]
    assert attempts < bounds._PATIENCE_S < 30 and bounds._GCS_KNOCK["retry_time_limit"].total_seconds() < 30
    monkeypatch.setattr(bounds, "_S3_KNOCK", {"connect_timeout": 1.0, "request_timeout": 1.0})
    with pytest.raises(StorageError, match=r"s3://bucket/a b cannot be used: .*Timeout was reached") as caught:
        open_folder(s3(silent)).entries()
    assert not any(secret in str(caught.value) for secret in ("AKIAUSER", "hush", "endpoint_override"))


def test_a_library_that_cannot_be_told_to_be_quick_is_not_waited_for(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_PATIENCE_S", 0.3)
    with pytest.raises(StorageError, match=r"gs://bucket/x cannot be used: no answer within 0.3 s"):
        open_folder(f"gs://anonymous@bucket/x?endpoint_override=127.0.0.1:{silent}&scheme=http")


def test_work_in_time_returns_and_raises_what_it_does() -> None:
    assert bounds.in_time(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        bounds.in_time(lambda: 1 // 0)
    gate = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0.05 s"):
        bounds.in_time(lambda: gate.wait(60), 0.05)
    gate.set()
