"""Batches for one worker: the stream's samples copied once from the memory map into tensors, read ahead by threads.

Promises: a global step of G samples is positions [p, p + G) of the stream whatever the world size, threads or resume
point, and rank r of W takes its r-th W-th part; an error while reading surfaces in the consumer at the step it
belongs to; at most `prefetch` micro-batches (and never less than one step) are read ahead.
"""

# B samples, T frames, H W pixels, L mel columns

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from orchestrator.config.media import N_MELS, mel_columns
from orchestrator.data.corpus import Corpus, CorpusSplit, SplitName
from orchestrator.data.stream import Sample, SampleStream
from orchestrator.errors import DataError


@dataclass(frozen=True)
class Batch:
    """One micro-batch, as stored: the model's side normalises the pixels."""

    frames: Tensor
    """uint8 `(B, T * 3, H, W)`."""
    mel: Tensor
    """float32 `(B, 1, 80, L)`."""
    labels: Tensor
    """float32 `(B,)`: 1 in sync, 0 out of sync."""

    def __len__(self) -> int:
        return self.labels.shape[0]


def collate(clips: CorpusSplit, samples: Sequence[Sample], num_frames: int, *, pin_memory: bool = False) -> Batch:
    """Copy the windows of `samples` into a new batch.

    Args:
        clips: the split whose clip indices the samples use.
        samples: at least one.
        num_frames: video frames per window.
        pin_memory: page-locked tensors, for asynchronous copies to a GPU.
    """
    size, (_, height, width) = len(samples), clips.corpus.frame_shape
    frames = torch.empty((size, num_frames * 3, height, width), dtype=torch.uint8, pin_memory=pin_memory)
    mel = torch.empty((size, 1, N_MELS, mel_columns(num_frames)), pin_memory=pin_memory)
    for place, sample in enumerate(samples):
        np.copyto(frames[place].numpy(), clips.window(sample.clip, sample.frame_start, num_frames))
        np.copyto(mel[place, 0].numpy(), clips.mel_window(sample.clip, sample.audio_start, num_frames))
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.float32, pin_memory=pin_memory)
    return Batch(frames, mel, labels)


class TrainLoader:
    """An endless iterator of optimizer steps; each is the list of this rank's micro-batches. Use it in a `with`.

    Args:
        corpus: the prepared corpus.
        split: which of its splits the stream was made for.
        stream: the sample stream.
        global_batch: samples per step over all ranks; must be a multiple of `world_size`.
        micro_batch: most samples in one batch.
        rank: this worker, in [0, world_size).
        world_size: number of workers.
        start_position: stream position of the first step, `steps done * global_batch` after a resume.
        threads: reading threads; 0 reads in the consumer.
        prefetch: micro-batches read ahead; a whole step is always read ahead.
        pin_memory: as in `collate`.
        clock: monotonic seconds, for `waited_s`.

    Raises:
        DataError: `bad_batch` when the global batch cannot be divided, `bad_stream` when the stream is another split's.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: SplitName,
        stream: SampleStream,
        global_batch: int,
        micro_batch: int,
        rank: int = 0,
        world_size: int = 1,
        start_position: int = 0,
        threads: int = 1,
        prefetch: int = 4,
        *,
        pin_memory: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clips, self._stream = corpus.split(split), stream
        self._global_batch, self._micro_batch = global_batch, micro_batch
        self._rank, self._world_size, self._start = rank, world_size, start_position
        self._pin_memory, self._clock = pin_memory, clock
        self._check()
        self.micro_batches = -(-(global_batch // world_size) // micro_batch)
        """Micro-batches per step of this rank."""
        self.waited_s = 0.0
        """Seconds that the consumer has waited for batches so far."""
        self._ahead = max(prefetch, self.micro_batches)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader") if threads else None
        self._todo = self._ranges()
        self._pending: deque[Future[Batch]] = deque()

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def __next__(self) -> list[Batch]:
        began = self._clock()
        step = [self._next_batch() for _ in range(self.micro_batches)]
        self.waited_s += self._clock() - began
        return step

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading ahead and end the threads. May be called twice."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def _check(self) -> None:
        if self._global_batch % self._world_size:
            message = f"the global batch must be a multiple of the {self._world_size} workers, but is"
            hint = f"use {-(-self._global_batch // self._world_size) * self._world_size}, or another number of workers"
            raise DataError(f"{message} {self._global_batch}", reason="bad_batch", hint=hint)
        if self._stream.clip_lengths != tuple(self._clips.lengths):
            message = (
                f"the sample stream was not made for the {self._clips.name!r} split of {self._clips.corpus.folder}"
            )
            raise DataError(message, reason="bad_stream", hint="make it from corpus.split(...).lengths")

    def _ranges(self) -> Iterator[range]:
        """The stream positions of this rank's micro-batches, without end."""
        share = self._global_batch // self._world_size
        for position in count(self._start + self._rank * share, self._global_batch):
            for first in range(position, position + share, self._micro_batch):
                yield range(first, min(first + self._micro_batch, position + share))

    def _next_batch(self) -> Batch:
        if self._pool is None:
            return self._read(next(self._todo))
        # Only the consumer submits work, so the queue is bounded and ordered without any lock of its own.
        while len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._read, next(self._todo)))
        batch = self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._read, next(self._todo)))
        return batch

    def _read(self, positions: range) -> Batch:
        samples = [self._stream.sample(position) for position in positions]
        return collate(self._clips, samples, self._stream.num_frames, pin_memory=self._pin_memory)
