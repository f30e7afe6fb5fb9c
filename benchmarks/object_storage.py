"""What does it cost a run to live in object storage instead of a folder?

Baseline: the same run, Wav2Lip's expert (16.4 M parameters, checkpoints of 197 MB) in this process, in a folder of this
machine's disk. Against it: the run in a bucket of a real S3 server on this machine (the tests' own, see
`tests/lab/s3.py`), or behind `--storage URI`. They take turns. Training speed is the median of the samples/s that the
run itself reports between two validations; beside it stand the seconds until a checkpoint is safe, and those of the
whole call. Training waits for neither, so the speed should be the same; the server of the tests takes its part of the
same cores while it is given a checkpoint, which the lowest of all reports shows.

Prediction, before the first measurement, on 2 cores: median speed 0.97 of a folder's, checkpoints four times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1]))

from orchestrator.config import RunConfig, load_config
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.synthetic import make_corpus
from orchestrator.runtime.train import train
from orchestrator.tracking import read_history

WAYS = ("folder", "object storage")
SPEED, SAVED = "train/samples_per_s", "system/checkpoint_seconds"

Found = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each way once, with few steps")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way")
    parser.add_argument("--storage", help="measure this storage instead of a server of this benchmark's own")
    options = parser.parse_args()
    steps, repeats = (16, 1) if options.quick else (60, options.repeats)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        remote = options.storage or stack.enter_context(server())
        make_corpus(folder / "videos", speakers=4, clips_per_speaker=2, seconds=2, size=96)
        prepare_local(folder / "videos", folder / "corpus", PreparationConfig(resolution=96, val_fraction=0.25))
        report(measure(folder, {"folder": str(folder / "runs"), "object storage": remote}, steps, repeats))


@contextmanager
def server() -> Iterator[str]:
    """A bucket of an S3 server on this machine, with its credentials in the environment."""
    from tests.lab.hosts import Loopback
    from tests.lab.s3 import S3Server

    host = Loopback()
    running = S3Server(host)
    running.start()
    try:
        os.environ.update(running.environment)
        yield running.uri(running.make_bucket("bench"), "runs")
    finally:
        running.close()
        host.close()


def measure(folder: Path, storages: dict[str, str], steps: int, repeats: int) -> Found:
    """The figures of every run, by way; the ways take turns."""
    found: Found = {way: [] for way in WAYS}
    for number in range(repeats):
        for way in WAYS:
            config = configuration(folder, storages[way], steps)
            begin = time.perf_counter()
            result = train(config, f"run-{number}")
            seconds = time.perf_counter() - begin
            rows = read_history(result.tracking_uri, result.run_id, [SPEED, SAVED])
            speeds = [row[SPEED] for row in rows if SPEED in row][1:]  # the first steps are slow
            saved = [row[SAVED] for row in rows if SAVED in row]
            found[way].append({"speeds": speeds, "saved": saved, "seconds": seconds})
    return found


def configuration(folder: Path, storage: str, steps: int) -> RunConfig:
    """A run whose checkpoints come often."""
    return load_config(
        {
            "model": {"name": "wav2lip_syncnet"},
            "data": {"path": str(folder / "corpus")},
            "optim": {"lr": 1e-5, "warmup_steps": 0},
            "train": {"steps": steps, "global_batch": 4, "micro_batch": 4, "log_every": 2},
            "eval": {"every": steps, "pairs": 8, "batch": 4},
            "checkpoint": {"every": 12, "keep": 1},
            "scale": {"num_workers": 0, "use_gpu": "auto"},
            "storage": storage,
            "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}", "experiment": storage.partition(":")[0]},
        }
    )


def report(found: Found) -> None:
    """Medians as a table and as JSON."""
    figures = {way: summary(runs) for way, runs in found.items()}
    runs = len(found["folder"])
    table = Table(title=f"{runs} run{'s' * (runs > 1)} of each, in turns")
    for column in ("a run in", "samples/s", "lowest", "until a checkpoint is safe (s)", "the whole call (s)"):
        table.add_column(column, justify="left" if column == "a run in" else "right")
    for way, each in figures.items():
        table.add_row(way, *(f"{each[key]:.2f}" for key in ("speed", "lowest", "saved", "seconds")))
    Console(width=100).print(table)
    base, other = (figures[way] for way in WAYS)
    ratio = {key: round(other[key] / base[key], 3) for key in ("speed", "lowest", "saved", "seconds")}
    print(json.dumps({"benchmark": "object_storage", "ratio": ratio, "figures": figures}))


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """What a way costs: medians over its runs."""
    return {
        "speed": statistics.median(speed for run in runs for speed in run["speeds"]),
        "lowest": min(speed for run in runs for speed in run["speeds"]),
        "saved": statistics.median(seconds for run in runs for seconds in run["saved"]),
        "seconds": statistics.median(run["seconds"] for run in runs),
    }


if __name__ == "__main__":
    main()
