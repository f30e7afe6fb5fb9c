"""The loader: one global order of samples, whatever the ranks, threads and resume points."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.data.corpus import Corpus
from orchestrator.data.loader import Batch, TrainLoader, collate
from orchestrator.data.stream import Sample, SampleStream
from orchestrator.errors import DataError

from .conftest import fill_corpus

FRAMES = 5
GLOBAL = 8


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return fill_corpus(tmp_path, [9, 40, 25, 33, 60], val=1)


def loader(corpus: Corpus, **options: int) -> TrainLoader:
    stream = SampleStream(corpus.split("train").lengths, FRAMES, seed=3)
    return TrainLoader(corpus, "train", stream, GLOBAL, **{"micro_batch": 3, **options})


def joined(batches: list[Batch]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat([getattr(batch, name) for batch in batches]) for name in ("frames", "mel", "labels"))


def global_steps(corpus: Corpus, steps: int, world_size: int, **options: int) -> list[tuple[torch.Tensor, ...]]:
    """The steps of all ranks put together again."""
    ranks = []
    for rank in range(world_size):
        with loader(corpus, rank=rank, world_size=world_size, **options) as batches:
            ranks.append(list(islice(batches, steps)))
    return [joined([batch for rank in ranks for batch in rank[step]]) for step in range(steps)]


def test_a_batch_holds_the_windows_of_its_samples(corpus: Corpus) -> None:
    train = corpus.split("train")
    batch = collate(train, [Sample(0, 3, 3, 1), Sample(2, 10, 1, 0)], FRAMES)
    assert (batch.frames.shape, batch.frames.dtype) == ((2, 15, 4, 8), torch.uint8)
    assert (batch.mel.shape, batch.mel.dtype) == ((2, 1, 80, 16), torch.float32)
    assert batch.labels.tolist() == [1.0, 0.0] and len(batch) == 2
    assert np.array_equal(batch.frames[1].numpy(), train.window(2, 10, FRAMES))
    assert np.array_equal(batch.mel[1, 0].numpy(), train.mel_window(2, 1, FRAMES))


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("threads", [0, 2])
def test_the_global_sequence_is_always_the_same(corpus: Corpus, world_size: int, threads: int) -> None:
    stream = SampleStream(corpus.split("train").lengths, FRAMES, seed=3)
    samples = [stream.sample(position) for position in range(4 * GLOBAL)]
    whole = collate(corpus.split("train"), samples, FRAMES)
    resumed = global_steps(corpus, 1, world_size, threads=threads)
    resumed += global_steps(corpus, 3, world_size, threads=threads, start_position=GLOBAL, prefetch=1)
    for step, tensors in enumerate(resumed):
        place = slice(step * GLOBAL, (step + 1) * GLOBAL)
        for found, expected in zip(tensors, (whole.frames, whole.mel, whole.labels), strict=True):
            assert torch.equal(found, expected[place])


def test_micro_batches_divide_a_rank_s_share(corpus: Corpus) -> None:
    with loader(corpus, micro_batch=3, world_size=1) as batches:
        assert [len(batch) for batch in next(batches)] == [3, 3, 2]
        assert batches.micro_batches == 3


def test_an_indivisible_batch_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="multiple of the 3 workers, but is 8") as caught:
        loader(corpus, world_size=3)
    assert "use 9" in caught.value.hint


def test_a_stream_of_another_split_is_refused(corpus: Corpus) -> None:
    stream = SampleStream(corpus.split("all").lengths, FRAMES)
    with pytest.raises(DataError, match="not made for the 'train' split"):
        TrainLoader(corpus, "train", stream, GLOBAL, 2)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_while_reading_surfaces_and_closing_still_works(corpus: Corpus, threads: int) -> None:
    (corpus.folder / "shards" / "s.arrow").unlink()
    with loader(corpus, threads=threads) as batches:
        with pytest.raises(DataError, match="there is no shard"):
            next(batches)
        batches.close()


def test_closing_ends_the_threads(corpus: Corpus) -> None:
    before = set(threading.enumerate())
    with loader(corpus, threads=3, prefetch=9) as batches:
        next(batches)
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_no_more_is_read_ahead_than_asked(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[range] = []
    original = TrainLoader._read
    monkeypatch.setattr(TrainLoader, "_read", lambda self, r: (read.append(r), original(self, r))[1])
    with loader(corpus, threads=2, prefetch=5) as batches:
        next(batches)
    assert len(read) <= 3 + 5


def test_waiting_is_counted_by_the_given_clock(corpus: Corpus) -> None:
    ticks = iter(range(100))
    stream = SampleStream(corpus.split("train").lengths, FRAMES)
    batches = TrainLoader(corpus, "train", stream, GLOBAL, 4, threads=0, clock=lambda: float(next(ticks)))
    list(islice(batches, 5))
    assert batches.waited_s == 5.0
