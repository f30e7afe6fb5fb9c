"""The arithmetic of docs/scaling.md: `python docs/scaling.py` prints the tables that stand there.

It needs no GPU: floating-point operations and kernels are counted on tensors without memory, and the rest is what
hardware is said to do and what prices are assumed to be. `tests/test_scaling.py` compares its tables with the document.
"""

# P parameters, N GPUs, B samples of the global batch

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.config import load_config, load_model_config
from orchestrator.models import skeleton

MATRIX_RATE = 989e12
"""H100 SXM, dense bf16, operations per second (data sheet)."""
ACHIEVED = 0.35
"""Assumed share of it for these convolutions; not measured."""
MEMORY_RATE = 0.8 * 3.35e12
"""Bytes per second that a kernel like AdamW gets of HBM3's 3.35 TB/s: assumed 80%."""
LAUNCH_S = 5e-6
"""Assumed host time per kernel."""
NVLINK = 0.8 * 450e9
"""Bytes per second and direction of one GPU within a node, 80% of the data sheet."""
NETWORKS = {"8 x 400 Gb/s InfiniBand": 8 * 0.8 * 50e9, "100 Gb/s Ethernet": 0.8 * 12.5e9}
"""Bytes per second and direction of one node, 80% of the line."""
LATENCY_S = {"8 x 400 Gb/s InfiniBand": 5e-6, "100 Gb/s Ethernet": 30e-6}
"""Assumed seconds per hop between nodes."""
HOST_RATE = 0.8 * 63e9
"""Bytes per second from a GPU to pinned memory: 80% of PCIe 5 x16."""
DISK_RATE = 1e9
"""Assumed bytes per second of one writer to shared storage; `orchestrator doctor` measures yours."""
PER_NODE = 8
GLOBAL_BATCH = 1024
SIZES = (8, 64, 512)
SAMPLE_S = 16 / 25
"""Seconds of video in a window."""
STORED = {"raw": 2.484e6, "compact": 0.08e6, "latents": 0.231e6}
"""Bytes per second of video, with mel (docs/data.md)."""
GPU_HOUR_USD = 4.0
"""Assumed price of a GPU of the kind above for an hour."""
HEAD_HOUR_USD = 0.2
"""Assumed price of a machine of four CPUs for an hour."""
PUT_USD, GET_USD = 5e-6, 0.4e-6
"""Assumed prices of a request to object storage: of those that write or list, and of those that read."""
STORED_USD = 0.023
"""Assumed price of a GB in object storage for a month."""
LEAVING_USD = 0.09
"""Assumed price of a GB that leaves its region; within it, nothing."""
PUTS_PER_S = 3.2
"""Most that a run writes and lists in object storage: a part of its journal, `status.json`, and a look for parts of the
journal each second, a sign of life every five."""
GETS_PER_S = 10
"""Most that it looks and reads there, as counted and rounded up."""
PART = 10e6
"""Bytes of one request of a large upload."""
CORPUS_H = 100
"""Hours of video in the example."""
LATENT = {
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
_RULE = "|---"
_CONFIGS = Path(__file__).parents[1] / "configs"
NETS = {"16_pixel_attn": _CONFIGS / "latentsync_16_pixel_attn.yaml", "16_latent": LATENT}


@dataclass(frozen=True)
class Net:
    """What is counted of a net."""

    name: str
    parameters: int
    flops: int
    """Forward and backward, one sample."""
    kernels: int
    """Operations of a forward and backward pass: about as many kernels."""

    def compute_s(self, samples: int) -> float:
        """A pass of so many samples: arithmetic, but no faster than its kernels can be started."""
        return max(samples * self.flops / (ACHIEVED * MATRIX_RATE), self.kernels * LAUNCH_S)

    @property
    def update_s(self) -> float:
        """AdamW reads weight, gradient and two moments and writes three of them: 28 bytes a parameter; clipping reads
        the gradients twice and writes them once: 12 more."""
        return 40 * self.parameters / MEMORY_RATE


def count(name: str) -> Net:
    """Count a net on tensors without memory."""
    net = skeleton(load_model_config(NETS[name]))
    frames, audio = (torch.empty(2, *part, device="meta") for part in (net.input_shape.frames, net.input_shape.audio))
    with FlopCounterMode(display=False) as flops, _Operations() as operations:
        vision, speech = net(frames, audio)
        (vision * speech).sum().backward()
    net.zero_grad(set_to_none=True)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Net(name, parameters, flops.get_total_flops() // 2, operations.count)


def all_reduce_s(parameters: int, gpus: int, network: str, width: int = 4) -> float:
    """Gradients over all GPUs, in rings: a reduce-scatter and an all-gather within each node, and a ring of all nodes
    in between for each GPU's eighth, over the node's whole network."""
    local = min(gpus, PER_NODE)
    seconds = 2 * (local - 1) / local * width * parameters / NVLINK
    nodes = gpus // PER_NODE
    if nodes > 1:
        seconds += (
            2 * (nodes - 1) / nodes * width * parameters / NETWORKS[network] + 2 * (nodes - 1) * LATENCY_S[network]
        )
    return seconds


def step_s(net: Net, gpus: int, network: str, *, batch: int = GLOBAL_BATCH, width: int = 4) -> tuple[float, ...]:
    """(compute, all-reduce, of that not hidden behind the backward pass, update, all of it) in seconds."""
    compute, shared = net.compute_s(batch // gpus), all_reduce_s(net.parameters, gpus, network, width)
    # the backward pass is two thirds of the arithmetic; the last bucket has nothing to hide behind
    visible = max(shared - 2 / 3 * compute, shared * 25e6 / (4 * net.parameters))
    return compute, shared, visible, net.update_s, compute + visible + net.update_s


def counted(nets: list[Net]) -> str:
    """Table: what is counted."""
    rows = [
        "| net | parameters | GFLOP per sample | operations | gradients MB | checkpoint MB |",
        "|---|---|---|---|---|---|",
    ]
    for net in nets:
        rows.append(
            f"| {net.name} | {net.parameters / 1e6:.1f} M | {net.flops / 1e9:.1f} | {net.kernels} | "
            f"{4 * net.parameters / 1e6:.0f} | {12 * net.parameters / 1e6:.0f} |"
        )
    return "\n".join(rows)


def steps(net: Net) -> str:
    """Table: milliseconds per step."""
    rows = [
        "| network | GPUs | per GPU | compute | all-reduce | not hidden | update | step | samples/s | efficiency |",
        _RULE * 10 + "|",
    ]
    alone = net.flops / (ACHIEVED * MATRIX_RATE)
    for network in NETWORKS:
        for gpus in SIZES:
            parts = step_s(net, gpus, network)
            rate = GLOBAL_BATCH / parts[-1]
            times = " | ".join(f"{1e3 * part:.1f}" for part in parts)
            where = network if gpus > PER_NODE else "within the node"
            if gpus == PER_NODE and network != next(iter(NETWORKS)):
                continue
            rows.append(
                f"| {where} | {gpus} | {GLOBAL_BATCH // gpus} | {times} | {rate:,.0f} | {rate * alone / gpus:.0%} |"
            )
    return "\n".join(rows)


def remedies(net: Net) -> str:
    """Table: the step at 512 GPUs, milliseconds, with one thing changed after the other."""
    rows = ["| 512 GPUs | step ms | samples/s | efficiency |", _RULE * 4 + "|"]
    alone = net.flops / (ACHIEVED * MATRIX_RATE)
    for network in NETWORKS:
        for text, batch, width in (
            ("batch 1024, fp32 gradients", 1024, 4),
            ("batch 1024, bf16 gradients", 1024, 2),
            ("batch 8192, bf16 gradients", 8192, 2),
            ("batch 32768, bf16 gradients", 32768, 2),
        ):
            seconds = step_s(net, 512, network, batch=batch, width=width)[-1]
            rate = batch / seconds
            rows.append(f"| {text}, {network} | {1e3 * seconds:.1f} | {rate:,.0f} | {rate * alone / 512:.1%} |")
    return "\n".join(rows)


def reading(nets: list[Net]) -> str:
    """Table: bytes per second that training reads."""
    rows = ["| net | GPUs | samples/s | MB/s per node, from | MB/s in all |", _RULE * 5 + "|"]
    kinds = {"16_pixel_attn": ("raw", "compact"), "16_latent": ("latents",)}
    for net in nets:
        for gpus in SIZES:
            rate = GLOBAL_BATCH / step_s(net, gpus, next(iter(NETWORKS)))[-1]
            for kind in kinds[net.name]:
                total = rate * SAMPLE_S * STORED[kind] / 1e6
                node = total / (gpus // PER_NODE)
                rows.append(f"| {net.name} | {gpus} | {rate:,.0f} | {node:,.0f} {kind} | {total:,.0f} |")
    return "\n".join(rows)


def checkpoints(nets: list[Net]) -> str:
    """Table: what a checkpoint of weights and moments costs rank 0, in seconds."""
    rows = [
        "| net | bytes | to the host | written | start: rank 0 reads | start: the others receive |",
        _RULE * 6 + "|",
    ]
    for net in nets:
        size = 12 * net.parameters
        rows.append(
            f"| {net.name} | {size / 1e9:.2f} GB | {size / HOST_RATE:.2f} s | {size / DISK_RATE:.1f} s | "
            f"{size / DISK_RATE:.1f} s | {size / (NETWORKS['8 x 400 Gb/s InfiniBand'] / PER_NODE):.2f} s, "
            f"{size / NETWORKS['100 Gb/s Ethernet']:.2f} s by Ethernet |"
        )
    return "\n".join(rows)


def prices() -> str:
    """Table: what is assumed to be paid for what."""
    return "\n".join(
        [
            "| assumed price of | USD |",
            _RULE * 2 + "|",
            f"| a GPU of the kind below (H100), an hour | {GPU_HOUR_USD:.2f} |",
            f"| a machine of four CPUs, as Ray's head is, an hour | {HEAD_HOUR_USD:.2f} |",
            f"| a million requests to object storage that write or list | {1e6 * PUT_USD:.2f} |",
            f"| a million that read | {1e6 * GET_USD:.2f} |",
            f"| a GB in object storage, a month | {STORED_USD:.3f} |",
            f"| a GB that leaves its region; within it, nothing | {LEAVING_USD:.2f} |",
        ]
    )


def runs(net: Net) -> str:
    """Table: GPU hours and their price, of the preset's whole run and of the preset's sweep."""
    config, sweep = (load_config(_CONFIGS / f"{name}.yaml") for name in ("latentsync_16_pixel_attn", "sweep"))
    rows = ["| run | GPUs | hours | GPU hours | USD |", _RULE * 5 + "|"]
    fast, slow = NETWORKS
    what = f"{net.name}, {config.train.steps:,} steps of {config.train.global_batch}"
    for where, gpus, network in (
        ("one GPU", 1, fast),
        ("one machine", 8, fast),
        (f"8 machines, {fast}", 64, fast),
        (f"8 machines, {slow}", 64, slow),
    ):
        hours = config.train.steps * step_s(net, gpus, network, batch=config.train.global_batch)[-1] / 3600
        rows.append(_priced(f"{what}, {where}", gpus, hours))
    assert sweep.sweep is not None and sweep.sweep.trials is not None
    hours = sweep.train.steps * step_s(net, 1, fast, batch=sweep.train.global_batch)[-1] / 3600
    trials = sweep.sweep.trials
    what = f"a sweep: {trials} trials of {sweep.train.steps:,} steps of {sweep.train.global_batch}, a GPU each"
    return "\n".join([*rows, _priced(what, trials, hours)])


def _priced(what: str, gpus: int, hours: float) -> str:
    return f"| {what} | {gpus} | {hours:.2f} | {gpus * hours:.1f} | {gpus * hours * GPU_HOUR_USD:,.0f} |"


def surroundings(net: Net) -> str:
    """Table: what is paid for besides GPUs."""
    config = load_config(_CONFIGS / "latentsync_16_pixel_attn.yaml")
    size, saved, kept = 12 * net.parameters, config.train.steps // config.checkpoint.every, config.checkpoint.keep + 1
    puts, gets = 86400 * PUTS_PER_S, 86400 * GETS_PER_S
    compact, raw = (CORPUS_H * 3600 * STORED[kind] / 1e9 for kind in ("compact", "raw"))
    parts = saved * size / PART
    rows = [
        "| what | how much | USD |",
        _RULE * 3 + "|",
        f"| requests of a run, a day | {puts:,.0f} that write or list, {gets:,.0f} that read, at most | "
        f"{puts * PUT_USD + gets * GET_USD:.2f} |",
        f"| uploads of a run's {saved} checkpoints | {parts:,.0f} requests | {parts * PUT_USD:.2f} |",
        f"| {kept} checkpoints that are kept, a month | {kept * size / 1e9:.1f} GB | "
        f"{kept * size / 1e9 * STORED_USD:.2f} |",
        f"| {CORPUS_H} hours of video, compact, a month | {compact:.0f} GB | {compact * STORED_USD:.2f} |",
        f"| {CORPUS_H} hours of video, raw, a month | {raw:.0f} GB | {raw * STORED_USD:.2f} |",
        f"| the compact corpus, once to a machine of another region | {compact:.0f} GB | {compact * LEAVING_USD:.2f} |",
        f"| the raw corpus, once to a machine of another region | {raw:.0f} GB | {raw * LEAVING_USD:.2f} |",
        f"| a head that waits, a month | 730 hours | {730 * HEAD_HOUR_USD:.0f} |",
        f"| a machine of {PER_NODE} GPUs that is forgotten, a day | {24 * PER_NODE} GPU hours | "
        f"{24 * PER_NODE * GPU_HOUR_USD:.0f} |",
    ]
    return "\n".join(rows)


class _Operations(TorchDispatchMode):
    """Counts operations that compute something."""

    _FREE = ("view", "detach", "t.default", "transpose", "expand", "permute", "unsqueeze", "squeeze", "alias", "empty")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += not any(word in str(func) for word in self._FREE)
        return func(*args, **(kwargs or {}))


def tables() -> list[str]:
    """All tables, in the order of the document."""
    nets = [count(name) for name in NETS]
    costs = [prices(), runs(nets[0]), surroundings(nets[0])]
    return [*costs, counted(nets), *map(steps, nets), *map(remedies, nets), reading(nets), checkpoints(nets)]


if __name__ == "__main__":
    print("\n\n".join(tables()))
