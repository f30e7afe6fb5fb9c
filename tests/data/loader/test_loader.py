"""The loader: one global order of samples, whatever the ranks, threads and resume points."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.data import AugmentConfig, DataConfig, NegativesConfig
from orchestrator.config.media import mel_columns
from orchestrator.data.corpus import Corpus
from orchestrator.data.loader import TrainLoader
from orchestrator.data.loader.batch import Batch, BatchMemory, collate
from orchestrator.data.loader.shares import micro_batches_of, share_of
from orchestrator.data.manifest import write_manifest
from orchestrator.data.shards import ShardKind
from orchestrator.data.stream import Sample, SampleStream
from orchestrator.data.stream.augment import Augmenter, Changes
from orchestrator.errors import DataError
from orchestrator.storage import open_folder

from ..conftest import ClipArrays, fill_corpus, manifest_row, write_shard

FRAMES = 5
GLOBAL = 8


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return fill_corpus(tmp_path, [9, 40, 25, 33, 60], val=1)


def loader(corpus: Corpus, **options: int) -> TrainLoader:
    stream = SampleStream(corpus.split("train").lengths, FRAMES, seed=3)
    return TrainLoader(corpus, "train", stream, GLOBAL, **{"micro_batch": 3, **options})


def kept(step: list[Batch]) -> list[Batch]:
    """Copies, because a step's batches are valid until the next one is asked for."""
    return [Batch(batch.frames.clone(), batch.mel.clone(), batch.labels.clone(), batch.changes) for batch in step]


def joined(batches: list[Batch]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat([getattr(batch, name) for batch in batches]) for name in ("frames", "mel", "labels"))


def global_steps(corpus: Corpus, steps: int, world_size: int, **options: int) -> list[tuple[torch.Tensor, ...]]:
    """The steps of all ranks put together again."""
    ranks = []
    for rank in range(world_size):
        with loader(corpus, rank=rank, world_size=world_size, **options) as batches:
            ranks.append([kept(step) for step in islice(batches, steps)])
    return [joined([batch for rank in ranks for batch in rank[step]]) for step in range(steps)]


def test_a_batch_holds_the_windows_of_its_samples(corpus: Corpus) -> None:
    train = corpus.split("train")
    batch = collate(train, [Sample(0, 3, 3, 1), Sample(2, 10, 1, 0)], FRAMES)
    assert (batch.frames.shape, batch.frames.dtype) == ((2, 15, 4, 8), torch.uint8)
    assert (batch.mel.shape, batch.mel.dtype) == ((2, 1, 80, 16), torch.float32)
    assert batch.labels.tolist() == [1.0, 0.0] and len(batch) == 2
    assert np.array_equal(batch.frames[1].numpy(), train.window(2, 10, FRAMES))
    assert np.array_equal(batch.mel[1, 0].numpy(), train.mel_window(2, 1, FRAMES))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
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
        assert [len(batch) for batch in next(batches)] == [2, 3, 3]
        assert batches.micro_batches == 3


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 50), st.integers(1, 4))
def test_shares_cover_a_step_once_in_order(units: int, world: int, largest: int, unit: int) -> None:
    units += world
    shares = [share_of(units * unit, rank, world, unit) for rank in range(world)]
    assert [place for share in shares for place in share] == list(range(units * unit))
    assert max(map(len, shares)) - min(map(len, shares)) <= unit
    parts = [micro_batches_of(units * unit, rank, world, max(largest, unit), unit) for rank in range(world)]
    for share, own in zip(shares, parts, strict=True):
        assert [place for part in own for place in part] == list(share)
        assert all(0 < len(part) <= max(largest, unit) and len(part) % unit == 0 for part in own)
        assert len(own) == min(max(map(len, parts)), len(share) // unit)


def test_a_rank_without_a_sample_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="at least 1 for each of the 9 workers, but is 8"):
        loader(corpus, world_size=9)
    with pytest.raises(DataError, match="multiple of 3"):
        loader(corpus, unit=3)


def test_a_stream_of_another_split_is_refused(corpus: Corpus) -> None:
    stream = SampleStream(corpus.split("all").lengths, FRAMES)
    with pytest.raises(DataError, match="not made for the 'train' split"):
        TrainLoader(corpus, "train", stream, GLOBAL, 2)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_while_reading_surfaces_and_closing_still_works(corpus: Corpus, threads: int) -> None:
    corpus.folder.delete("shards/s.arrow")
    with loader(corpus, threads=threads) as batches:
        with pytest.raises(DataError, match="there is no shard"):
            next(batches)
        batches.close()


def test_an_error_belongs_to_its_step_and_the_next_one_comes(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: TrainLoader, positions: range, *memory: object) -> Batch:
        if GLOBAL in positions:
            raise DataError("unreadable", reason="bad_shard")
        return original(self, positions, *memory)  # type: ignore[arg-type]

    original = TrainLoader._read
    monkeypatch.setattr(TrainLoader, "_read", failing)
    with loader(corpus, micro_batch=GLOBAL, threads=1) as batches:
        next(batches)
        with pytest.raises(DataError, match="unreadable"):
            next(batches)
        stream = SampleStream(corpus.split("train").lengths, FRAMES, seed=3)
        samples = [stream.sample(position) for position in range(2 * GLOBAL, 3 * GLOBAL)]
        assert torch.equal(joined(next(batches))[0], collate(corpus.split("train"), samples, FRAMES).frames)


def test_closing_ends_the_threads(corpus: Corpus) -> None:
    before = set(threading.enumerate())
    with loader(corpus, threads=3, prefetch=9) as batches:
        next(batches)
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_no_more_is_read_ahead_than_asked(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[range] = []
    original = TrainLoader._read
    monkeypatch.setattr(TrainLoader, "_read", lambda self, r, *m: (read.append(r), original(self, r, *m))[1])
    with loader(corpus, threads=2, prefetch=5) as batches:
        next(batches)
    assert len(read) <= 3 + 5


def test_waiting_is_counted_by_the_given_clock(corpus: Corpus) -> None:
    ticks = iter(range(100))
    stream = SampleStream(corpus.split("train").lengths, FRAMES)
    batches = TrainLoader(corpus, "train", stream, GLOBAL, 4, threads=0, clock=lambda: float(next(ticks)))
    list(islice(batches, 5))
    assert batches.waited_s == 5.0


@pytest.mark.parametrize("threads", [0, 2])
def test_memory_is_used_again_and_a_step_stays_whole_until_the_next(corpus: Corpus, threads: int) -> None:
    seen: set[int] = set()
    with loader(corpus, threads=threads, prefetch=3) as batches:
        for _ in range(12):
            step = next(batches)
            seen |= {batch.frames.data_ptr() for batch in step}
            before = joined(kept(step))
            time_for_the_readers(batches)
            assert all(map(torch.equal, before, joined(step)))
    assert len(seen) <= 3 + 3


def time_for_the_readers(batches: TrainLoader) -> None:
    """Wait until everything that may be read ahead has been."""
    for future, _ in batches._pending:
        future.result()


@pytest.mark.parametrize("threads", [0, 1])
def test_memory_waits_for_the_work_that_reads_it(corpus: Corpus, threads: int) -> None:
    """The fence stands for a GPU's event: marked when the next step is asked for, awaited before memory is filled."""
    marked: list[int] = []
    awaited: list[int] = []

    def fence() -> Callable[[], None]:
        marked.append(len(marked))
        return partial(awaited.append, marked[-1])

    stream = SampleStream(corpus.split("train").lengths, FRAMES, seed=3)
    with TrainLoader(corpus, "train", stream, GLOBAL, 4, threads=threads, prefetch=2, fence=fence) as batches:
        list(islice(batches, 4))
        time_for_the_readers(batches)
    assert marked == [0, 1, 2]
    assert awaited == [0, 0, 1, 1, 2, 2]  # two micro-batches a step


def test_what_was_ready_is_counted(corpus: Corpus) -> None:
    with loader(corpus, threads=1, prefetch=3) as batches:
        next(batches)
        already = batches.ready
        time_for_the_readers(batches)
        next(batches)
        assert (batches.taken, batches.ready - already) == (6, 3)
    with loader(corpus, threads=0) as batches:
        next(batches)
        assert (batches.taken, batches.ready) == (3, 0)


def test_latents_come_as_they_are_stored(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(30, 4, 2, 3)).astype(np.float16)
    clip = ClipArrays("clip", latents, np.zeros((80, 97), np.float32))
    write_shard(tmp_path / "shards" / "s.arrow", [clip], ShardKind.LATENTS)
    write_manifest(open_folder(tmp_path), [manifest_row(clip, 0)])
    corpus = Corpus.open(tmp_path)
    batch = collate(corpus.split("train"), [Sample(0, 3, 9, 0)], FRAMES)
    assert (batch.frames.shape, batch.frames.dtype) == ((1, 20, 2, 3), torch.float16)
    assert np.array_equal(batch.frames[0].numpy(), latents[3:8].reshape(20, 2, 3))


def test_the_sound_comes_from_its_own_clip(corpus: Corpus) -> None:
    train = corpus.split("train")
    batch = collate(train, [Sample(0, 3, 9, 0, audio_clip=2)], FRAMES)
    assert np.array_equal(batch.frames[0].numpy(), train.window(0, 3, FRAMES))
    assert np.array_equal(batch.mel[0, 0].numpy(), train.mel_window(2, 9, FRAMES))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Five clips of three speakers, with A/V offsets and with silence."""
    folder = tmp_path_factory.mktemp("everything")
    corpus = fill_corpus(folder, [50, 40, 45, 33, 60])
    changes = [
        {"speaker": speaker, "av_offset_s": offset, "speech": np.packbits(heard).tobytes()}
        for speaker, offset, heard in zip(
            "aabbc", (0.0, 0.08, -0.12, 0.0, 0.04), [np.arange(n) % 20 < 13 for n in (50, 40, 45, 33, 60)], strict=True
        )
    ]
    write_manifest(
        open_folder(folder), [replace(row, **change) for row, change in zip(corpus.rows, changes, strict=True)]
    )
    return Corpus.open(folder)


MIXED = DataConfig(
    negatives=NegativesConfig(same_clip=1, near=1, cross_clip=1, cross_speaker=1),
    min_speech=0.6,
    augment=AugmentConfig(flip=0.5, brightness=0.2, contrast=0.2, mel_time=4, mel_bins=9, gain_db=6),
)
mixtures = st.builds(
    lambda *weights: dict(zip(NegativesConfig.model_fields, weights, strict=True)),
    *[st.sampled_from([0.0, 1.0, 3.0])] * 4,
).filter(lambda weights: any(weights.values()))


@given(
    world_size=st.sampled_from([1, 2, 3, 8]),
    threads=st.sampled_from([0, 1, 4]),
    stop=st.integers(0, 30),
    seed=st.integers(0, 2**64 - 1),
    weights=mixtures,
    min_speech=st.sampled_from([0.0, 0.6]),
)
@settings(max_examples=40, deadline=None)
def test_the_global_sequence_depends_on_nothing_but_settings_and_seed(
    everything: Corpus,
    world_size: int,
    threads: int,
    stop: int,
    seed: int,
    weights: dict[str, float],
    min_speech: float,
) -> None:
    """Any mixture, offsets, silence and augmentation; a run that is stopped at any step goes on where it was."""
    data = MIXED.model_copy(update={"negatives": NegativesConfig(**weights), "min_speech": min_speech})
    table, size = everything.split("train").table, 24
    whole = read_with(everything, SampleStream(table, FRAMES, data, seed=seed), data, stop * size, 2 * size)
    parts: list[list[Batch]] = [[], []]
    for rank in range(world_size):
        with TrainLoader(
            everything,
            "train",
            SampleStream(table, FRAMES, data, seed=seed),
            size,
            5,
            rank,
            world_size,
            start_position=stop * size,
            threads=threads,
            augmenter=Augmenter(data.augment, mel_columns(FRAMES), seed),
        ) as batches:
            for part, step in zip(parts, batches, strict=False):
                part += kept(step)
    for found, expected in zip(joined(parts[0] + parts[1]), joined([whole]), strict=True):
        assert torch.equal(found, expected)
    for name in ("flip", "line", "gain", "columns", "bins"):
        found = torch.cat([getattr(batch.changes, name) for batch in parts[0] + parts[1]])
        assert torch.equal(found, getattr(whole.changes, name))


def read_with(corpus: Corpus, stream: SampleStream, data: DataConfig, first: int, number: int) -> Batch:
    """The stream's samples without any loader."""
    positions = range(first, first + number)
    samples = [stream.sample(position) for position in positions]
    changes: Changes = Augmenter(data.augment, mel_columns(FRAMES), stream.seed).changes(positions)
    return BatchMemory.of(corpus.split("train"), number, FRAMES).fill(corpus.split("train"), samples, changes)
