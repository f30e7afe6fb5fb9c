"""What does a sweep cost beside the training itself?

Baseline: eight bare training runs of the same length from the same state, each a process of its own that does nothing
but the loop (`training/loop.py`): no Ray, no Tune, no records. Two lanes run four of them each, one after the other.
Against it: the command `orchestrator sweep` with eight equal trials, two at a time, on a Ray that it starts itself,
judging the untouched file besides and leaving records, a report and a registered champion. Both are timed from the
start of the first process to the end of the last.

Prediction: 1.10. A sweep starts Ray and Tune (10 s) and judges the file, but its trials take over one another's
processes and import torch once and not four times; records and the report are made while trials train.

Besides: how often the file was normalized (once), and the memory of one more trial: the proportional set size (Pss, in
which shared pages count once) of a trial's process at its largest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestration import MODEL

TRIALS, LANES, THREADS = 8, 2, 1
_LOOK_S = 0.5


def main() -> None:
    """Print the table and the line of JSON, or be one bare run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter trials, once")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many rounds is told")
    parser.add_argument("--bare", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        train_barely(Path(options.bare[0]), options.bare[1])
        return
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        write_config(Path(folder), steps=40 if options.quick else 300)
        rounds = [measured(Path(folder), number) for number in range(1 if options.quick else options.repeats)]
    report(rounds)


def write_config(folder: Path, steps: int) -> None:
    """A small corpus, a weights-only file, its normalized state for the bare runs, and the sweep's configuration."""
    from orchestrator.checkpoint import export, normalize
    from orchestrator.config import load_config
    from orchestrator.data.prepare import PreparationConfig, prepare_local
    from orchestrator.data.synthetic import make_corpus
    from orchestrator.runtime.train import train

    make_corpus(folder / "videos", speakers=4, clips_per_speaker=2, seconds=1.6, size=64)
    prepare_local(folder / "videos", folder / "corpus", PreparationConfig(resolution=64, val_fraction=0.25))
    config: dict[str, Any] = {
        "model": MODEL,
        "data": {"path": str(folder / "corpus"), "loader_threads": 1},
        "train": {"steps": 1, "global_batch": 16, "micro_batch": 16, "log_every": 10},
        "eval": {"every": max(1, steps // 5), "pairs": 64},
        "checkpoint": {"every": max(1, steps // 5), "keep": 1},
        "scale": {"num_workers": 0, "cpus_per_worker": THREADS, "use_gpu": False},
        "storage": str(folder / "source"),
    }
    made = train(load_config(config), "source")
    export(made.best_checkpoint, "latentsync", folder / "weights.pt")
    state = normalize(folder / "weights.pt", folder / "states", model_config=load_config(config).model)
    config["train"]["steps"], config["scale"]["num_workers"] = steps, 1
    config["start"] = {"checkpoint": str(state.path)}
    (folder / "bare.yaml").write_text(json.dumps(config))  # JSON is YAML
    config["start"] = {"checkpoint": str(folder / "weights.pt")}
    # equal trials: the seed decides which samples come, and not how long they take
    config["sweep"] = {"search": "grid", "space": {"train.seed": {"grid": list(range(TRIALS))}}}
    (folder / "sweep.yaml").write_text(json.dumps(config))


def train_barely(folder: Path, name: str) -> None:
    """The loop and its checkpoints, and nothing else."""
    import torch

    from orchestrator.checkpoint import read_state
    from orchestrator.config import load_config
    from orchestrator.data.corpus import Corpus
    from orchestrator.training.local import LocalContext
    from orchestrator.training.loop import train_loop

    torch.set_num_threads(THREADS)
    config = load_config(folder / "bare.yaml", [f"train.seed={name.rpartition('-')[2]}"])
    context = LocalContext(
        folder / "bare" / name,
        settings=config.checkpoint,
        on_report=lambda _: None,
        on_announce=lambda _: None,
        tell=lambda _: None,
    )
    state = read_state(config.start.checkpoint or "")
    train_loop(config, Corpus.open(config.data.path or ""), context, lambda: state)


def measured(folder: Path, number: int) -> dict[str, float]:
    """One round: the bare runs, then the sweep."""
    began = time.monotonic()
    lanes = [threading.Thread(target=_lane, args=(folder, number, lane)) for lane in range(LANES)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    bare_s = time.monotonic() - began
    storage = folder / f"runs-{number}"
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(folder / "sweep.yaml"), "--name", "sweep"]
    began = time.monotonic()
    with _watched() as seen:
        subprocess.run([*command, f"storage={storage}"], check=True, stdout=subprocess.DEVNULL)
    sweep_s = time.monotonic() - began
    states = len(list((storage / "states").iterdir()))
    ended = [json.loads(path.read_text())["state"] for path in storage.glob("sweep/trials/*/status.json")]
    assert ended.count("finished") == TRIALS + 1, ended
    return {"bare_s": bare_s, "sweep_s": sweep_s, "states": states, "trial_mb": max(seen, default=0.0)}


def _lane(folder: Path, number: int, lane: int) -> None:
    for trial in range(lane, TRIALS, LANES):
        name = f"{number}-{trial}"
        subprocess.run([sys.executable, __file__, "--bare", str(folder), name], check=True)


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The memory of trial processes in megabytes, looked at while the block runs."""
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            seen.extend(_trial_processes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _trial_processes() -> Iterator[float]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"Trainable" in (process / "cmdline").read_bytes():
                rollup = (process / "smaps_rollup").read_text()
                yield next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
        except OSError:  # it ended meanwhile
            continue


def report(rounds: list[dict[str, float]]) -> None:
    """The table, and its last line as JSON."""
    median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    ratios = [each["sweep_s"] / each["bare_s"] for each in rounds]
    print(f"{TRIALS} trials, {LANES} at a time\n")
    print(f"bare runs   {median['bare_s']:7.1f} s")
    print(f"sweep       {median['sweep_s']:7.1f} s   {statistics.median(ratios):.3f} of it (wanted: at most 1.15)")
    print(f"normalized  {median['states']:7.0f} times")
    print(f"memory      {median['trial_mb']:7.0f} MB for each trial at a time")
    result = {"ratio": {"sweep": round(statistics.median(ratios), 3)}, "states": median["states"]}
    print(json.dumps({"benchmark": "sweep", **result, "trial_mb": round(median["trial_mb"])}))


if __name__ == "__main__":
    main()
