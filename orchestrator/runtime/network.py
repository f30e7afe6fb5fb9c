"""A network for tasks that judge clips: read once, sent once, built once per process.

Why: many tasks ask the same network, and a file of weights may lie where only this process can read it. Contract: what
`HereTowers` and `SentTowers` give embeds alike; a `SentTowers` is small however large the network is, because tasks
carry only the reference to what lies in Ray's object store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import ray
import torch

from orchestrator.config.model import AnyModelConfig
from orchestrator.evaluation.towers import Towers
from orchestrator.models import SyncNet, build_model


@dataclass(frozen=True, eq=False)
class HereTowers:
    """The network in this process."""

    model: SyncNet
    device: str | None = None
    """Where to compute; none means a GPU where there is one."""
    batch: int = 64
    """Windows that go through a tower at once."""

    def __call__(self) -> Towers:
        return self._built

    @cached_property
    def _built(self) -> Towers:
        """The same for all units, which then embed only once what they have in common."""
        return _towers(self.model, self.device, self.batch)


@dataclass(frozen=True)
class SentTowers:
    """The network in the processes of a cluster."""

    weights: ray.ObjectRef[dict[str, torch.Tensor]]
    """Where its weights lie."""
    config: AnyModelConfig
    """What it is."""
    key: str
    """Tells it from others in the same process."""
    device: str | None
    """Where to compute; none means a GPU where the task has one."""
    batch: int = 64

    @classmethod
    def send(cls, model: SyncNet, device: str | None = None, batch: int = 64) -> SentTowers:
        """Put a network into the object store of the connected cluster."""
        # with numbers as numpy arrays, tasks of one node share them
        weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
        reference: Any = ray.put(weights)
        return cls(reference, model.config, reference.hex(), device, batch)

    def __call__(self) -> Towers:
        return _arrived(self)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SentTowers) and other.key == self.key


def tasks_at_once(workers: int | None) -> int:
    """How many tasks on Ray judge clips at a time; 0 for none, and this process.

    Args:
        workers: as asked for; none means Ray, with a task for each CPU here, where RAY_ADDRESS names a cluster.
    """
    if workers is not None:
        return workers
    return (os.cpu_count() or 1) if os.environ.get("RAY_ADDRESS") else 0


@lru_cache(maxsize=1)
def _arrived(sent: SentTowers) -> Towers:
    weights: Any = ray.get(sent.weights)
    model = build_model(sent.config)
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return _towers(model, sent.device, sent.batch)


def _towers(model: SyncNet, device: str | None, batch: int) -> Towers:
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Towers(model.eval().to(target), batch, target)
