"""The SyncNets, by name, and their losses.

Promise: a model built here has exactly the tensors of its upstream, and gives the same embeddings for the same
weights and input.
"""

from orchestrator.models.base import SyncNet
from orchestrator.models.losses import CHANCE_LOSS, PairLoss, bce_of_cosines, build_loss, cosine_bce, cosine_similarity
from orchestrator.models.registry import FAMILIES, build_meta, build_model, skeleton

__all__ = [
    "CHANCE_LOSS",
    "FAMILIES",
    "PairLoss",
    "SyncNet",
    "bce_of_cosines",
    "build_loss",
    "build_meta",
    "build_model",
    "cosine_bce",
    "cosine_similarity",
    "skeleton",
]
