"""How fast do training samples come out of a prepared corpus, against decoding the videos the usual way?

Baseline `decode`: per sample, two windows of the source mp4 are sought and decoded with PyAV, resized, cut to the lower
half and scaled to floats; its mel comes from a cache, for free. `raw`: the same samples through `TrainLoader` from
memory-mapped shards, mel and collation included. Both run on one thread, warm, in the same process; the figure is
samples per second, the ratio is `raw / decode`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from orchestrator.config.media import FPS
from orchestrator.data.corpus import Corpus
from orchestrator.data.features import resize_frames
from orchestrator.data.loader import TrainLoader
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.stream import Sample, SampleStream
from orchestrator.data.synthetic import make_corpus

FRAMES, BATCH = 16, 32


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="finish within a minute")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_corpus(root / "videos", speakers=2, clips_per_speaker=2 if quick else 4, seconds=4.0)
        prepare_local(root / "videos", root / "corpus", PreparationConfig())
        corpus = Corpus.open(root / "corpus")
        stream = SampleStream(corpus.split("all").lengths, FRAMES)
        decode = rate(lambda index: decode_sample(corpus, root / "videos", stream.sample(index)), 16 if quick else 100)
        with TrainLoader(corpus, "all", stream, BATCH, BATCH, threads=0) as loader:
            raw = rate(lambda _: next(loader), 20 if quick else 200) * BATCH
    report(decode, raw)


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
        container.seek(int(start / FPS / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and round(frame.time * FPS) >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == FRAMES:
                break
    return np.stack(frames)


def rate(work: Callable[[int], object], count: int) -> float:
    """Calls per second, after one that is not counted."""
    work(0)
    began = time.perf_counter()
    for index in range(count):
        work(index)
    return count / (time.perf_counter() - began)


def report(decode: float, raw: float) -> None:
    """The table for people, the line for machines."""
    table = Table(
        "loader", "samples/s on one core", "against decode", title=f"{FRAMES} frames of 128x256, batch {BATCH}"
    )
    table.add_row("decode the mp4 per sample", f"{decode:.1f}", "1.0")
    table.add_row("raw shards, memory-mapped", f"{raw:.1f}", f"{raw / decode:.1f}")
    Console().print(table)
    print(json.dumps({"benchmark": "loader", "ratio": {"raw": round(raw / decode, 1)}, "samples_per_s": round(raw, 1)}))


if __name__ == "__main__":
    main()
