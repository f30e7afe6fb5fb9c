"""What runs inside a Ray Train worker: the loop's surroundings under Ray, and the train function.

Checkpoints are written whole into their final place (`save_state` renames) and then registered with Ray without an
upload of Ray's own, so that a killed worker never leaves half a checkpoint where a whole one is expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.checkpoint.ray_bridge import state_from_ray_checkpoint, to_ray_checkpoint
from orchestrator.config.load import load_config
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.training.local import save_once
from orchestrator.training.loop import train_loop
from orchestrator.training.metrics import score

ANNOUNCEMENT = "announcement"
"""Key of a report that carries the facts of the start instead of figures."""
RETENTION = "retention_score"
"""Key of the figure by which Ray keeps checkpoints."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is told: plain values only, so that it can be pickled to any node."""

    config: dict[str, Any]
    """The configuration as plain data."""
    run_folder: str
    """The run's folder."""
    start_state: str | None
    """The normalized directory of `start.checkpoint`."""
    origin: dict[str, Any] | None = None
    """How that directory came to be: the report of inspecting the file, and the figures that the file remembers."""

    def settings(self) -> RunConfig:
        """The checked configuration."""
        return load_config(self.config)

    def corpus(self, config: RunConfig) -> Corpus:
        """The prepared corpus, through this node's cache if there is one."""
        return Corpus.open(config.data.path or "", config.data.cache)

    def given(self) -> TrainState | None:
        """The state of `start.checkpoint`, verified against its hashes."""
        return None if self.start_state is None else read_state(self.start_state)


def train_worker(payload: dict[str, Assignment]) -> None:
    """The train function of every worker; Ray hands it a mapping."""
    assignment = payload["assignment"]
    config = assignment.settings()
    # the decision to share a core between several threads belongs to the person who gave the worker its CPUs
    torch.set_num_threads(max(1, int(config.scale.cpus_per_worker)))
    train_loop(config, assignment.corpus(config), RayContext(assignment, config), assignment.given)


class RayContext:
    """A `TrainContext` on one Ray Train worker."""

    def __init__(self, assignment: Assignment, config: RunConfig) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._folder = Path(assignment.run_folder)
        self._metric = config.checkpoint.metric

    def latest(self) -> TrainState | None:
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else state_from_ray_checkpoint(checkpoint)

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        if self.world_size == 1:
            return model
        # gradient_as_bucket_view spares a copy of all gradients; the buckets are sized by torch
        return ray.train.torch.prepare_model(
            model, move_to_device=False, parallel_strategy_kwargs={"gradient_as_bucket_view": True}
        )

    def announce(self, facts: Mapping[str, object]) -> None:
        ray.train.report({ANNOUNCEMENT: dict(facts)})

    def report(self, metrics: Mapping[str, float], state: TrainState | None) -> None:
        figures: dict[str, Any] = dict(metrics)
        if self._metric in metrics:
            # on a tie Ray would keep the later checkpoint; the earlier one stays the best until it is beaten
            figures[RETENTION] = score(self._metric, metrics[self._metric]) - 1e-9 * metrics["step"]
        if state is None:
            ray.train.report(figures)
            return
        folder = save_once(state, self._folder)
        ray.train.report(
            figures,
            checkpoint=to_ray_checkpoint(folder),
            checkpoint_dir_name=folder.name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
        )
