"""What runs inside a Ray Train worker: what it is told, and the train function."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from orchestrator.checkpoint import TrainState, read_state
from orchestrator.checkpoint.shelf import above, name_of
from orchestrator.config.load import load_config
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.runtime.logs import identify
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.sharing import shared
from orchestrator.storage import open_folder
from orchestrator.training.evaluation import PairList
from orchestrator.training.host_memory import ask_for_huge_pages

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartingState:
    """A normalized starting state."""

    path: str
    """Its directory."""
    state_hash: str
    """Its content address."""
    origin: dict[str, Any]
    """How it came to be: the report of inspecting the file, and the figures that the file remembers."""
    reference: Any = None
    """Where it lies in Ray's object store; none reads the directory."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is told: plain values only, so that it can be pickled to any node."""

    config: dict[str, Any]
    """The configuration as plain data."""
    run_folder: str
    """The run's folder: a path or a URI."""
    start_state: str | None
    """The normalized directory of `start.checkpoint`."""
    origin: dict[str, Any] | None = None
    """How that directory came to be: the report of inspecting the file, and the figures that the file remembers."""
    pairs: str | None = None
    """A stored list of validation pairs; none draws the list that the configuration describes."""
    until: int | None = None
    """The step after which to save and pause, if that is before the last one."""
    shared: Any = None
    """Where the starting state lies in Ray's object store; none reads it from its directory."""

    def settings(self) -> RunConfig:
        """The checked configuration."""
        return load_config(self.config)

    def corpus(self, config: RunConfig) -> Corpus:
        """The prepared corpus, through this node's cache if there is one."""
        return Corpus.open(config.data.path or "", config.data.cache)

    def given(self) -> TrainState | None:
        """The state of `start.checkpoint`: the shared one, which was verified when it was shared, or the directory's,
        verified against its hashes."""
        if self.shared is not None:
            return shared(self.shared)
        return None if self.start_state is None else read_state(self.start_state)

    def pair_list(self, config: RunConfig, corpus: Corpus) -> PairList | None:
        """The stored list of validation pairs; none if there is none."""
        if self.pairs is None:
            return None
        with open_folder(above(self.pairs)).local(name_of(self.pairs)) as file:
            return PairList.stored(file, corpus, "val", config.model.num_frames)


def train_worker(payload: dict[str, Assignment]) -> None:
    """The train function of every worker; Ray hands it a mapping."""
    ask_for_huge_pages()
    # the driver loads this module only to name this function
    from orchestrator.runtime.context import RayContext, world_rank
    from orchestrator.runtime.home import at_home
    from orchestrator.training.loop import train_loop

    assignment = payload["assignment"]
    config = assignment.settings()
    # the decision to share a core between several threads belongs to the person who gave the worker its CPUs
    torch.set_num_threads(max(1, int(config.scale.cpus_per_worker)))
    corpus = assignment.corpus(config)
    paths = RunPaths.at(assignment.run_folder)
    with at_home(paths, bring=False, listens=world_rank() == 0):
        context = RayContext(paths, config, until=assignment.until)
        identify(assignment.run_folder, context.rank)
        _log.info("rank %d of %d trains on %s", context.rank, context.world_size, context.device)
        train_loop(config, corpus, context, assignment.given, pairs=assignment.pair_list(config, corpus))
