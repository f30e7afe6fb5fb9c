"""Folders here and in remote storage: one behaviour, whole files or none, and errors without credentials."""

from __future__ import annotations

import errno
import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow.fs
import pytest

from orchestrator.storage import (
    Folder,
    LocalFolder,
    Place,
    RemoteFolder,
    StorageError,
    open_folder,
)
from orchestrator.storage.remote import _of_fsspec, _Upload

S3 = "s3://AKIAUSER:hush%2Fhush@bucket/a b?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """An empty folder on this machine, and one in fsspec's storage in memory."""
    if request.param == "local":
        yield open_folder(tmp_path / "a folder")
        return
    yield open_folder(f"memory://{tmp_path.name}/a folder")
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


def put(folder: Folder, name: str, content: bytes) -> None:
    with folder.writer(name) as file:
        file.write(content)


def names(folder: Folder, below: str = "") -> list[str]:
    return [entry.name for entry in folder.entries(below)]


def everything(folder: Folder) -> list[str]:
    """All files, the hidden ones too."""
    if folder.local_path:
        return sorted(str(path) for path in folder.local_path.rglob("*") if path.is_file())
    return list(fsspec.filesystem("memory").find(folder.uri.removeprefix("memory:/")))


def test_files_go_there_and_come_back(folder: Folder) -> None:
    assert folder.entries() == [] and folder.entry("b/ä #1?.bin") is None
    put(folder, "b/ä #1?.bin", b"hello")
    put(folder, "a", b"")
    assert [(entry.name, entry.size) for entry in folder.entries()] == [("a", 0), ("b/ä #1?.bin", 5)]
    assert folder.read("b/ä #1?.bin") == b"hello"
    assert folder.entry("b/ä #1?.bin") == folder.entries("b")[0] and folder.entry("b") is None
    assert abs(folder.entries()[0].mtime_ns / 1e9 - datetime.now(UTC).timestamp()) < 3600
    assert names(folder, "b") == ["b/ä #1?.bin"] and names(folder, "c") == []
    with folder.local("b/ä #1?.bin") as path:
        assert path.read_bytes() == b"hello" and path.name == "ä #1?.bin"
    assert path.exists() == (folder.local_path is not None)
    target = io.BytesIO()
    folder.copy("b/ä #1?.bin", target)
    assert target.getvalue() == b"hello"
    put(folder, "a", b"again")
    assert folder.read("a") == b"again"
    for _ in range(2):
        folder.delete("a")
    assert names(folder) == ["b/ä #1?.bin"]


def test_a_name_is_no_pattern(folder: Folder) -> None:
    for name in ("a1", "a[1]", "a*", "a?", "b"):
        put(folder, name, name.encode())
    for name in ("a[1]", "a*", "a?"):
        assert folder.read(name) == name.encode()
        folder.delete(name)
    assert names(folder) == ["a1", "b"]


def test_a_child_and_a_pickle_are_the_same_folder(folder: Folder) -> None:
    put(folder, "x y/ü/file", b"1")
    child = folder.child("x y").child("ü")
    assert names(child) == ["file"] and child.name.endswith("x y/ü")
    for again in (open_folder(child.uri), pickle.loads(pickle.dumps(child))):
        assert names(again) == ["file"] and again.uri == child.uri


def test_what_is_hidden_is_left_out(folder: Folder) -> None:
    for name in ("a/b", ".a", ".git/b", "a/.b.0123456789ab.tmp"):
        put(folder, name, b"1")
    assert names(folder) == ["a/b"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, OSError])
def test_a_block_that_fails_leaves_what_was_there(folder: Folder, error: type[BaseException]) -> None:
    put(folder, "a", b"old")
    before = everything(folder)
    for name in ("a", "b"):
        with pytest.raises(error), folder.writer(name) as file:
            file.write(b"x" * 20_000_000)
            raise error
    assert folder.read("a") == b"old" and everything(folder) == before


def test_nothing_is_packed_or_unpacked_by_its_name(folder: Folder) -> None:
    put(folder, "a.gz", b"plain")
    assert folder.read("a.gz") == b"plain" and folder.entries()[0].size == 5
    with folder.local("a.gz") as path:
        assert path.read_bytes() == b"plain"


def test_what_is_not_there_is_named(folder: Folder) -> None:
    for act in (folder.read, lambda name: folder.local(name).__enter__(), lambda name: folder.copy(name, io.BytesIO())):
        with pytest.raises(StorageError, match="there is no file") as caught:
            act("none")
        assert caught.value.missing and caught.value.path.endswith("none") and caught.value.hint


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd"])
def test_a_name_cannot_lead_out_of_its_folder(folder: Folder, name: str) -> None:
    for act in (folder.read, folder.entry, folder.entries, folder.delete, folder.child):
        with pytest.raises(StorageError, match="leads out of"):
            act(name)  # type: ignore[operator]


def test_a_killed_process_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    source = (
        "import os, signal, sys\nfrom orchestrator.storage import open_folder\n"
        "with open_folder(sys.argv[1]).writer('a') as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", source, str(tmp_path)]).returncode == -signal.SIGKILL
    assert names(LocalFolder(tmp_path)) == [] and len(everything(LocalFolder(tmp_path))) == 1


def test_names_that_are_not_utf8_and_long_ones(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    for name in (os.fsdecode(b"caf\xe9.mp4"), "ä" * 127, "x" * 255):
        put(folder, name, b"1")
        assert folder.read(name) == b"1" and name in names(folder)
        assert names(pickle.loads(pickle.dumps(folder.child(".")))) == names(folder)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    put(LocalFolder(tmp_path / "other"), "x", b"1")
    folder = LocalFolder(tmp_path / "root")
    put(folder, "a/b", b"1")
    for link, target in (("up", ".."), ("z", "../other"), ("zz", "../other"), ("broken", "nowhere")):
        (tmp_path / "root" / link).symlink_to(target)
    assert names(folder) == ["a/b", "up/other/x"]  # the first way to each real folder, in the order of names


def test_a_full_disk_is_told_and_other_errors_of_the_block_are_not_its(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with pytest.raises(StorageError, match="cannot be written: No space left") as caught, folder.writer("a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "free some space" in caught.value.hint
    with pytest.raises(FileNotFoundError, match="something else"), folder.writer("a"):
        raise FileNotFoundError(errno.ENOENT, "something else")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"), folder.writer("file/a"):
        pass


class Failing(pyarrow.fs.FileSystemHandler):  # type: ignore[misc]
    """A folder of this machine as remote storage that fails at one operation."""

    def __init__(self, folder: Path, fails: str = "", times: int = 1) -> None:
        self.inner = pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem())
        self.fails, self.times = fails, times

    def fail(self, operation: str) -> None:
        if operation == self.fails and self.times:
            self.times -= 1
            raise OSError("the connection was lost; AKIAUSER:hush/hush@host, secret_key=more-of-it")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self.fail("open")
        return pyarrow.PythonFile(FailingStream(self, self.inner.open_output_stream(path)), mode="w")

    def open_input_stream(self, path: str) -> Any:
        self.fail("read")
        return self.inner.open_input_stream(path)

    def get_file_info(self, paths: list[str]) -> Any:
        self.fail("info")
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        self.fail("list")
        return self.inner.get_file_info(selector)

    def move(self, source: str, target: str) -> None:
        self.fail("move")
        if self.fails == "move onto" and self.inner.get_file_info(target).is_file:
            raise OSError("there is a file of that name")
        self.inner.move(source, target)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.inner.create_dir(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self.inner.delete_file(path)

    def get_type_name(self) -> str:
        return "failing"

    def normalize_path(self, path: str) -> str:
        return path

    copy_file = delete_dir = delete_dir_contents = delete_root_dir_contents = None
    open_append_stream = open_input_file = None


class FailingStream(io.RawIOBase):
    """What such a storage writes to."""

    def __init__(self, storage: Failing, stream: Any) -> None:
        self.storage, self.stream, self.written = storage, stream, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += len(data)
        if self.written > 10:
            self.storage.fail("write")
        return int(self.stream.write(data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.stream.close()
            self.storage.fail("close")


def failing(path: Path, fails: str) -> tuple[RemoteFolder, Failing]:
    """A folder in such storage, with one file in it."""
    path.mkdir(exist_ok=True)
    (path / "a").write_bytes(b"old")
    handler = Failing(path, fails)
    place = Place(pyarrow.fs.PyFileSystem(handler), "", "test://host", ("AKIAUSER:hush/hush", "AKIAUSER"))
    return RemoteFolder("test://AKIAUSER:hush%2Fhush@host", place), handler


@pytest.mark.parametrize("fails", ["open", "write", "close", "move"])
def test_an_upload_that_breaks_off_is_nothing(tmp_path: Path, fails: str) -> None:
    folder, _ = failing(tmp_path / "remote", fails)
    with pytest.raises(StorageError, match="test://host/sub/b cannot be used: the connection") as caught:
        put(folder, "sub/b", b"12345678" * 4)
    assert "hush" not in str(caught.value) and "more-of-it" not in str(caught.value)
    assert [path.name for path in (tmp_path / "remote").rglob("*") if path.is_file()] == ["a"]
    put(folder, "sub/b", b"12345678" * 4)
    assert folder.read("sub/b") == b"12345678" * 4


@pytest.mark.parametrize(("kind", "asked"), [("s3", 0), ("hdfs", 1)])
def test_an_object_store_that_failed_is_not_asked_to_delete(kind: str, asked: int) -> None:
    def fail() -> None:
        raise OSError("timeout")

    deleted: list[str] = []
    stream = SimpleNamespace(write=len, close=fail)
    filesystem = SimpleNamespace(
        type_name=kind,
        create_dir=lambda path, recursive: None,
        open_output_stream=lambda path, compression: stream,
        delete_file=deleted.append,
    )
    with pytest.raises(StorageError, match="timeout"):
        put(RemoteFolder("x://host", Place(filesystem, "bucket", "x://host")), "a", b"1")
    assert len(deleted) == asked  # there, a file under construction is seen while it is written


def test_a_storage_that_does_not_move_onto_a_file(tmp_path: Path) -> None:
    folder, _ = failing(tmp_path / "remote", "move onto")
    put(folder, "a", b"new")
    assert folder.read("a") == b"new" and names(folder) == ["a"]


@pytest.mark.parametrize(
    ("fails", "act"),
    [
        ("read", lambda folder: folder.read("a")),
        ("read", lambda folder: folder.local("a").__enter__()),
        ("info", lambda folder: folder.entry("a")),
        ("list", lambda folder: folder.entries()),
    ],
)
def test_errors_name_the_place_and_no_credentials(tmp_path: Path, fails: str, act: Any) -> None:
    folder, _ = failing(tmp_path / "remote", fails)
    with pytest.raises(StorageError, match="test://host") as caught:
        act(folder)
    assert not caught.value.missing and caught.value.__cause__ is None
    assert not any(secret in f"{caught.value}{folder!r}" for secret in ("AKIAUSER", "hush", "more-of-it"))


def test_an_endpoint_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="s3://bucket/a b cannot be used") as caught:
        open_folder(S3).entries()
    assert not any(secret in str(caught.value) for secret in ("AKIAUSER", "hush", "endpoint_override"))
    with pytest.raises(StorageError, match="nowhere://x cannot be used"):
        open_folder("nowhere://x")


def test_what_s3_cannot_move_is_told_while_it_is_written() -> None:
    upload = _Upload(io.BytesIO(), Place(SimpleNamespace(type_name="s3"), "x", "s3://bucket/x"))
    upload._written = (5 << 30) - 1
    upload.write(b"1")
    with pytest.raises(StorageError, match="gets larger than"):
        upload.write(b"2")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"size": 1, "mtime": 1.5}, 1_500_000_000),
        ({"size": 1, "LastModified": datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)}, 2_000_000_000),
        ({"size": 1, "updated": "1970-01-01T00:00:03Z"}, 3_000_000_000),
        ({"size": 1}, 0),
    ],
)
def test_times_of_fsspec(info: dict[str, Any], expected: int) -> None:
    assert _of_fsspec("a", info).mtime_ns == expected


def test_addresses_of_this_machine(tmp_path: Path) -> None:
    assert open_folder(tmp_path.as_uri()).local_path == tmp_path
    assert open_folder("plain").uri == str(Path("plain").absolute()) and open_folder("plain").name == "plain"
