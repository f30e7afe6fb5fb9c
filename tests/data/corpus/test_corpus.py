"""Manifest, splits and the corpus: windows at the right place, and damage that is noticed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.media import mel_columns, mel_start
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.cache import CACHE_VARIABLE
from orchestrator.data.corpus.corpus import usable_frames
from orchestrator.data.manifest import ManifestRow, read_manifest, write_manifest
from orchestrator.data.prepare.splits import split_speakers
from orchestrator.data.shards import ShardKind
from orchestrator.errors import DataError
from orchestrator.storage import open_folder

from ..conftest import fill_corpus, invent_clips, manifest_row, write_shard


def test_the_manifest_keeps_its_rows(tmp_path: Path) -> None:
    good = ManifestRow(
        "b", "b.mp4", "f", "ok", rms=0.5, shard="s", row=3, rows=2, av_offset_s=-0.08, speech=b"\xf0\x00"
    )
    rows = [good, ManifestRow("a", "ä.mp4", "", "rejected")]
    write_manifest(open_folder(tmp_path), rows)
    assert read_manifest(open_folder(tmp_path)) == rows[::-1]
    assert pq.read_table(tmp_path / "manifest.parquet").num_rows == 2


def test_a_folder_without_a_good_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared corpus") as caught:
        Corpus.open(tmp_path)
    assert "orchestrator prepare" in caught.value.hint
    (tmp_path / "manifest.parquet").write_text("text")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(open_folder(tmp_path))
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="has version none"):
        read_manifest(open_folder(tmp_path))
    write_manifest(open_folder(tmp_path), [ManifestRow("a", "a.mp4", "", "rejected", "silent")])
    with pytest.raises(DataError, match="no usable clip among its 1"):
        Corpus.open(tmp_path)
    path = tmp_path / "manifest.parquet"
    path.write_bytes(path.read_bytes().replace(b"silent", b"silenu", 1))  # one bit, in the first page that has it
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(open_folder(tmp_path))


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
    written = invent_clips([40, 50])[1]
    train = corpus.split("train")
    window, mel = train.window(0, 7, 16), train.mel_window(0, 7, 16)
    assert (window.shape, mel.shape) == ((48, 4, 8), (80, 52))
    assert not window.flags.owndata and not window.flags.writeable and not mel.flags.owndata
    assert np.array_equal(window[3:6], written.frames[8])
    assert np.array_equal(mel, written.mel[:, 22:74])
    assert train.mel_window(0, 34, 16).shape == (80, 52)
    assert (corpus.kind, corpus.dtype) == (ShardKind.RAW, np.uint8)


def test_a_window_is_read_into_given_memory(tmp_path: Path) -> None:
    train = fill_corpus(tmp_path, [50]).split("train")
    out = np.zeros((2, 48, 4, 8), dtype=np.uint8)
    train.read_window(0, 7, 16, out[1])
    assert np.array_equal(out[1], train.window(0, 7, 16)) and not out[0].any()
    for wrong in (out[1, :45], out[1].transpose(0, 2, 1), out[1].astype(np.float32)):
        with pytest.raises(DataError, match="needs"):
            train.read_window(0, 7, 16, wrong)


@pytest.mark.parametrize(("offset_s", "columns"), [(0.08, 6), (-0.08, -6), (0.0125, 1), (0.004, 0), (0.26, 21)])
def test_the_sound_is_taken_where_the_clip_s_offset_puts_it(tmp_path: Path, offset_s: float, columns: int) -> None:
    fill_corpus(tmp_path, [50])
    clip = invent_clips([50])[0]
    write_manifest(open_folder(tmp_path), [manifest_row(clip, 0, av_offset_s=offset_s)])
    train = Corpus.open(tmp_path).split("train")
    assert np.array_equal(train.mel_window(0, 10, 5), clip.mel[:, 32 + columns : 48 + columns])
    outside = 45 if columns > 0 else 1
    if columns not in (0, 1):
        with pytest.raises(DataError, match="needs mel columns"):
            train.mel_window(0, outside, 5)


def test_another_offset_is_another_corpus(tmp_path: Path) -> None:
    before = fill_corpus(tmp_path, [50]).fingerprint
    write_manifest(open_folder(tmp_path), [manifest_row(invent_clips([50])[0], 0, av_offset_s=0.04)])
    assert Corpus.open(tmp_path).fingerprint != before


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_id": "stranger"}, "holds clip 0 with 50 frames, but the manifest says stranger, 50"),
        ({"num_frames": 49}, "holds clip 0 with 50 frames, but the manifest says clip 0, 49"),
        ({"preparation": "other"}, "was prepared as prep, but the manifest says other"),
        ({"row": 1}, "has 1 rows, but row 1"),
        ({"shard": "shards/t.arrow"}, "there is no shard"),
    ],
)
def test_a_shard_that_is_not_the_manifest_s_is_noticed(tmp_path: Path, changes: dict, message: str) -> None:
    fill_corpus(tmp_path, [50])
    clip = invent_clips([50])[0]
    write_manifest(open_folder(tmp_path), [replace(manifest_row(clip, 0), **changes)])
    with pytest.raises(DataError, match=message):
        Corpus.open(tmp_path).split("train").window(0, 0, 16)


def test_a_clip_of_several_rows_is_one_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.data.shards.writer.PART_FRAMES", 512)
    clip = invent_clips([1100])[0]
    assert write_shard(tmp_path / "shards" / "s.arrow", [clip]) == 3
    write_manifest(open_folder(tmp_path), [manifest_row(clip, 0, rows=3)])
    train = Corpus.open(tmp_path).split("train")
    for start in (0, 500, 1015, 1084):
        assert np.array_equal(train.window(0, start, 16), clip.frames[start : start + 16].reshape(48, 4, 8))
        assert np.array_equal(train.mel_window(0, start, 16), clip.mel[:, start * 16 // 5 :][:, :52])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(-30, 30), st.integers(1, 8))
def test_every_window_of_the_usable_frames_has_its_sound(length: int, columns: int, num_frames: int) -> None:
    row = ManifestRow("a", "a", "", "ok", num_frames=length, av_offset_s=columns / 80)
    first, count = usable_frames(row)
    total = mel_start(length) + 1  # what `log_mel` gives

    def fits(start: int, size: int) -> bool:
        return mel_start(start) + columns >= 0 and mel_start(start) + columns + mel_columns(size) <= total

    assert first >= 0 and first + count <= length
    assert all(fits(start, num_frames) for start in range(first, first + count - num_frames + 1))
    if count:  # and at most one frame is left out that could have been used
        end = first + count + 2
        assert first == 0 or not fits(first - 1, 1)
        assert end > length or not all(fits(start, end - start) for start in range(first, end))


def test_the_table_of_a_split_has_its_speakers_and_its_speech(tmp_path: Path) -> None:
    clips = invent_clips([50, 40, 50])
    write_shard(tmp_path / "shards" / "s.arrow", clips)
    heard = np.arange(50) % 7 == 0
    rows = [
        manifest_row(clips[0], 0, speaker="anna", speech=np.packbits(heard).tobytes(), av_offset_s=0.12),
        manifest_row(clips[1], 1, speaker="bert"),
        manifest_row(clips[2], 2, speaker="anna", speech=np.packbits(heard).tobytes()),
    ]
    write_manifest(open_folder(tmp_path), rows)
    table = Corpus.open(tmp_path).split("all").table
    assert (table.firsts.tolist(), table.lengths.tolist()) == ([0, 0, 0], [47, 40, 50])
    assert table.speakers[0] == table.speakers[2] != table.speakers[1]
    assert table.speech is not None
    assert table.speech.clip(0, 0, 47).tolist() == heard[3:].tolist()  # the sound of frame 3 belongs to picture 0
    assert table.speech.clip(2, 0, 50).tolist() == heard.tolist()


def test_a_corpus_without_speech_bits_says_so(tmp_path: Path) -> None:
    assert fill_corpus(tmp_path, [50]).split("all").table.speech is None


def test_a_compact_corpus_reads_the_same_from_its_shards_and_from_the_node_s_cache(tmp_path: Path) -> None:
    clips = invent_clips([40, 50], shape=(3, 32, 32))
    write_shard(tmp_path / "corpus" / "shards" / "s.arrow", clips, ShardKind.COMPACT)
    write_manifest(open_folder(tmp_path / "corpus"), [manifest_row(clip, row) for row, clip in enumerate(clips)])
    compact = Corpus.open(tmp_path / "corpus")
    cached = pickle.loads(pickle.dumps(Corpus.open(str(tmp_path / "corpus"), tmp_path / "node")))
    assert (compact.kind, cached.kind) == (ShardKind.COMPACT, ShardKind.RAW)
    assert cached.fingerprint == compact.fingerprint
    for clip, start in ((0, 3), (1, 34)):
        one, other = (corpus.split("all").window(clip, start, 16) for corpus in (compact, cached))
        assert np.array_equal(one, other) and not np.array_equal(one, clips[clip].frames[start : start + 16])
        assert np.array_equal(
            cached.split("all").mel_window(clip, start, 16), clips[clip].mel[:, start * 16 // 5 :][:, :52]
        )
    assert list((tmp_path / "node").rglob("raw.arrow"))


def test_a_corpus_in_object_storage_is_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "node"))
    local = fill_corpus(tmp_path / "corpus", [40, 50])
    place = f"memory://corpora/{tmp_path.name}"
    remote = open_folder(place)
    for entry in local.folder.entries():
        with remote.writer(entry.name) as file:
            file.write(local.folder.read(entry.name))
    corpus = Corpus.open(place)
    assert corpus.fingerprint == local.fingerprint
    assert np.array_equal(corpus.split("all").window(1, 3, 16), local.split("all").window(1, 3, 16))
    with pytest.raises(DataError, match="not a prepared corpus"):
        Corpus.open(f"{place}/nowhere")
