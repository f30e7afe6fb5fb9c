"""What does Ray Train cost: in speed while training, and until the first step?

Baseline: the very same loop (`training/loop.py`) with the same configuration, corpus, threads and two workers under
`torchrun`, in a context that wraps the net in DDP and listens to nothing. Against it: the command `orchestrator train`
on a Ray that it starts itself (cold) and on a head that runs already. All take turns, so that what else the machine
does falls on all of them.

Throughput is taken between two optimizer steps of the same numbers on rank 0, without start and validation. The time to
the first step counts from the start of the command to the end of the first optimizer step, with the net validated once
before, as every run does. Beside seconds there are CPU seconds, of all processes together until the first step and of
rank 0 per step: where other programs want the cores, those ratios are the ones to believe. The tracking store is there
already; making one takes another CPU second, once.

Where the seconds until the first step go, of a command that starts its own Ray on 2 quiet cores, a net of 64 pixels: 18
in all, beside this benchmark's own head 21; `torchrun` takes 5.2.

| until | what | of that |
|---|---|---|
| 3.4 | the driver's imports | torch 1.3, Ray Train with pandas 1.0, this package 0.6 |
| 5.8 | `ray.init` | state service, raylet, agents, log monitor |
| 11.1 | Ray Train's controller | its process and imports 3.4; an actor for autoscaling that it waits for 1.6 |
| 16.2 | the two workers | their processes 2.5, their imports 2.5: torch and Ray Train, on a core each |
| 18.0 | the train function | torch._dynamo for the optimizer, the corpus, the net, a validation |

MLflow (2.6 s of imports and tables) opens in the driver while the controller starts. Not started any more: Ray Data's
actor and, where Ray is one's own, the one that tidies up after a controller and the one that watches for preemption.
`torchrun` does the first 1.3 s, the imports of torch in two workers and the train function.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# What takes long to import is imported where it is used: the time to the first step counts.
if TYPE_CHECKING:
    import torch

    from orchestrator.checkpoint import TrainState
    from orchestrator.config import RunConfig
    from orchestrator.training.context import Request

WORKERS, THREADS = 2, 1
WARM = 10
"""Steps that do not count: allocators and caches fill."""
WAYS = ("torchrun", "cold", "running")
MODEL: dict[str, Any] = {
    "name": "stable_syncnet",
    "num_frames": 5,
    "resolution": 64,
    "audio_encoder": {
        "in_channels": 1,
        "block_out_channels": [32, 64, 128],
        "downsample_factors": [[4, 2], [4, 4], [5, 2]],
    },
    "visual_encoder": {
        "in_channels": 15,
        "block_out_channels": [32, 64, 128],
        "downsample_factors": [2, [4, 4], [4, 8]],
    },
}
"""A net that takes about a tenth of a second per step."""
_PATIENCE_S = 600
_TICKS = os.sysconf("SC_CLK_TCK")

Figures = dict[str, float]


def main() -> None:
    """Print the table and the line of JSON, or be a process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every way once, with few steps")
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many rounds is told")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, folder = options.measure
        (train_plainly if way == "torchrun" else train_with_ray)(Path(folder))
        return
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # Ray's sockets want short paths
        write_config(Path(folder), steps=40 if options.quick else 150)
        with head(Path(folder) / "h") as running:
            rounds = [
                {way: measured(way, Path(folder), running, f"{way}-{number}") for way in WAYS}
                for number in range(1 if options.quick else options.repeats)
            ]
    report(rounds)


def write_config(folder: Path, steps: int) -> None:
    """A small corpus of synthetic speakers, and a net that takes about a tenth of a second per step."""
    from orchestrator.data.prepare import PreparationConfig, prepare_local
    from orchestrator.data.synthetic import make_corpus
    from orchestrator.tracking import close_stale

    make_corpus(folder / "videos", speakers=4, clips_per_speaker=2, seconds=1.6, size=64)
    prepare_local(folder / "videos", folder / "corpus", PreparationConfig(resolution=64, val_fraction=0.25))
    config = {
        "model": MODEL,
        "data": {"path": str(folder / "corpus"), "loader_threads": 1},
        "train": {"steps": steps, "global_batch": 16, "micro_batch": 8, "log_every": 10},
        "eval": {"every": steps, "pairs": 32},
        "checkpoint": {"every": steps},
        "scale": {"num_workers": WORKERS, "cpus_per_worker": THREADS, "use_gpu": False},
        "storage": str(folder / "runs"),
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    close_stale(f"sqlite:///{folder}/runs/mlflow.db", "syncnet")  # makes the store


def measured(way: str, folder: Path, running: Mapping[str, str], name: str) -> Figures:
    """One run from the start of its command to its end; `running` is the environment that leads to the head."""
    out = folder / name
    out.mkdir()
    script = [__file__, "--measure", way, str(out)]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}"] if way == "torchrun" else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    environment.pop("RAY_ADDRESS", None)
    if way == "running":
        environment |= running
    outside = cpu_seconds() if way == "running" else {}
    began = time.time()
    with (out / "said.txt").open("wb") as said:
        process = subprocess.Popen([sys.executable, *launch, *script], stdout=said, stderr=said, env=environment)
    used = cpu_until_first_step(process, out, outside)
    if process.wait(_PATIENCE_S):
        raise SystemExit(f"{way} failed:\n{(out / 'said.txt').read_text()}")
    times = json.loads((out / "steps.json").read_text())
    (warm_at, warm_cpu), (end_at, end_cpu), steps = times[WARM], times[-1], len(times) - 1 - WARM
    return {
        "first_step_s": times[0][0] - began,
        "first_step_cpu_s": used,
        "step_s": (end_at - warm_at) / steps,
        "step_cpu_s": (end_cpu - warm_cpu) / steps,
    }


def cpu_until_first_step(process: subprocess.Popen[bytes], out: Path, outside: Mapping[int, float]) -> float:
    """CPU seconds of a command and all processes that serve it, until rank 0 has taken its first step.

    Args:
        process: the command.
        out: where rank 0 leaves word.
        outside: process -> CPU seconds of those that were there before, of which a Ray head may serve the command; none
            where all processes descend from the command.
    """
    used: dict[int, float] = {}
    while process.poll() is None and not (out / "first").exists():
        # whoever has ended keeps what it was last seen with
        used |= cpu_seconds(None if outside else process.pid)
        time.sleep(0.25)  # looking costs a few milliseconds itself
    return sum(seconds - outside.get(pid, 0.0) for pid, seconds in used.items())


def cpu_seconds(root: int | None = None) -> dict[int, float]:
    """Process -> CPU seconds, of a process and all below it, or of this one's descendants."""
    found, frontier = dict[int, float](), {root or os.getpid()}
    processes = dict(_processes())
    while frontier:
        found |= {pid: processes[pid][1] for pid in frontier if pid in processes}
        frontier = {pid for pid, (parent, _) in processes.items() if parent in frontier} - found.keys()
    found.pop(os.getpid(), None)
    return found


def _processes() -> Iterator[tuple[int, tuple[int, float]]]:
    """(process, (parent, CPU seconds)) of everything that runs on this machine (Linux)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        yield int(folder.name), (int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS)


@contextmanager
def head(folder: Path) -> Iterator[dict[str, str]]:
    """A Ray head of this benchmark's own, and the environment in which commands find it and are let in."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = ["--head", "--block", "--disable-usage-stats", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    options += [f"--port={port}", f"--num-cpus={WORKERS}", "--num-gpus=0", f"--temp-dir={folder}"]
    command = [str(Path(sys.executable).with_name("ray")), "start", *options]
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **access}
    )
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise SystemExit("Ray's head could not be started: try `orchestrator doctor`")
            time.sleep(0.1)
        time.sleep(5)  # its agents start after it answers, and a head that has run for a while has them
        yield {"RAY_ADDRESS": f"127.0.0.1:{port}", **access}
    finally:
        process.terminate()  # with --block it takes everything of its own along
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def train_with_ray(out: Path) -> None:
    """`orchestrator train`, with a note in the assignment of the workers that their steps are watched."""
    from orchestrator.cli import main as orchestrator
    from orchestrator.runtime import train
    from orchestrator.runtime.worker import Assignment

    @dataclass(frozen=True)
    class Watched(Assignment):
        def corpus(self, config: RunConfig) -> Any:
            watch_steps(out, config.train.steps)
            return super().corpus(config)

    train.Assignment = Watched  # type: ignore[misc]
    sys.exit(orchestrator(["train", str(out.parent / "config.yaml"), "--name", out.name]))


def train_plainly(out: Path) -> None:
    """One worker of `torchrun`: the loop and what it cannot do without."""
    import torch
    import torch.distributed as dist

    from orchestrator.config import load_config
    from orchestrator.data.corpus import Corpus
    from orchestrator.training.loop import train_loop

    config = load_config(out.parent / "config.yaml")
    torch.set_num_threads(THREADS)
    dist.init_process_group("gloo")
    watch_steps(out, config.train.steps)
    train_loop(config, Corpus.open(config.data.path or ""), DeafContext(config), lambda: None)
    dist.destroy_process_group()


class DeafContext:
    """A `TrainContext` that keeps nothing and is asked for nothing."""

    def __init__(self, config: RunConfig) -> None:
        import torch
        import torch.distributed as dist

        self._config = config
        self.rank, self.world_size, self.device = dist.get_rank(), dist.get_world_size(), torch.device("cpu")

    def latest(self) -> TrainState | None:
        return None

    def wrap(self, model: Any) -> torch.nn.Module:
        from orchestrator.training.parallel import wrap

        return wrap(model, self._config, self.device)

    def announce(self, facts: Mapping[str, object]) -> None:
        """Nobody is told."""

    def report(self, metrics: Mapping[str, float]) -> None:
        """Nobody is told."""

    def save(self, state: TrainState) -> None:
        """Nothing is kept."""

    def poll(self, step: int) -> Request:
        from orchestrator.training.context import Request

        return Request()

    def alive(self) -> None:
        """Nobody watches."""

    def finish(self) -> None:
        """There is nothing to wait for."""


def watch_steps(out: Path, steps: int) -> None:
    """Have rank 0 write down when its optimizer took each step, in seconds since the epoch, and its CPU seconds."""
    import torch.distributed as dist
    from torch.optim.optimizer import register_optimizer_step_post_hook

    times: list[tuple[float, float]] = []

    def after_step(*_: Any) -> None:
        times.append((time.time(), time.process_time()))
        if len(times) == 1:
            (out / "first").touch()
        if len(times) == steps:
            (out / "steps.json").write_text(json.dumps(times))

    if dist.get_rank() == 0:
        register_optimizer_step_post_hook(after_step)


def report(rounds: list[dict[str, Figures]]) -> None:
    """Medians as a table, and as JSON the medians of the ratios within each round."""
    from rich.console import Console
    from rich.table import Table

    def median(way: str, figure: str) -> float:
        return statistics.median(one[way][figure] for one in rounds)

    def ratio(way: str, figure: str) -> float:
        return statistics.median(one[way][figure] / one["torchrun"][figure] for one in rounds)

    table = Table(title=f"{WORKERS} workers with {THREADS} thread each, {len(rounds)} rounds")
    columns = ("way", "ms per step", "of the speed", "CPU per step", "first step", "of torchrun's", "CPU until then")
    for column in columns:
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in WAYS:
        table.add_row(
            {"torchrun": "torchrun", "cold": "Ray, started by it", "running": "Ray, running before"}[way],
            f"{1000 * median(way, 'step_s'):.1f}",
            f"{1 / ratio(way, 'step_s'):.3f}",
            f"x {ratio(way, 'step_cpu_s'):.3f}",
            f"{median(way, 'first_step_s'):.1f} s",
            f"x {ratio(way, 'first_step_s'):.2f}",
            f"{median(way, 'first_step_cpu_s'):.1f} s, x {ratio(way, 'first_step_cpu_s'):.2f}",
        )
    Console(width=120).print(table)
    speed = statistics.median(
        2 * one["torchrun"]["step_s"] / (one["cold"]["step_s"] + one["running"]["step_s"]) for one in rounds
    )
    print(
        json.dumps(
            {
                "benchmark": "orchestration",
                "ratio": {
                    "samples_per_s": round(speed, 3),
                    "first_step_cold": round(ratio("cold", "first_step_s"), 2),
                    "first_step_running": round(ratio("running", "first_step_s"), 2),
                },
                "cpu_ratio": {
                    "step": round(statistics.mean(ratio(way, "step_cpu_s") for way in ("cold", "running")), 3),
                    "first_step_cold": round(ratio("cold", "first_step_cpu_s"), 2),
                    "first_step_running": round(ratio("running", "first_step_cpu_s"), 2),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
