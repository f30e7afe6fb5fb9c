"""A trained SyncNet as a loss for whoever trains a generator of talking faces; docs/expert.md shows its use."""

from orchestrator.expert.expert import SyncExpert
from orchestrator.expert.pictures import Layout, Region

__all__ = ["Layout", "Region", "SyncExpert"]
