"""How long does an optimizer step take, against a plain loop written the usual way, and are the losses the same?

Baseline `plain`: the same net, samples and AdamW in a loop as SyncNet trainers have it. Per step: float input, which is
normalised on the host; the default, unfused AdamW (`foreach=False`, as it is on a CPU); the loss all-reduced (in a gloo
group of one worker) and read with `.item()`. It has no DDP around its net, which would only slow it. `ours` is
`train_loop` with its defaults. Each has a process of its own, because what `train_loop` asks of the memory is asked for
a whole process, and they take turns, a step of one and a step of the other, so that whatever else the machine does
disturbs both alike; neither reads ahead. The ratio is the median of ours divided by that of the baseline.

Then other settings against that default: those which on a CPU are not taken by default, and what the default owes to
memory that is kept (`training/host_memory.py`). With a GPU:
16_pixel_attn in bf16 against the plain loop in fp16 autocast, in blocks of several steps, with the share of the rate of
a large matrix product that is reached.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.checkpoint import TrainState
from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.config.model import input_shape
from orchestrator.data.corpus import Corpus
from orchestrator.data.loader.batch import collate
from orchestrator.data.manifest import write_manifest
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.shards import ShardKind, ShardWriter
from orchestrator.data.stream import SampleStream
from orchestrator.data.synthetic import make_corpus
from orchestrator.models import build_model
from orchestrator.storage import open_folder
from orchestrator.training import speed
from orchestrator.training.context import Request
from orchestrator.training.host_memory import ask_for_huge_pages
from orchestrator.training.loop import train_loop

BATCH, TOLERANCE = 4, 1e-5
AT_MOST = {"16_latent": 0.75, "wav2lip": 0.95}
LATENT_16: dict[str, Any] = {
    "name": "stable_syncnet",
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
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "channels_last": ({"speed.channels_last": True}, {}),
    "bf16": ({"train.precision": "bf16"}, {}),
    "fresh memory": ({}, {"keeps_memory": False}),
}
"""Settings, and what `ours` is told."""
CONFIGS = Path(__file__).parents[1] / "configs"


class Lane:
    """One way to train, in a process of its own, measured in blocks of steps.

    Args:
        work: `plain` or `ours`.
        config: what to train.
        device: where to compute.
        size: steps in a block.
        options: more of what `work` is told.
    """

    def __init__(
        self, work: Callable[..., None], config: RunConfig, device: torch.device, size: int = 1, **options: Any
    ) -> None:
        self.seconds: list[float] = []
        """Per step, one figure for each block."""
        self.losses: list[float] = []
        """Of every step."""
        self.wait = 0.0
        """Share of the time waited for data."""
        processes = multiprocessing.get_context("spawn")
        self._pipe, theirs = processes.Pipe()
        arguments = (theirs, config, device, size)
        self._process = processes.Process(target=work, args=arguments, kwargs=options, daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # all is built

    @property
    def step_s(self) -> float:
        """Seconds per step, without the first block."""
        return statistics.median(self.seconds[1:])

    def block(self) -> None:
        """Let it take its next steps."""
        self._pipe.send("go")
        seconds, losses, self.wait = self._pipe.recv()
        self.seconds.append(seconds)
        self.losses += losses

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def main() -> None:
    """Print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="finish within a minute or so: fewer steps")
    quick = parser.parse_args().quick
    steps, few = (6, 3) if quick else (20, 4)
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        configs = prepare(root)
        found = {name: compare(config, cpu, steps) for name, config in configs.items()}
        others = {name: variants(config, cpu, few) for name, config in configs.items()}
        gpu = on_a_gpu(root, 2 if quick else 6) if torch.cuda.is_available() else {}
    report(found, others, gpu)


def prepare(root: Path) -> dict[str, RunConfig]:
    """A small corpus for each net, and the configurations."""
    make_corpus(root / "videos", speakers=2, clips_per_speaker=2, seconds=3.0, size=64)
    prepare_local(root / "videos", root / "synthetic", PreparationConfig(resolution=32, val_fraction=0.5))
    synthetic = Corpus.open(root / "synthetic")
    write_random(synthetic, root / "16_latent", ShardKind.LATENTS, 4, 32, 32)
    write_random(synthetic, root / "wav2lip", ShardKind.RAW, 3, 48, 96)
    common = {
        "train": {"steps": 1 << 20, "global_batch": BATCH, "micro_batch": BATCH, "log_every": 1},
        "eval": {"every": 1 << 20, "pairs": 2, "batch": 2},
        "checkpoint": {"every": 1 << 20},
    }
    data = {name: {"path": str(root / name), "loader_threads": 0} for name in AT_MOST}
    return {
        "16_latent": load_config({"model": LATENT_16, "data": data["16_latent"], "optim": {"lr": 1e-5}, **common}),
        # batch norm over four windows makes so much of rounding that at a higher rate two orders of the same sums part
        "wav2lip": load_config(
            {"model": {"name": "wav2lip_syncnet"}, "data": data["wav2lip"], "optim": {"lr": 3e-7}, **common}
        ),
    }


def write_random(corpus: Corpus, out: Path, kind: ShardKind, channels: int, height: int, width: int) -> None:
    """A corpus whose clips have the given lengths and random content, coarse as that of images is.

    What it shows does not matter for the time of a step. It is no two windows alike, because a batch norm over four
    windows that are nearly alike makes much of rounding.
    """
    rows, rng, latents = [], np.random.default_rng(0), kind is ShardKind.LATENTS
    (out / "shards").mkdir(parents=True)
    with (out / "shards" / "s.arrow").open("wb") as file, ShardWriter(file, kind, "random") as shard:
        for clip in corpus.clips():
            bins, columns = corpus.stored(clip).mel.shape
            frames = rng.standard_normal((clip.num_frames, channels, height // 8, width // 8), dtype=np.float32)
            frames = frames.repeat(8, axis=2).repeat(8, axis=3)
            mel = rng.uniform(-4, 4, (-(-bins // 8), -(-columns // 8))).repeat(8, axis=0).repeat(8, axis=1)
            with shard.add_clip(clip.clip_id) as target:
                target.frames(frames if latents else (frames * 64 + 128).clip(0, 255).astype(np.uint8))
                target.mel(mel[:bins, :columns].astype(np.float32))
            stored = replace(clip, shard="shards/s.arrow", row=target.row, rows=target.rows, preparation="random")
            rows.append(replace(stored, channels=channels, height=height, width=width))
    write_manifest(open_folder(out), rows)


def compare(config: RunConfig, device: torch.device, blocks: int, size: int = 1) -> dict[str, Lane]:
    """The plain loop and ours, by turns."""
    with Lane(plain, config, device, size) as baseline, Lane(ours, config, device, size) as own:
        for _ in range(blocks):
            baseline.block()
            own.block()
    return {"plain": baseline, "ours": own}


def variants(config: RunConfig, device: torch.device, blocks: int) -> dict[str, float]:
    """Seconds per step of other settings, divided by those of the default beside them."""
    ratios = {}
    for name, (settings, options) in VARIANTS.items():
        changed = apply_settings(config, settings)
        with Lane(ours, config, device) as default, Lane(ours, changed, device, **options) as other:
            for _ in range(blocks):
                default.block()
                other.block()
        ratios[name] = other.step_s / default.step_s
    return ratios


def plain(pipe: Connection, config: RunConfig, device: torch.device, size: int) -> None:
    """The process of the plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    steps = plain_loop(config, device)
    pipe.send("ready")
    while True:
        pipe.recv()
        began = time.perf_counter()
        losses = [next(steps) for _ in range(size)]
        _settle(device)
        pipe.send(((time.perf_counter() - began) / size, losses, 0.0))


def ours(pipe: Connection, config: RunConfig, device: torch.device, size: int, *, keeps_memory: bool = True) -> None:
    """The process of `train_loop`."""
    if keeps_memory:
        ask_for_huge_pages()  # as the command line does
    else:
        speed.keep_freed_memory = lambda: None  # type: ignore[attr-defined]
    train_loop(config, Corpus.open(config.data.path or ""), Turns(pipe, device, size), lambda: None)


def plain_loop(config: RunConfig, device: torch.device) -> Iterator[float]:
    """Each `next` takes one step of the usual loop and gives its loss; on a GPU in fp16 autocast with a scaler."""
    clips = Corpus.open(config.data.path or "").split("train")
    stream = SampleStream(clips.table, config.model.num_frames, config.data, seed=config.train.seed)
    model, optim, on_gpu = (
        build_model(config.model, seed=config.train.seed).to(device),
        config.optim,
        device.type != "cpu",
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        foreach=on_gpu or False,
    )
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)
    position = 0
    while True:
        samples = [stream.sample(position + place) for place in range(config.train.global_batch)]
        position += config.train.global_batch
        batch = collate(clips, samples, config.model.num_frames)
        frames = model.pixels_to_input(batch.frames).to(device)  # floats, made on the host
        mel, labels = batch.mel.to(device), batch.labels.float().to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16, enabled=on_gpu):
            vision, audio = model(frames, mel)
        cosine = F.cosine_similarity(vision.float(), audio.float(), dim=1).clamp(1e-6, 1 - 1e-6)
        loss = F.binary_cross_entropy(cosine, labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip_norm or math.inf)
        scaler.step(optimizer)
        scaler.update()
        mean = loss.detach().cpu()
        dist.all_reduce(mean)
        yield mean.item()


class Turns:
    """The surroundings of `train_loop`, which goes on for one block of steps whenever it is asked to.

    One worker, nothing to continue from, checkpoints that nobody keeps.
    """

    rank, world_size = 0, 1

    def __init__(self, pipe: Connection, device: torch.device, size: int) -> None:
        self.device, self._pipe, self._size = device, pipe, size
        self._losses: list[float] = []
        self._wait = 0.0
        self._began = 0.0

    def latest(self) -> TrainState | None:
        return None

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def announce(self, facts: Mapping[str, object]) -> None:
        return None

    def report(self, metrics: Mapping[str, float]) -> None:
        if "train/loss" in metrics:
            self._losses.append(metrics["train/loss"])
            self._wait = metrics["train/data_wait"]

    def save(self, state: TrainState) -> None:
        if state.step == 0:  # the baseline, after which training begins
            self._pipe.send("ready")
            self._go_on()

    def poll(self, step: int) -> Request:
        if step % self._size == 0:
            _settle(self.device)
            self._pipe.send(((time.perf_counter() - self._began) / self._size, self._losses, self._wait))
            self._losses = []
            self._go_on()
        return Request()

    def alive(self) -> None:
        return None

    def finish(self) -> None:
        return None

    def _go_on(self) -> None:
        self._pipe.recv()
        self._began = time.perf_counter()


def on_a_gpu(root: Path, blocks: int, size: int = 10) -> dict[str, float]:
    """16_pixel_attn in bf16 against the plain loop: samples/s, and the share of the achievable matrix rate."""
    device = torch.device("cuda", 0)
    prepare_local(root / "videos", root / "pixels", PreparationConfig(val_fraction=0.5))
    batch, eval_ = 64, {"every": 1 << 20, "pairs": 2, "batch": 2}
    config = apply_settings(
        load_config(CONFIGS / "latentsync_16_pixel_attn.yaml"),
        {
            "data.path": str(root / "pixels"),
            "train.steps": 1 << 20,
            "train.global_batch": batch,
            "train.log_every": size,
            "optim.warmup_steps": 0,
            "checkpoint.every": 1 << 20,
            **{f"eval.{key}": value for key, value in eval_.items()},
        },
    )
    lanes = compare(config, device, blocks, size)
    work, rate = flops(config, device) * batch, matrix_rate(device)
    our_s, plain_s = lanes["ours"].step_s, lanes["plain"].step_s
    return {
        "ratio": our_s / plain_s,
        "samples_per_s": batch / our_s,
        "plain_samples_per_s": batch / plain_s,
        "matrix_tflops": rate / 1e12,
        "share_of_matrix_rate": work / our_s / rate,
        "plain_share_of_matrix_rate": work / plain_s / rate,
        "data_wait": lanes["ours"].wait,
    }


def flops(config: RunConfig, device: torch.device) -> float:
    """Floating-point operations of one sample, forward and backward."""
    model, shape = build_model(config.model).to(device), input_shape(config.model)
    with FlopCounterMode(display=False) as counter:
        vision, audio = model(torch.rand(2, *shape.frames, device=device), torch.rand(2, *shape.audio, device=device))
        (vision * audio).sum().backward()
    return counter.get_total_flops() / 2


def matrix_rate(device: torch.device, side: int = 8192, times: int = 50) -> float:
    """Floating-point operations per second of a large bf16 matrix product."""
    one, other = (torch.rand(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    least = math.inf
    for _ in range(5):
        _settle(device)
        began = time.perf_counter()
        for _ in range(times):
            one @ other
        _settle(device)
        least = min(least, (time.perf_counter() - began) / times)
    return 2 * side**3 / least


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(found: dict[str, dict[str, Lane]], others: dict[str, dict[str, float]], gpu: dict[str, float]) -> None:
    """The tables for people, the line for machines."""
    console = Console()
    ratios = {name: lanes["ours"].step_s / lanes["plain"].step_s for name, lanes in found.items()}
    apart = {name: difference(lanes) for name, lanes in found.items()}
    title = f"Seconds per step of {BATCH} samples: {os.cpu_count()} cores, fp32"
    table = Table("net", "plain", "ours", "ratio", "aim", "losses differ by", title=title)
    for name, lanes in found.items():
        seconds = [f"{lanes[lane].step_s:.3f}" for lane in ("plain", "ours")]
        table.add_row(name, *seconds, f"{ratios[name]:.2f}", f"<= {AT_MOST[name]}", f"{apart[name]:.1e}")
    console.print(table)
    table = Table("net", *VARIANTS, title="Other settings on this CPU: time of a step against the default")
    for name, others_of in others.items():
        table.add_row(name, *(f"{ratio:.2f}" for ratio in others_of.values()))
    console.print(table)
    if gpu:
        table = Table("16_pixel_attn", "", title=torch.cuda.get_device_name(0))
        for name, value in gpu.items():
            table.add_row(name, f"{value:.3f}")
        console.print(table)
    figures = {
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "at_most": AT_MOST,
        "loss_difference": apart,
        "steps": min(len(lanes["ours"].losses) for lanes in found.values()),
        "reached": all(ratios[name] <= AT_MOST[name] and apart[name] <= TOLERANCE for name in found),
        "other_settings": {net: {name: round(ratio, 2) for name, ratio in one.items()} for net, one in others.items()},
        "gpu": {name: round(value, 4) for name, value in gpu.items()},
    }
    print(json.dumps({"benchmark": "step", **figures}))


def difference(lanes: dict[str, Lane]) -> float:
    """The most that the losses of a step differ by."""
    return max(abs(one - other) for one, other in zip(lanes["plain"].losses, lanes["ours"].losses, strict=True))


if __name__ == "__main__":
    main()
