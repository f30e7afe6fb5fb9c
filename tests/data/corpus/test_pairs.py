"""The fixed validation pairs: how they are drawn, what their hash covers, and the list that is stored."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.data import DataConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.pairs import clip_names, evaluation_pairs, pairs_hash, read_pairs, write_pairs
from orchestrator.data.stream import ClipTable, Sample
from orchestrator.errors import DataError

from ..conftest import fill_corpus

FRAMES = 5
lengths = st.lists(st.integers(1, 400), min_size=1, max_size=60)
seeds = st.integers(0, 2**64 - 1)


@given(lengths, st.integers(2, 300), seeds)
def test_evaluation_pairs_are_fixed_balanced_and_spread(clip_lengths: list[int], count: int, seed: int) -> None:
    clip_lengths = [*clip_lengths, 100]
    pairs = evaluation_pairs(clip_lengths, 16, count, seed=seed)
    assert pairs == evaluation_pairs(clip_lengths, 16, count, seed=seed)
    assert len(pairs) == count // 2 * 2
    positives, negatives = pairs[::2], pairs[1::2]
    for positive, negative in zip(positives, negatives, strict=True):
        assert (positive.clip, positive.frame_start) == (negative.clip, negative.frame_start)
        assert (positive.label, negative.label) == (1, 0)
        assert positive.audio_start == positive.frame_start
        assert abs(negative.audio_start - negative.frame_start) >= 16
        assert 0 <= negative.audio_start <= clip_lengths[negative.clip] - 16
    usable = [clip for clip, length in enumerate(clip_lengths) if length >= 32]
    per_clip = Counter(pair.clip for pair in positives)
    assert max(per_clip.values()) - min(per_clip[clip] for clip in usable) <= 1


def test_evaluation_pairs_of_one_clip_differ() -> None:
    pairs = evaluation_pairs([75], 16, 400)
    assert len(set(pairs[1::2])) == 200


def test_the_hash_covers_pairs_clips_and_preparation() -> None:
    pairs = evaluation_pairs([75, 80], 16, 8)
    known = pairs_hash(pairs, ["a", "b"], "p")
    assert known == pairs_hash(list(pairs), ["a", "b"], "p")
    others = [pairs_hash(pairs[2:], ["a", "b"], "p"), pairs_hash(pairs, ["a", "c"], "p"), pairs_hash(pairs, ["a", "b"])]
    assert known not in others


def test_evaluation_pairs_never_change_between_versions() -> None:
    """Known values: another result would make every figure incomparable with those before."""
    pairs = evaluation_pairs([75, 200, 33, 31, 128], 16, 8)
    assert [(pair.clip, pair.frame_start, pair.audio_start) for pair in pairs[1::2]] == GOLDEN
    assert pairs_hash(evaluation_pairs([75, 80], 16, 8), ["a", "b"], "p").startswith("eadd6cc96b53c1c3790aa3509eea85b2")


def test_evaluation_pairs_keep_to_what_is_usable_and_spoken() -> None:
    heard = bytes([0, 255, 255, 255, 255, 255, 255, 0] * 2)
    table = ClipTable.of([100, 90], firsts=[20, 0], speech=[heard, heard])
    pairs = evaluation_pairs(table, 8, 200, DataConfig(min_speech=1.0))
    for pair in pairs:
        for start in (pair.frame_start, pair.audio_start):
            assert start >= (20, 0)[pair.clip]
            assert all(8 <= frame % 64 < 56 for frame in range(start, start + 8))
    assert {pair.clip for pair in pairs} == {0, 1}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return fill_corpus(tmp_path / "corpus", [40, 25, 33, 60], val=3)


def stored(corpus: Corpus, path: Path, count: int = 20) -> tuple[Path, list[Sample]]:
    clips = corpus.split("val")
    pairs = evaluation_pairs(clips.table, FRAMES, count)
    write_pairs(path, pairs, clips, FRAMES)
    return path, pairs


def test_a_stored_list_comes_back(corpus: Corpus, tmp_path: Path) -> None:
    path, pairs = stored(corpus, tmp_path / "deep" / "pairs.parquet")
    assert read_pairs(path, corpus.split("val"), FRAMES) == pairs
    table = pq.read_table(path)
    assert table.column_names == ["clip_id", "frame_start", "audio_start", "label"] and len(table) == 20
    known = pairs_hash(pairs, clip_names(corpus.split("val")), corpus.preparation)
    assert table.schema.metadata[b"syncnet.pairs_hash"].decode() == known


def test_a_stored_list_finds_its_clips_under_other_indices(corpus: Corpus, tmp_path: Path) -> None:
    path, pairs = stored(corpus, tmp_path / "pairs.parquet")
    clips = corpus.split("all")
    again = read_pairs(path, clips, FRAMES)
    assert [clips.clip_ids[pair.clip] for pair in again] == [corpus.split("val").clip_ids[pair.clip] for pair in pairs]


def test_a_list_of_other_clips_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path, _ = stored(corpus, tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match=r"names 3 clips that the 'train' split .* does not hold") as caught:
        read_pairs(path, corpus.split("train"), FRAMES)
    assert caught.value.reason == "other_pairs"


def test_a_list_for_another_window_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path, _ = stored(corpus, tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match="windows of 5 frames, but the network reads 16"):
        read_pairs(path, corpus.split("val"), 16)


def test_a_list_that_cannot_be_written_is_one_message(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written") as caught:
        write_pairs(tmp_path / "file" / "pairs.parquet", [Sample(1, 0, 21, 0)], corpus.split("val"), FRAMES)
    assert caught.value.reason == "not_written"


def test_a_window_outside_of_its_clip_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    clips = corpus.split("val")
    write_pairs(tmp_path / "pairs.parquet", [Sample(1, 0, 21, 0)], clips, FRAMES)
    with pytest.raises(DataError, match="has a window outside of clip 1"):
        read_pairs(tmp_path / "pairs.parquet", clips, FRAMES)


def test_a_changed_list_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path, _ = stored(corpus, tmp_path / "pairs.parquet")
    table = pq.read_table(path)
    starts = pa.array([start + 1 for start in table.column("audio_start").to_pylist()], pa.int32())
    pq.write_table(table.set_column(2, table.schema.field(2), starts), path)
    refused(corpus, path, "its hash does not agree with its rows")
    pq.write_table(table.replace_schema_metadata({}), path)
    refused(corpus, path, "is not a pair list")
    newer = {**table.schema.metadata, b"syncnet.pairs_version": b"9"}
    pq.write_table(table.replace_schema_metadata(newer), path)
    refused(corpus, path, "has version 9, but this version reads 1")
    path.write_bytes(path.read_bytes()[:100])
    refused(corpus, path, "cannot be read")


def refused(corpus: Corpus, path: Path, why: str) -> None:
    with pytest.raises(DataError, match=re.escape(why)) as caught:
        read_pairs(path, corpus.split("val"), FRAMES)
    assert caught.value.reason == "bad_pairs"


def test_a_missing_list_is_named(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no pair list .*nowhere"):
        read_pairs(tmp_path / "nowhere", corpus.split("val"), FRAMES)


GOLDEN = [(0, 5, 49), (1, 22, 126), (2, 0, 17), (4, 42, 19)]
