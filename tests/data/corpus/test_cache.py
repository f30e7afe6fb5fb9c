"""Copies of shards on a node: made once, whole, of the right version, and never needed to read a corpus."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import fsspec
import numpy as np
import pytest

from orchestrator.data.corpus.cache import CACHE_VARIABLE, ShardCache, default_cache
from orchestrator.data.shards import ShardKind, ShardReader, ShardWriter
from orchestrator.data.shards.raw import raw_size, write_raw
from orchestrator.errors import DataError, StorageError
from orchestrator.storage import LocalFolder, RemoteFolder, open_folder

NAME = "shards/a b.arrow"
LENGTHS = (5, 400, 30)


class Counting(RemoteFolder):
    """Remote storage that counts what is fetched from it."""

    fetched = 0

    def copy(self, name: str, target: BinaryIO) -> None:
        self.fetched += 1
        super().copy(name, target)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Counting]:
    """A corpus in storage that is not this machine's."""
    yield Counting.open(f"memory://corpora/{tmp_path.name}")
    memory = fsspec.filesystem("memory")
    if memory.exists("/corpora"):
        memory.rm("/corpora", recursive=True)


def fill(folder: LocalFolder | RemoteFolder, kind: ShardKind = ShardKind.RAW, seed: int = 0) -> None:
    """Write a shard of three clips, one of them longer than a part."""
    rng = np.random.default_rng(seed)
    with folder.writer(NAME) as file, ShardWriter(file, kind, "prep") as shard:
        for number, length in enumerate(LENGTHS):
            with shard.add_clip(f"clip {number}") as clip:
                clip.frames(rng.integers(0, 256, (length, 3, 16, 32), dtype=np.uint8))
                clip.mel(rng.normal(size=(80, length * 16 // 5 + 1)).astype(np.float32))


def is_inside(path: Path, folder: Path) -> bool:
    return folder in path.parents


def test_a_local_corpus_is_read_where_it_is(tmp_path: Path) -> None:
    fill(LocalFolder(tmp_path))
    assert ShardCache(LocalFolder(tmp_path), None).path(NAME) == tmp_path / NAME
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def test_an_explicit_cache_gets_a_copy(tmp_path: Path) -> None:
    corpus = LocalFolder(tmp_path / "corpus")
    fill(corpus)
    path = ShardCache(corpus, tmp_path / "cache").path(NAME)
    assert is_inside(path, tmp_path / "cache") and path.read_bytes() == corpus.read(NAME)


def test_a_remote_shard_is_fetched_once(tmp_path: Path, remote: Counting) -> None:
    fill(remote)
    first, later = (ShardCache(remote, tmp_path / "cache") for _ in range(2))
    path = first.path(NAME)
    assert (path, path) == (first.path(NAME), later.path(NAME)) and remote.fetched == 1
    assert path.read_bytes() == remote.read(NAME) and len(ShardReader(path)) == 4


def test_the_default_cache_can_be_moved(tmp_path: Path, remote: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    fill(remote)
    assert is_inside(ShardCache(remote, None).path(NAME), tmp_path / "elsewhere")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert default_cache().parts[-2:] == (".cache", "syncnet-orchestrator")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "stamp cut", "stamp of another", "stamp gone"])
def test_a_damaged_copy_is_made_again(tmp_path: Path, remote: Counting, damage: str) -> None:
    fill(remote)
    path = ShardCache(remote, tmp_path).path(NAME)
    stamp, whole = path.with_suffix(".json"), path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[:1000])
        case "changed":
            path.write_bytes(bytes(len(whole)))
        case "gone":
            path.unlink()
        case "stamp cut":
            stamp.write_bytes(stamp.read_bytes()[:20])
        case "stamp of another":
            stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "source_size": 1}))
        case "stamp gone":
            stamp.unlink()
    again = ShardCache(remote, tmp_path).path(NAME)
    assert again == path and path.read_bytes() == whole and remote.fetched == 2


def test_a_changed_shard_is_fetched_anew(tmp_path: Path, remote: Counting) -> None:
    fill(remote)
    path = ShardCache(remote, tmp_path).path(NAME)
    old = ShardReader(path).clip(0).view(0, 5).copy()
    mapped = ShardReader(path)
    fill(remote, seed=1)  # as long as before
    new = ShardReader(ShardCache(remote, tmp_path).path(NAME))
    assert remote.fetched == 2 and not np.array_equal(new.clip(0).view(0, 5), old)
    assert np.array_equal(mapped.clip(0).view(0, 5), old)  # whoever reads the old one can go on


def test_what_a_killed_process_left_is_removed(tmp_path: Path, remote: Counting) -> None:
    fill(remote)
    path = ShardCache(remote, tmp_path).path(NAME)
    path.unlink()
    leftover = path.with_name(".stored.arrow.0123456789ab.tmp")
    leftover.write_bytes(b"half")
    assert ShardCache(remote, tmp_path).path(NAME) == path and not leftover.exists()


def test_a_failed_download_leaves_nothing(tmp_path: Path, remote: Counting) -> None:
    class Short(Counting):
        def copy(self, name: str, target: BinaryIO) -> None:
            target.write(self.read(name)[:1000])

    fill(remote)
    with pytest.raises(StorageError, match="but 1,000 were received"):
        ShardCache(Short.open(remote.uri), tmp_path).path(NAME)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_disk_too_small_for_a_download_is_an_error(tmp_path: Path, remote: Counting) -> None:
    fill(remote)
    with pytest.raises(DataError, match="are needed, but only 0 can be used") as caught:
        ShardCache(remote, tmp_path, free_space=lambda folder: 1000).path(NAME)
    assert caught.value.reason == "disk_full" and remote.fetched == 0


def test_a_disk_too_small_for_a_copy_is_a_warning(tmp_path: Path) -> None:
    corpus = LocalFolder(tmp_path / "corpus")
    fill(corpus)
    with pytest.warns(UserWarning, match="has no room for a copy") as caught:
        cache = ShardCache(corpus, tmp_path / "cache", free_space=lambda folder: 1000)
        assert (cache.path(NAME), cache.path(NAME)) == (tmp_path / "corpus" / NAME,) * 2
    assert len(caught) == 1


def test_a_shard_that_is_not_there_is_named(tmp_path: Path, remote: Counting) -> None:
    with pytest.raises(DataError, match=r"there is no shard shards/none\.arrow in memory://corpora") as caught:
        ShardCache(remote, tmp_path).path("shards/none.arrow")
    assert caught.value.reason == "missing"


def test_a_name_cannot_lead_out_of_the_corpus(tmp_path: Path, remote: Counting) -> None:
    with pytest.raises(StorageError, match="leads out"):
        ShardCache(remote, tmp_path).path("../other/a.arrow")


def test_a_cache_that_is_a_file_is_named(tmp_path: Path, remote: Counting) -> None:
    fill(remote)
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match="no copy of a shard can be made in") as caught:
        ShardCache(remote, tmp_path / "cache").path(NAME)
    assert caught.value.reason == "cache" and CACHE_VARIABLE in caught.value.hint


def test_new_credentials_keep_the_copies(tmp_path: Path) -> None:
    def folder_of(uri: str) -> Path:
        remote = RemoteFolder(uri, open_folder("memory://corpora/x")._place)  # type: ignore[attr-defined]
        return ShardCache(remote, tmp_path)._shard_folder(NAME)

    assert folder_of("s3://me:one@bucket/x") == folder_of("s3://me:two@bucket/x") != folder_of("s3://bucket/y")


def test_many_processes_fetch_once(tmp_path: Path) -> None:
    fill(LocalFolder(tmp_path / "corpus"))
    source = """
import sys, time
from pathlib import Path
from orchestrator.data.corpus.cache import ShardCache
from orchestrator.storage import LocalFolder

class Slow(LocalFolder):
    def copy(self, name, target):
        with open(sys.argv[2], "a") as log:
            log.write("fetched\\n")
        time.sleep(0.2)
        super().copy(name, target)

print(ShardCache(Slow(sys.argv[1]), Path(sys.argv[3])).path("shards/a b.arrow").stat().st_size)
"""
    command = [sys.executable, "-c", source, *(str(tmp_path / name) for name in ("corpus", "log", "cache"))]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sizes = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert sizes == {str((tmp_path / "corpus" / NAME).stat().st_size)}
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_a_compact_shard_becomes_raw_once(tmp_path: Path, remote: Counting) -> None:
    fill(remote, ShardKind.COMPACT)
    compact = ShardReader(ShardCache(remote, tmp_path / "other").path(NAME))
    cache = ShardCache(remote, tmp_path / "cache")
    raw = ShardReader(cache.path(NAME))
    assert (raw.kind, raw.preparation, len(raw)) == (ShardKind.RAW, "prep", len(compact))
    assert list(raw.clips()) == [(0, 1), (1, 2), (3, 1)]
    for row, rows in raw.clips():
        first, second = compact.clip(row, rows), raw.clip(row, rows)
        assert first.clip_id == second.clip_id and np.array_equal(first.mel, second.mel)
        assert np.array_equal(first.view(0, first.num_frames), second.view(0, first.num_frames))
    before = raw.path.stat().st_mtime_ns
    assert ShardCache(remote, tmp_path / "cache").path(NAME) == raw.path
    assert raw.path.stat().st_mtime_ns == before


def test_a_compact_shard_is_read_as_it_is_when_the_disk_is_full(tmp_path: Path) -> None:
    corpus = LocalFolder(tmp_path / "corpus")
    fill(corpus, ShardKind.COMPACT)
    with pytest.warns(UserWarning, match="has no room") as caught:
        path = ShardCache(corpus, tmp_path / "cache", free_space=lambda folder: (256 << 20) + 100_000).path(NAME)
    assert path == tmp_path / "corpus" / NAME and len(caught) == 1


def test_the_size_of_a_raw_shard_is_known_before(tmp_path: Path) -> None:
    fill(LocalFolder(tmp_path))
    reader = ShardReader(tmp_path / NAME)
    with (tmp_path / "raw.arrow").open("wb") as file:
        write_raw(reader, file)
    size = (tmp_path / "raw.arrow").stat().st_size
    assert size <= raw_size(reader) < size + 50_000
    assert (tmp_path / "raw.arrow").read_bytes() == (tmp_path / NAME).read_bytes()
