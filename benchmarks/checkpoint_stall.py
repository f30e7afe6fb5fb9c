"""How long does a checkpoint keep training waiting?

The state: LatentSync's 16_latent StableSyncNet at full width with AdamW's moments (65 M parameters, 0.79 GB), while it
trains on random latents. The baseline, in the same run: the same checkpoint written before training goes on
(`checkpoint.asynchronous: false`). Measured: the time from the end of one step to the start of the next, with the
snapshot in it; the same with a snapshot into fresh memory, which is the usual way; the very first checkpoint, whose
memory is fresh too; and by how much the steps beside the writing thread are longer in sum than others, which costs
nothing where a GPU trains and the share of the cores where the CPU does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from orchestrator.checkpoint import TrainState
from orchestrator.config import load_model_config
from orchestrator.config.schema import CheckpointConfig
from orchestrator.models import build_model
from orchestrator.training.saver import Saver
from orchestrator.training.snapshot import Snapshots

LATENT = {  # configs/syncnet/syncnet_16_latent.yaml of bytedance/LatentSync
    "name": "stable_syncnet",
    "num_frames": 16,
    "resolution": 256,
    "latent_space": True,
    "lower_half": False,
    "audio_encoder": {
        "in_channels": 1,
        "block_out_channels": [32, 64, 128, 256, 512, 1024],
        "downsample_factors": [[2, 1], 2, 2, 2, 2, [2, 3]],
    },
    "visual_encoder": {
        "in_channels": 64,
        "block_out_channels": [64, 128, 256, 256, 512, 1024],
        "downsample_factors": [2, 2, 2, 1, 2, 2],
    },
}


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two checkpoints of each kind")
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many checkpoints of each kind is told")
    parser.add_argument("--batch", type=int, default=1, help="samples per step")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        training = Training(device, options.batch, Path(folder))
        report(training, measure(training, 2 if options.quick else options.repeats))


class Training:
    """A net in training, and its checkpoints."""

    def __init__(self, device: torch.device, batch: int, folder: Path) -> None:
        self.config = load_model_config(LATENT)
        self.device = device
        self.model = build_model(self.config, seed=0).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        shape = self.model.input_shape
        self.inputs = [torch.rand(batch, *each, device=device) for each in (shape.frames, shape.audio)]
        self.snapshots = Snapshots(device)
        settings = {"keep": 1, "retry_s": 0}
        self.savers = {
            kind: Saver(folder / str(kind), settings=CheckpointConfig(asynchronous=kind, **settings), tell=print)
            for kind in (True, False)
        }
        self.step = 0

    def take_step(self) -> float:
        """One step; its seconds, until the device is done."""
        begin = time.perf_counter()
        vision, audio = self.model(*self.inputs)
        (1 - (vision * audio).sum(1).mean()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.settle()
        self.step += 1
        return time.perf_counter() - begin

    def settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def checkpoint(self, *, asynchronous: bool, fresh_memory: bool = False) -> float:
        """Save; the seconds until training could go on."""
        begin = time.perf_counter()
        snapshots = Snapshots(self.device) if fresh_memory else self.snapshots
        parts: Any = snapshots.take(self.model, self.optimizer, None, 0)
        self.savers[asynchronous].save(TrainState(self.config, step=self.step, **parts))
        self.settle()
        return time.perf_counter() - begin


def measure(training: Training, repeats: int) -> dict[str, list[float]]:
    """Seconds of each kind, in turns, so that a slow moment of the machine meets all of them."""
    found: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "step", "lengthening")}
    for _ in range(2):
        training.take_step()
    found["first"].append(KINDS["first"](training))
    training.savers[True].wait()
    for _ in range(repeats):
        alone = [training.take_step() for _ in range(3)]
        found["step"].append(statistics.median(alone))
        for kind in ("synchronous", "fresh memory", "asynchronous"):
            training.take_step()
            found[kind].append(KINDS[kind](training))
            if kind != "asynchronous":
                training.savers[True].wait()
        beside = steps_beside(training)
        found["lengthening"].append(sum(beside) - len(beside) * found["step"][-1])
    return found


def steps_beside(training: Training) -> list[float]:
    """Train on until nothing is being written any more."""
    taken: list[float] = []
    while training.savers[True].busy:
        taken.append(training.take_step())
    training.savers[True].wait()
    return taken


KINDS: dict[str, Callable[[Training], float]] = {
    "first": lambda training: training.checkpoint(asynchronous=True),
    "synchronous": lambda training: training.checkpoint(asynchronous=False),
    "fresh memory": lambda training: training.checkpoint(asynchronous=True, fresh_memory=True),
    "asynchronous": lambda training: training.checkpoint(asynchronous=True),
}


def report(training: Training, found: dict[str, list[float]]) -> None:
    """Medians as a table and as JSON."""
    seconds = {kind: statistics.median(values) for kind, values in found.items()}
    tensors: list[Tensor] = [*training.model.state_dict().values()]
    tensors += [value for slots in training.optimizer.state.values() for value in slots.values()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    title = (
        f"{size / 1e9:.2f} GB, {training.device.type}, {len(found['step'])} of each, steps of {seconds['step']:.3f} s"
    )
    table = Table(title=title)
    for column in ("checkpoint", "training waits (s)", "least (s)", "against synchronous"):
        table.add_column(column, justify="left" if column == "checkpoint" else "right")
    rows = {
        "synchronous": "synchronous (baseline)",
        "asynchronous": "asynchronous",
        "fresh memory": "asynchronous, fresh memory",
        "first": "asynchronous, the first of a run",
        "lengthening": "longer steps beside the writer",
    }
    for kind, name in rows.items():
        share = seconds[kind] / seconds["synchronous"]
        table.add_row(name, f"{seconds[kind]:.3f}", f"{min(found[kind]):.3f}", f"{share:.1%}")
    Console(width=110).print(table)
    ratio = {
        f"{kind}/synchronous": round(seconds[kind] / seconds["synchronous"], 4)
        for kind in rows
        if kind != "synchronous"
    }
    told = {kind: round(value, 4) for kind, value in seconds.items()}
    print(
        json.dumps({"benchmark": "checkpoint_stall", "device": training.device.type, "ratio": ratio, "seconds": told})
    )


if __name__ == "__main__":
    main()
