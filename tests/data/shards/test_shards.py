"""Shards: zero copies, deterministic bytes, long clips in parts, and damage that is noticed."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestrator.data.shards import ShardKind, ShardReader, ShardWriter, schema
from orchestrator.errors import DataError

from ..conftest import ClipArrays, invent_clips, write_shard


@pytest.fixture(autouse=True)
def parts_of_512(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests do not depend on how long a part usually is."""
    monkeypatch.setattr("orchestrator.data.shards.writer.PART_FRAMES", 512)


def copied(clip: ClipArrays, reader: ShardReader, row: int, rows: int) -> bool:
    stored = reader.clip(row, rows)
    same = np.array_equal(stored.view(0, stored.num_frames), clip.frames) and np.array_equal(stored.mel, clip.mel)
    return same and stored.clip_id == clip.clip_id


def test_a_shard_gives_back_views_of_what_was_written(tmp_path: Path) -> None:
    clips = invent_clips([10, 11, 12])
    assert write_shard(tmp_path / "a.arrow", clips) == 3
    reader = ShardReader(tmp_path / "a.arrow")
    assert (len(reader), reader.kind, reader.preparation) == (3, ShardKind.RAW, "prep")
    for row, clip in enumerate(clips):
        assert copied(clip, reader, row, 1)
        view, mel = reader.clip(row).view(2, 5), reader.clip(row).mel
        assert not view.flags.owndata and not view.flags.writeable and not mel.flags.writeable


def test_reading_copies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "a.arrow", invent_clips([100]))
    before = pa.total_allocated_bytes()
    monkeypatch.setattr(np, "empty", None)  # a copy would need memory from somewhere
    view = ShardReader(tmp_path / "a.arrow").clip(0).view(0, 100)
    assert view.nbytes == 9600 and pa.total_allocated_bytes() - before < 9600


def test_views_outlive_the_reader_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    (clip,) = invent_clips([10])
    write_shard(path, [clip])
    view = ShardReader(path).clip(0).view(0, 10)
    path.unlink()
    assert np.array_equal(view, clip.frames)


def test_the_same_clips_give_the_same_bytes_readable_with_plain_pyarrow(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, invent_clips([10, 11]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    table = pa.ipc.open_file(tmp_path / "a").read_all()
    assert table.column("num_frames").to_pylist() == [10, 11]
    assert table.schema.metadata[b"syncnet.preparation"] == b"prep"
    assert table.schema.metadata[b"syncnet.kind"] == b"raw"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 7))
def test_the_chunks_that_frames_come_in_leave_no_trace(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], part_frames: int
) -> None:
    folder = tmp_path_factory.mktemp("chunks")
    (clip,) = invent_clips([sum(sizes) + 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.data.shards.writer.PART_FRAMES", part_frames)
        rows = write_shard(folder / "whole", [clip])
        with (folder / "chunks").open("wb") as file, ShardWriter(file, ShardKind.RAW, "prep") as shard:
            with shard.add_clip(clip.clip_id) as writer:
                writer.mel(clip.mel)
                for first, size in zip(np.cumsum([0, *sizes]), [*sizes, 1], strict=True):
                    writer.frames(clip.frames[first : first + size])
            assert (writer.row, writer.rows, writer.num_frames) == (0, rows, len(clip.frames))
    assert (folder / "whole").read_bytes() == (folder / "chunks").read_bytes()
    assert rows == -(-len(clip.frames) // part_frames)
    assert copied(clip, ShardReader(folder / "whole"), 0, rows)


def test_a_long_clip_lies_in_parts_and_windows_cross_them(tmp_path: Path) -> None:
    short, long = invent_clips([600, 1200])
    assert write_shard(tmp_path / "a", [short, long]) == 2 + 3
    reader = ShardReader(tmp_path / "a")
    assert copied(short, reader, 0, 2) and copied(long, reader, 2, 3)
    clip = reader.clip(2, 3)
    assert not clip.view(512, 16).flags.owndata and clip.view(500, 16).flags.owndata
    out = np.zeros((700, 3, 4, 8), dtype=np.uint8)
    clip.read(490, 700, out)
    assert np.array_equal(out, long.frames[490:1190])


def test_a_long_clip_is_written_in_the_memory_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.data.shards.writer.PART_FRAMES", 64)
    chunk = np.zeros((16, 3, 64, 64), dtype=np.uint8)
    with Path(os.devnull).open("wb") as file, ShardWriter(file, ShardKind.RAW, "prep") as shard:
        tracemalloc.start()
        try:
            with shard.add_clip("a") as writer:
                for _ in range(40):  # ten parts
                    writer.frames(chunk)
                writer.mel(np.zeros((80, 9), dtype=np.float32))
            assert tracemalloc.get_traced_memory()[1] < 1.2 * 4 * chunk.nbytes
        finally:
            tracemalloc.stop()
    assert writer.rows == 10


def test_frames_too_big_for_512_in_memory_take_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.data.shards.writer.PART_BYTES", 96 * 10 + 5)
    (clip,) = invent_clips([25])
    assert write_shard(tmp_path / "a", [clip]) == 3
    assert copied(clip, ShardReader(tmp_path / "a"), 0, 3)


@pytest.mark.parametrize("kind", [ShardKind.RAW, ShardKind.LATENTS])
def test_a_shard_put_together_from_others_has_the_bytes_of_one_written_at_once(tmp_path: Path, kind: ShardKind) -> None:
    clips = invent_clips([10, 600, 12])
    if kind is ShardKind.LATENTS:
        clips = [ClipArrays(clip.clip_id, clip.frames / np.float32(255), clip.mel) for clip in clips]
    write_shard(tmp_path / "whole", clips, kind)
    with (tmp_path / "copied").open("wb") as file, ShardWriter(file, kind, "prep") as shard:
        for number, clip in enumerate(clips):
            rows = write_shard(tmp_path / f"{number}", [clip], kind)
            assert shard.copy_clip(ShardReader(tmp_path / f"{number}"), 0, rows) == [0, 1, 3][number]
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "copied").read_bytes()


def test_a_clip_of_another_kind_or_preparation_is_not_copied(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", invent_clips([10]), preparation="other")
    shard = ShardWriter(io.BytesIO(), ShardKind.RAW, "prep")
    with pytest.raises(DataError, match="does not fit a shard of raw, preparation prep"):
        shard.copy_clip(ShardReader(tmp_path / "a"), 0, 1)


def test_latents_are_stored_as_half_precision(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(20, 4, 2, 2)).astype(np.float32)
    clip = ClipArrays("a", latents, np.zeros((80, 65), np.float32))
    write_shard(tmp_path / "a", [clip], ShardKind.LATENTS)
    stored = ShardReader(tmp_path / "a").clip(0)
    assert (stored.dtype, stored.frame_shape) == (np.float16, (4, 2, 2))
    assert np.array_equal(stored.view(3, 9), latents[3:12].astype(np.float16))


def test_a_writer_that_fails_leaves_no_whole_shard(tmp_path: Path) -> None:
    (clip,) = invent_clips([10])
    file = (tmp_path / "a").open("wb")
    shard = ShardWriter(file, ShardKind.RAW, "prep")
    with pytest.raises(RuntimeError, match="on fire"), file, shard, shard.add_clip("a") as writer:
        writer.frames(clip.frames)
        raise RuntimeError("disk on fire")
    with pytest.raises(DataError, match="not a whole shard"):
        ShardReader(tmp_path / "a")


@pytest.mark.parametrize(
    ("frames", "mel", "message"),
    [
        (np.zeros((4, 1, 4, 8), np.uint8), np.zeros((80, 9), np.float32), "instead of uint8"),
        (np.zeros((4, 3, 4, 8), np.float32), np.zeros((80, 9), np.float32), "instead of uint8"),
        (np.zeros((0, 3, 4, 8), np.uint8), np.zeros((80, 9), np.float32), "no frames"),
        (np.zeros((4, 3, 4, 8), np.uint8), np.zeros((79, 9), np.float32), "a mel of shape"),
        (np.zeros((4, 3, 4, 8), np.uint8), np.zeros((80, 0), np.float32), "a mel of shape"),
        (np.zeros((4, 3, 4, 8), np.uint8), None, "no mel"),
    ],
)
def test_a_clip_that_is_no_clip_is_refused(frames: NDArray, mel: NDArray | None, message: str) -> None:
    shard = ShardWriter(io.BytesIO(), ShardKind.RAW, "prep")
    with pytest.raises(DataError, match=message), shard.add_clip("a") as writer:
        writer.frames(frames)
        if mel is not None:
            writer.mel(mel)


def test_frames_of_another_size_are_refused() -> None:
    shard = ShardWriter(io.BytesIO(), ShardKind.RAW, "prep")
    with pytest.raises(DataError, match=r"\(3, 4, 9\) after frames of"), shard.add_clip("a") as writer:
        writer.frames(np.zeros((2, 3, 4, 8), np.uint8))
        writer.frames(np.zeros((2, 3, 4, 9), np.uint8))


def test_damaged_shards_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_shard(path, invent_clips([10, 11]))
    content = path.read_bytes()
    for broken in (b"", b"text", content[: len(content) // 2], content[:-20]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not a whole shard"):
            ShardReader(path)
    path.write_bytes(content.replace(b"syncnet.shard_version", b"syncnet.shard_verzion"))
    with pytest.raises(DataError, match="shard version none"):
        ShardReader(path)
    metadata = schema_of(content).metadata
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("x", pa.int8())], metadata)):
        pass
    with pytest.raises(DataError, match="other columns"):
        ShardReader(path)
    with pytest.raises(DataError, match="there is no shard"):
        ShardReader(tmp_path / "b.arrow")


def schema_of(content: bytes) -> pa.Schema:
    return pa.ipc.open_file(pa.BufferReader(content)).schema


def test_rows_that_are_not_one_whole_clip_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", invent_clips([600, 1200]))
    reader = ShardReader(tmp_path / "a")
    for row, rows in ((-1, 1), (5, 1), (4, 2), (0, 0)):
        with pytest.raises(DataError, match="has 5 rows"):
            reader.clip(row, rows)
    with pytest.raises(DataError, match="row 0 does not continue clip 0"):
        reader.clip(0, 1)
    for row, rows in ((1, 1), (0, 3), (3, 2)):
        with pytest.raises(DataError, match="has part"):
            reader.clip(row, rows)


def test_a_missing_part_in_the_middle_is_noticed(tmp_path: Path) -> None:
    one, other = invent_clips([1200, 1201])
    write_shard(tmp_path / "one", [one])
    write_shard(tmp_path / "other", [ClipArrays("other", other.frames, other.mel)])
    parts = [ShardReader(tmp_path / name) for name in ("one", "other", "one")]
    with (tmp_path / "mixed").open("wb") as file, ShardWriter(file, ShardKind.RAW, "prep") as shard:
        for number, reader in enumerate(parts):
            shard.write_part(reader.part(number, number))
    clip = ShardReader(tmp_path / "mixed").clip(0, 3)
    assert np.array_equal(clip.view(1030, 5), one.frames[1030:1035])
    with pytest.raises(DataError, match="row 1 does not continue clip 0"):
        clip.view(500, 16)


def test_a_row_with_less_than_it_says_is_noticed(tmp_path: Path) -> None:
    (clip,) = invent_clips([10])
    part = schema.Part("a", 0, 11, 3, 4, 8, 33, np.zeros(0, np.int32), clip.frames, clip.mel)
    with (tmp_path / "a").open("wb") as file, ShardWriter(file, ShardKind.RAW, "prep") as shard:
        shard.write_part(part)
    with pytest.raises(DataError, match="less in row 0 than it says"):
        ShardReader(tmp_path / "a").clip(0)


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (9, 2), (0, 11), (3, 0)])
def test_windows_outside_the_clip_are_refused(tmp_path: Path, start: int, count: int) -> None:
    write_shard(tmp_path / "a", invent_clips([10]))
    with pytest.raises(DataError, match=f"is frames {start} to"):
        ShardReader(tmp_path / "a").clip(0).view(start, count)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no list of open files here")
def test_many_open_shards_need_no_descriptors(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", invent_clips([10]))
    before = len(list(Path("/proc/self/fd").iterdir()))
    readers = [ShardReader(tmp_path / "a") for _ in range(20)]
    assert len(readers) == 20 and len(list(Path("/proc/self/fd").iterdir())) <= before
