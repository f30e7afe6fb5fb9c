"""How fast do training samples come out of a prepared corpus, against decoding the videos the usual way?

Baseline `decode`: per sample, two windows of the source mp4 are sought and decoded with PyAV, resized, cut to the lower
half and scaled to floats; its mel comes from a cache, for free. Against it, in the same process and by turns, the same
samples through `TrainLoader`, mel and collation included: `raw` and `compact` shards, `cache` (compact shards that the
node keeps as raw ones) and `latents`. All on one thread; the ratio is samples per second against the baseline. Then:
cold (the files dropped from memory before every batch), the number of clips, and threads against processes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, IterableDataset

from orchestrator.config.media import FPS
from orchestrator.data.corpus import Corpus
from orchestrator.data.loader import TrainLoader
from orchestrator.data.loader.batch import Batch, BatchMemory, collate
from orchestrator.data.manifest import write_manifest
from orchestrator.data.media.features import resize_frames
from orchestrator.data.prepare import prepare_local
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.data.shards import ShardKind, ShardWriter
from orchestrator.data.stream import Sample, SampleStream
from orchestrator.data.synthetic import make_corpus
from orchestrator.storage import open_folder

FRAMES, BATCH, COLD_BATCHES = 16, 32, 5
WAYS = ("raw", "compact", "cache", "latents")
ROWS = (10, 1_000, 100_000)
READERS = [("threads", 1), ("threads", 2), ("threads", 4), ("processes", 1), ("processes", 2), ("processes", 4)]


@dataclass
class Found:
    """What was measured of one way."""

    warm: list[float] = field(default_factory=list)
    """Samples per second, one figure for each turn."""
    cold: float | None = None
    """The same with nothing in memory; none where the system cannot drop a file."""
    megabytes: float = 0.0
    """Stored per second of video."""
    decibel: float | None = None
    """Peak signal to noise ratio of the frames; none when nothing is lost."""

    @property
    def rate(self) -> float:
        """Samples per second."""
        return statistics.median(self.warm)


def main() -> None:
    """Print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="finish within a minute")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, clips_per_speaker=2 if quick else 8)
        turns, seconds = (2, 0.7) if quick else (5, 3.0)
        cold = {way: cold_rate(root, way) for way in WAYS}  # before anything else has the files in use
        corpora = {way: open_corpus(root, way) for way in WAYS}
        found = by_turns(corpora, root, turns, seconds)
        for way in WAYS:
            found[way].cold = cold[way]
        rows = rates_of_rows(root, corpora["raw"], turns, seconds)
        readers = [] if quick else [(*kind, *reading_ahead(corpora, *kind)) for kind in READERS]
        report(found, rows, readers)


def prepare(root: Path, clips_per_speaker: int) -> None:
    """Videos, and a corpus of each kind made of them."""
    make_corpus(root / "videos", speakers=2, clips_per_speaker=clips_per_speaker, seconds=4.0)
    for storage in ("raw", "compact"):
        prepare_local(root / "videos", root / storage, PreparationConfig(storage=storage))
    write_latents(Corpus.open(root / "raw"), root / "latents")


def open_corpus(root: Path, way: str) -> Corpus:
    """The corpus of one way, newly opened."""
    return Corpus.open(root / "compact", root / "node") if way == "cache" else Corpus.open(root / way)


def write_latents(corpus: Corpus, out: Path) -> None:
    """A corpus with latents of the usual shape: what they mean does not matter for reading them."""
    rows, rng = [], np.random.default_rng(0)
    (out / "shards").mkdir(parents=True)
    with (out / "shards" / "s.arrow").open("wb") as file, ShardWriter(file, ShardKind.LATENTS, "latents") as shard:
        for clip in corpus.clips():
            with shard.add_clip(clip.clip_id) as target:
                target.frames(rng.standard_normal((clip.num_frames, 4, 32, 32), dtype=np.float32))
                target.mel(corpus.stored(clip).mel)
            place = {"shard": "shards/s.arrow", "row": target.row, "rows": target.rows, "preparation": "latents"}
            rows.append(replace(clip, **place, channels=4, height=32, width=32))
    write_manifest(open_folder(out), rows)


def by_turns(corpora: dict[str, Corpus], root: Path, turns: int, seconds: float) -> dict[str, Found]:
    """Every way once in each turn, so that whatever else the machine does disturbs all of them alike."""
    found = {way: Found() for way in ("decode", *WAYS)}
    stream = SampleStream(corpora["raw"].split("all").table, FRAMES)
    positions = iter(range(1 << 30))
    loaders = {way: loader_of(corpus) for way, corpus in corpora.items()}
    for _ in range(turns):
        work = lambda: decode_sample(corpora["raw"], root / "videos", stream.sample(next(positions)))  # noqa: E731
        found["decode"].warm.append(rate(work, seconds))
        for way, loader in loaders.items():
            found[way].warm.append(rate(loader.__next__, seconds) * BATCH)
    video_s = sum(clip.duration_s for clip in corpora["raw"].clips())
    for way, one in found.items():
        one.megabytes = sum(file.stat().st_size for file in files_of(root, way)) / 1e6 / video_s
    found["compact"].decibel = found["cache"].decibel = decibel(corpora["compact"], corpora["raw"])
    return found


def loader_of(corpus: Corpus, threads: int = 0) -> TrainLoader:
    """One worker's loader: every step is one batch."""
    stream = SampleStream(corpus.split("all").table, FRAMES)
    return TrainLoader(corpus, "all", stream, BATCH, BATCH, threads=threads)


def decode_sample(corpus: Corpus, videos: Path, sample: Sample) -> None:
    """What the usual loader does for one sample: both windows decoded, of which one is used; its mel is cached."""
    source = videos / corpus.clips("all")[sample.clip].source
    for start in (sample.frame_start, sample.audio_start):
        pixels = torch.from_numpy(decode_window(source, start)).permute(0, 3, 1, 2)
        resize_frames(pixels, 256)[:, :, 128:].float().div(127.5).sub(1)


def decode_window(source: Path, start: int) -> np.ndarray:
    """Frames [start, start + FRAMES) of a video, (FRAMES, H, W, 3), found by a seek to the key frame before them."""
    frames = []
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(start / FPS / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and round(frame.time * FPS) >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == FRAMES:
                break
    return np.stack(frames)


def rate(work: Callable[[], object], seconds: float) -> float:
    """Calls per second, after one that is not counted."""
    work()
    began, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        work()
        count += 1
    return count / spent


def cold_rate(root: Path, way: str) -> float | None:
    """Samples per second when nothing of the shards is in memory: each batch by a corpus that was just opened."""
    if not hasattr(os, "posix_fadvise"):
        return None
    clips = open_corpus(root, way).split("all")
    memory, stream, spent = BatchMemory.of(clips, BATCH, FRAMES), SampleStream(clips.table, FRAMES), []
    for batch in range(COLD_BATCHES + 1):
        clips = open_corpus(root, way).split("all")
        samples = [stream.sample(position) for position in range(batch * BATCH, (batch + 1) * BATCH)]
        gc.collect()  # what is still mapped would stay in memory
        for file in files_of(root, way):
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        memory.fill(clips, samples)
        spent.append(time.perf_counter() - began)
    return BATCH / statistics.median(spent[1:])


def rates_of_rows(root: Path, corpus: Corpus, turns: int, seconds: float) -> dict[int, tuple[float, float]]:
    """For each number of rows, which repeat the same clips: (seconds to open, samples per second)."""
    clips, opened, loaders = corpus.clips(), {}, {}
    for count in ROWS:
        folder = root / f"rows{count}"
        folder.mkdir()
        (folder / "shards").symlink_to(root / "raw" / "shards")
        write_manifest(open_folder(folder), [clips[number % len(clips)] for number in range(count)])
        began = time.perf_counter()
        loaders[count] = loader_of(Corpus.open(folder))
        opened[count] = time.perf_counter() - began
    rates = [{count: rate(loader.__next__, seconds) * BATCH for count, loader in loaders.items()} for _ in range(turns)]
    return {count: (opened[count], statistics.median(turn[count] for turn in rates)) for count in ROWS}


class Batches(IterableDataset[Batch]):
    """The same batches for torch's `DataLoader`, whose processes take every n-th of them."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        clips = self.corpus.split("all")
        stream = SampleStream(clips.table, FRAMES)
        info = torch.utils.data.get_worker_info()
        number, step = (info.id, info.num_workers) if info else (0, 1)
        while True:
            yield collate(clips, [stream.sample(number * BATCH + place) for place in range(BATCH)], FRAMES)
            number += step


def reading_ahead(corpora: dict[str, Corpus], kind: str, count: int, seconds: float = 4.0) -> tuple[float, float]:
    """Samples per second of raw and of compact shards, read ahead by threads or by processes."""
    rates = []
    for way in ("raw", "compact"):
        if kind == "threads":
            with loader_of(corpora[way], count) as loader:
                rates.append(rate(loader.__next__, seconds) * BATCH)
        else:
            with warnings.catch_warnings(action="ignore"):  # that there are more processes than cores
                batches = iter(DataLoader(Batches(corpora[way]), batch_size=None, num_workers=count))
            rates.append(rate(batches.__next__, seconds) * BATCH)
            del batches
    return rates[0], rates[1]


def files_of(root: Path, way: str) -> list[Path]:
    """What is read: videos, or shards."""
    folder, pattern = {"decode": ("videos", "*.mp4"), "cache": ("node", "raw.arrow")}.get(way, (way, "*.arrow"))
    return list((root / folder).rglob(pattern))


def decibel(found: Corpus, exact: Corpus) -> float:
    """How near the frames of a corpus are to those of another: peak signal to noise ratio."""
    errors = []
    for clip in range(len(exact.clips())):
        one, other = (corpus.split("all").window(clip, 0, 64).astype(np.float32) for corpus in (found, exact))
        errors.append(np.square(one - other).mean())
    return float(10 * np.log10(255**2 / np.mean(errors)))


def report(
    found: dict[str, Found], rows: dict[int, tuple[float, float]], readers: list[tuple[str, int, float, float]]
) -> None:
    """The tables for people, the line for machines."""
    console, base = Console(), found["decode"].rate
    table = Table("way", "samples/s", "against decode", "cold", "MB per s of video", "PSNR dB", title="One core, warm")
    for way, one in found.items():
        cold = "" if one.cold is None else f"{one.cold:,.0f}"
        loss = "" if one.decibel is None else f"{one.decibel:.1f}"
        table.add_row(way, f"{one.rate:,.0f}", f"{one.rate / base:.1f}", cold, f"{one.megabytes:.3f}", loss)
    console.print(table)
    table = Table("rows of the manifest", "opened in s", "samples/s", title="Raw, one core")
    for count, (opened, per_second) in rows.items():
        table.add_row(f"{count:,}", f"{opened:.2f}", f"{per_second:,.0f}")
    console.print(table)
    if readers:
        table = Table("read ahead by", "raw samples/s", "compact samples/s", title=f"{os.cpu_count()} cores")
        for kind, count, raw, compact in readers:
            table.add_row(f"{count} {kind}", f"{raw:,.0f}", f"{compact:,.0f}")
        console.print(table)
    figures = {
        "ratio": {way: round(found[way].rate / base, 1) for way in WAYS},
        "samples_per_s": {way: round(one.rate, 1) for way, one in found.items()},
        "cold_samples_per_s": {way: round(found[way].cold or 0, 1) for way in WAYS},
        "megabytes_per_s": {way: round(one.megabytes, 3) for way, one in found.items()},
        "samples_per_s_by_rows": {str(count): round(per_second, 1) for count, (_, per_second) in rows.items()},
    }
    print(json.dumps({"benchmark": "loader", **figures}))


if __name__ == "__main__":
    main()
