"""Scores of validation pairs: what is stored comes back with its pairs, and what does not fit them is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.pairs import evaluation_pairs, pairs_table, to_parquet
from orchestrator.data.corpus.scores import pack_scores, read_scores, scores_bytes, write_scores
from orchestrator.errors import DataError

from ..conftest import fill_corpus

COSINES = np.linspace(-1, 1, 20, dtype=np.float32) / 3


@pytest.fixture
def pair_list(tmp_path: Path) -> Path:
    """The stored list of 20 pairs of a corpus with three clips for validation."""
    clips = Corpus.open(fill_corpus(tmp_path / "corpus", [40, 25, 33, 60], val=3).folder.uri).split("val")
    path = tmp_path / "val.parquet"
    path.write_bytes(to_parquet(pairs_table(evaluation_pairs(clips.table, 5, 20), clips, 5)))
    return path


def hash_of(pair_list: Path) -> str:
    return pq.read_schema(pair_list).metadata[b"syncnet.pairs_hash"].decode()


def test_scores_come_back_beside_their_pairs(pair_list: Path, tmp_path: Path) -> None:
    packed = json.loads(json.dumps(pack_scores(7, hash_of(pair_list), COSINES)))
    path = tmp_path / "best.parquet"
    path.write_bytes(scores_bytes(pair_list, packed))
    kept, listed = read_scores(path), pq.read_table(pair_list)
    assert (kept.step, kept.pairs_hash) == (7, hash_of(pair_list))
    assert kept.cosines.dtype == np.float32 and np.array_equal(kept.cosines, COSINES)
    assert kept.clips.tolist() == listed.column("clip_id").to_pylist() and len(set(kept.clips)) == 3
    assert kept.labels.tolist() == listed.column("label").to_pylist()
    assert pq.read_table(path).drop_columns("cosine").equals(listed), "the rows are those of the list"
    write_scores(tmp_path / "deep" / "again.parquet", listed, packed)
    assert (tmp_path / "deep" / "again.parquet").read_bytes() == path.read_bytes()


def test_scores_of_other_pairs_are_refused(pair_list: Path) -> None:
    for packed in (pack_scores(7, "f" * 64, COSINES), pack_scores(7, hash_of(pair_list), COSINES[:-1])):
        with pytest.raises(DataError, match="do not fit the 20 pairs") as caught:
            scores_bytes(pair_list, packed)
        assert caught.value.reason == "other_pairs"


def test_a_list_without_scores_is_no_file_of_scores(pair_list: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a pair list with cosine"):
        read_scores(pair_list)
    with pytest.raises(DataError, match="there is no pair list"):
        read_scores(tmp_path / "nowhere")
