"""Batches for one worker: the stream's samples copied once into reused memory, read ahead by threads.

Promises: a global step of G samples is positions [p, p + G) of the stream whatever the world size, threads or resume
point, and rank r of W takes the r-th of W parts (`shares.py`); an error while reading surfaces in the consumer at the
step it belongs to; at most `prefetch` micro-batches (and never less than one step) are read ahead.
A step's batches are valid until the next step is asked for: then their memory is filled anew, on a GPU after the work
that was queued until then has read it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

import torch

from orchestrator.data.corpus import Corpus, SplitName
from orchestrator.data.loader.batch import Batch as Batch
from orchestrator.data.loader.batch import BatchMemory
from orchestrator.data.loader.batch import collate as collate
from orchestrator.data.loader.shares import micro_batches_of
from orchestrator.data.stream import SampleStream
from orchestrator.data.stream.augment import Augmenter
from orchestrator.errors import DataError

Fence = Callable[[], Callable[[], None]]
"""Marks the work that is queued now, and gives what waits until it is done."""


class TrainLoader:
    """An endless iterator of optimizer steps; each is the list of this rank's micro-batches. Use it in a `with`.

    Args:
        corpus: the prepared corpus.
        split: which of its splits the stream was made for.
        stream: the sample stream.
        global_batch: samples per step over all ranks; at least one unit for each.
        micro_batch: most samples in one batch.
        rank: this worker, in [0, world_size).
        world_size: number of workers.
        start_position: stream position of the first step, `steps done * global_batch` after a resume.
        threads: reading threads; 0 reads in the consumer.
        prefetch: micro-batches read ahead; a whole step is always read ahead.
        unit: samples that stay together on one rank and in one micro-batch.
        augmenter: draws what is to be done to each sample; none does nothing.
        pin_memory: page-locked memory, for asynchronous copies to a GPU; the next step must then be asked for on the
            stream on which the copies are made.
        clock: monotonic seconds, for `waited_s`.
        fence: marks the work that still reads a step's batches; by default that of the current stream of a GPU.

    Raises:
        DataError: `bad_batch` when there are more ranks than units, `bad_stream` when the stream is another split's.
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
        unit: int = 1,
        augmenter: Augmenter | None = None,
        pin_memory: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        fence: Fence | None = None,
    ) -> None:
        self._clips, self._stream, self._augmenter = corpus.split(split), stream, augmenter
        self._global_batch, self._start = global_batch, start_position
        self._clock = clock
        self._fence = fence or (_gpu_fence if pin_memory and torch.cuda.is_available() else None)
        self._check(world_size, unit)
        self._parts = micro_batches_of(global_batch, rank, world_size, micro_batch, unit)
        self.micro_batches = len(self._parts)
        """Micro-batches per step of this rank."""
        self.waited_s = 0.0
        """Seconds that the consumer has waited for batches so far."""
        self.taken = 0
        """Micro-batches that the consumer has asked for so far."""
        self.ready = 0
        """How many of them were there already when it asked."""
        self._ahead = max(prefetch, self.micro_batches) if threads else 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader") if threads else None
        self._todo = self._ranges()
        self._pending: deque[tuple[Future[Batch], BatchMemory]] = deque()
        self._held: list[BatchMemory] = []
        self._free: deque[tuple[BatchMemory, Callable[[], None] | None]] = deque()
        self._make_memory = partial(
            BatchMemory.of, self._clips, max(map(len, self._parts)), stream.num_frames, pin=pin_memory
        )

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def __next__(self) -> list[Batch]:
        began = self._clock()
        self._take_back()
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

    def _check(self, world_size: int, unit: int) -> None:
        if self._global_batch < world_size * unit or self._global_batch % unit:
            needed = f"must be a multiple of {unit}, and at least {unit} for each of the {world_size} workers"
            message = f"the global batch {needed}, but is {self._global_batch}"
            raise DataError(message, reason="bad_batch", hint="use a larger batch, or fewer workers")
        if not self._stream.table.same_windows(self._clips.table):
            name = self._clips.corpus.name
            message = f"the sample stream was not made for the {self._clips.name!r} split of {name}"
            raise DataError(message, reason="bad_stream", hint="make it from corpus.split(...).table")

    def _ranges(self) -> Iterator[range]:
        """The stream positions of this rank's micro-batches, without end."""
        for position in count(self._start, self._global_batch):
            for part in self._parts:
                yield range(position + part.start, position + part.stop)

    def _take_back(self) -> None:
        """The memory of the step before may be filled again, once what is queued now has read it."""
        if not self.taken:  # made when it is needed, so that a corpus that cannot be read fails at its first step
            self._free.extend((self._make_memory(), None) for _ in range(self._ahead + self.micro_batches))
        wait = self._fence() if self._fence and self._held else None
        self._free.extend((memory, wait) for memory in self._held)
        self._held = []

    def _next_batch(self) -> Batch:
        self.taken += 1
        if self._pool is None:
            memory, wait = self._free.popleft()
            self._held.append(memory)
            return self._read(next(self._todo), memory, wait)
        self._read_ahead(self._pool)
        future, memory = self._pending.popleft()
        self.ready += future.done()
        self._held.append(memory)
        self._read_ahead(self._pool)
        return future.result()

    def _read_ahead(self, pool: ThreadPoolExecutor) -> None:
        # only the consumer submits work, so the queue is bounded and ordered without any lock of its own
        while len(self._pending) < self._ahead:
            memory, wait = self._free.popleft()
            self._pending.append((pool.submit(self._read, next(self._todo), memory, wait), memory))

    def _read(self, positions: range, memory: BatchMemory, wait: Callable[[], None] | None) -> Batch:
        """Fill the memory with the samples at these positions, when nobody reads it any more."""
        samples = [self._stream.sample(position) for position in positions]
        changes = self._augmenter.changes(positions) if self._augmenter else None
        if wait is not None:
            wait()
        return memory.fill(self._clips, samples, changes)


def _gpu_fence() -> Callable[[], None]:
    event = torch.cuda.Event()
    event.record()
    return event.synchronize
