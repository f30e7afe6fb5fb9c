"""Batches for one worker, read ahead into memory that is used again."""

from orchestrator.data.loader.batch import Batch, BatchMemory, collate
from orchestrator.data.loader.loader import TrainLoader

__all__ = ["Batch", "BatchMemory", "TrainLoader", "collate"]
