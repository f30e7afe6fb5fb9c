"""The kinds of files, in the order in which they are tried. A new one is a file here and a line in `CONTAINERS`."""

from __future__ import annotations

from orchestrator.checkpoint.formats.containers.safetensors_file import SAFETENSORS
from orchestrator.checkpoint.formats.containers.torch_legacy import PLAIN_PICKLE, TORCH_LEGACY
from orchestrator.checkpoint.formats.containers.torch_zip import TORCH_ZIP

CONTAINERS = (TORCH_ZIP, SAFETENSORS, TORCH_LEGACY, PLAIN_PICKLE)
"""The first that detects a file reads it."""

__all__ = ["CONTAINERS"]
