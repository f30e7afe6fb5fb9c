"""One of the processes that save folders of `torch.distributed.checkpoint`: `python -m tests.zoo.ranks FOLDER RANK`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tests.zoo.nets import STEPS, net_of, stable_weights, trained


def main(folder: Path, rank: int, ranks: int = 2) -> None:
    """Save both layouts with all ranks together."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    ddp = DistributedDataParallel(net_of(stable_weights()))
    dcp.save({"model": ddp.state_dict(), "optimizer": trained().optimizer, "step": STEPS}, checkpoint_id=folder / "ddp")
    dcp.save(_sharded(ranks), checkpoint_id=folder / "fsdp")
    dist.destroy_process_group()


def _sharded(ranks: int) -> dict[str, Any]:
    """Weights and moments in which each rank holds its part of every tensor."""
    model = net_of(stable_weights())
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for name, parameter in model.named_parameters():
        moments = trained().moments[name]
        put = _like(parameter)
        optimizer.state[parameter] = {slot: put(moments[slot]) for slot in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter]["step"] = moments["step"]
    weights, states = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": states, "step": STEPS}


def _like(parameter: nn.Parameter) -> Callable[[Tensor], Tensor]:
    assert isinstance(parameter, DTensor)
    return lambda tensor: distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
