"""Shards, manifest, splits and the corpus: zero copies, deterministic bytes, and damage that is noticed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import ManifestRow, read_manifest, write_manifest
from orchestrator.data.shards import ClipArrays, ShardReader, write_shard
from orchestrator.data.splits import speaker_of, split_speakers
from orchestrator.errors import DataError

from .conftest import fill_corpus


def clips(count: int) -> Iterator[ClipArrays]:
    rng = np.random.default_rng(0)
    for number in range(count):
        frames = rng.integers(0, 256, (10 + number, 3, 4, 8), dtype=np.uint8)
        yield ClipArrays(f"clip {number}", frames, rng.normal(size=(80, 33 + number)).astype(np.float32))


def test_a_shard_gives_back_views_of_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    assert write_shard(path, clips(3), "prep") == 3
    reader = ShardReader(path)
    assert (len(reader), reader.preparation) == (3, "prep")
    for row, clip in enumerate(clips(3)):
        stored = reader.clip(row)
        assert stored.clip_id == clip.clip_id
        assert np.array_equal(stored.frames, clip.frames)
        assert np.array_equal(stored.mel, clip.mel)
        assert not stored.frames.flags.owndata and not stored.frames.flags.writeable
        assert stored.mel.dtype == np.float32


def test_reading_copies_nothing(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.arrow", clips(3), "prep")
    before = pa.total_allocated_bytes()
    reader = ShardReader(tmp_path / "a.arrow")
    assert len(reader) == 3
    assert pa.total_allocated_bytes() - before < 960  # one clip's frames


def test_views_outlive_the_reader_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_shard(path, clips(1), "prep")
    view = ShardReader(path).clip(0).frames
    path.unlink()
    assert np.array_equal(view, next(clips(1)).frames)


def test_the_same_clips_give_the_same_bytes_readable_with_plain_pyarrow(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, clips(2), "prep")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    table = pa.ipc.open_file(tmp_path / "a").read_all()
    assert table.column("num_frames").to_pylist() == [10, 11]
    assert table.schema.metadata[b"syncnet.preparation"] == b"prep"


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[ClipArrays]:
        yield from clips(1)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_shard(tmp_path / "a.arrow", failing(), "prep")
    assert list(tmp_path.iterdir()) == []


def test_damaged_shards_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_shard(path, clips(2), "prep")
    content = path.read_bytes()
    for broken in (b"", b"text", content[: len(content) // 2], content[:-20]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not a whole shard"):
            ShardReader(path)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(DataError, match="shard version none"):
        ShardReader(path)
    with pytest.raises(DataError, match="there is no shard"):
        ShardReader(tmp_path / "b.arrow")


def test_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.arrow", clips(2), "prep")
    for row in (-1, 2):
        with pytest.raises(DataError, match="has 2 clips"):
            ShardReader(tmp_path / "a.arrow").clip(row)


def test_the_manifest_keeps_its_rows(tmp_path: Path) -> None:
    rows = [ManifestRow("b", "b.mp4", "f", "ok", rms=0.5, shard="s", row=3), ManifestRow("a", "ä.mp4", "", "rejected")]
    write_manifest(tmp_path, rows)
    assert read_manifest(tmp_path) == rows[::-1]
    assert pq.read_table(tmp_path / "manifest.parquet").num_rows == 2


def test_a_folder_without_a_good_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared corpus") as caught:
        Corpus.open(tmp_path)
    assert "orchestrator prepare" in caught.value.hint
    (tmp_path / "manifest.parquet").write_text("text")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path)
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="manifest version none"):
        read_manifest(tmp_path)
    write_manifest(tmp_path, [ManifestRow("a", "a.mp4", "", "rejected", "silent")])
    with pytest.raises(DataError, match="no usable clip among its 1"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize(
    ("source", "speaker"), [("id1/x/1.mp4", "id1"), ("id1/1.mp4", "id1"), ("talk.mp4", "talk"), ("a.b.mp4", "a.b")]
)
def test_the_speaker_is_the_first_folder_or_the_file(source: str, speaker: str) -> None:
    assert speaker_of(source) == speaker


@given(st.sets(st.text(), min_size=2, max_size=40), st.floats(0, 0.99))
def test_splits_share_no_speaker_and_are_never_empty(speakers: set[str], fraction: float) -> None:
    splits = split_speakers(sorted(speakers), fraction)
    assert splits == split_speakers(sorted(speakers, reverse=True), fraction)
    assert splits.keys() == speakers
    count = sum(split == "val" for split in splits.values())
    assert count == min(max(round(fraction * len(speakers)), 1), len(speakers) - 1)


def test_a_single_speaker_trains() -> None:
    assert split_speakers(["anna"], 0.5) == {"anna": "train"}
    assert split_speakers([], 0.5) == {}


def test_a_corpus_orders_its_clips_and_survives_pickling(tmp_path: Path) -> None:
    corpus = fill_corpus(tmp_path, [40, 50, 60], val=1)
    copy = pickle.loads(pickle.dumps(corpus))
    assert [row.clip_id for row in copy.clips()] == ["clip 0", "clip 1", "clip 2"]
    assert [row.clip_id for row in copy.clips("val")] == ["clip 0"]
    assert copy.split("train").lengths == [50, 60]
    assert (copy.fingerprint, copy.frame_shape) == (corpus.fingerprint, (3, 4, 8))


def test_windows_are_views_at_the_right_place(tmp_path: Path) -> None:
    corpus = fill_corpus(tmp_path, [40, 50], val=1)
    clip = corpus.arrays(corpus.clips("train")[0])
    train = corpus.split("train")
    window, mel = train.window(0, 7, 16), train.mel_window(0, 7, 16)
    assert (window.shape, mel.shape) == ((48, 4, 8), (80, 52))
    assert np.shares_memory(window, clip.frames) and np.shares_memory(mel, clip.mel)
    assert np.array_equal(window[3:6], clip.frames[8])
    assert np.array_equal(mel, clip.mel[:, 22:74])
    assert train.mel_window(0, 34, 16).shape == (80, 52)


@pytest.mark.parametrize("start", [-1, 35])
def test_windows_outside_the_clip_are_refused(tmp_path: Path, start: int) -> None:
    train = fill_corpus(tmp_path, [50]).split("train")
    for read in (train.window, train.mel_window):
        with pytest.raises(DataError, match="of clip 0 is frames"):
            read(0, start, 16)


def test_a_mel_that_is_too_short_is_not_padded(tmp_path: Path) -> None:
    train = fill_corpus(tmp_path, [50], missing_columns=2).split("train")
    with pytest.raises(DataError, match="needs mel columns 108 to 160 of 159"):
        train.mel_window(0, 34, 16)


def test_a_shard_with_another_clip_in_the_row_is_noticed(tmp_path: Path) -> None:
    corpus = fill_corpus(tmp_path, [50])
    write_shard(tmp_path / "shards" / "s.arrow", [replace(next(clips(1)), clip_id="stranger")], "prep")
    with pytest.raises(DataError, match="holds stranger, but the manifest says clip 0"):
        corpus.arrays(corpus.clips()[0])
