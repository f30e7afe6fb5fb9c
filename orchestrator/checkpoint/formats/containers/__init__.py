"""The kinds of files, in the order in which they are tried. A new one is a file here and a line in `CONTAINERS`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, SourceFile
from orchestrator.checkpoint.formats.containers.archives import make_archives
from orchestrator.checkpoint.formats.containers.not_checkpoint import refuse_file
from orchestrator.checkpoint.formats.containers.npz import NPZ
from orchestrator.checkpoint.formats.containers.plain_pickle import PLAIN_PICKLE
from orchestrator.checkpoint.formats.containers.safetensors_file import SAFETENSORS
from orchestrator.checkpoint.formats.containers.torch_legacy import TORCH_LEGACY
from orchestrator.checkpoint.formats.containers.torch_tar import TORCH_TAR
from orchestrator.checkpoint.formats.containers.torch_zip import TORCH_ZIP


def read_source(source: SourceFile) -> Contents:
    """Read one file.

    Raises:
        CheckpointError: it is refused; `reason` says why.
    """
    for container in CONTAINERS:
        if container.detect(source):
            return container.read(source)
    raise refuse_file(source)


def _read_folder(folder: Path) -> Contents:
    from orchestrator.checkpoint.formats.folders import read_folder  # which reads files through this module

    return read_folder(folder)


CONTAINERS = (
    TORCH_ZIP, NPZ, SAFETENSORS, TORCH_LEGACY, TORCH_TAR, PLAIN_PICKLE, *make_archives(read_source, _read_folder)
)  # fmt: skip
"""The first that detects a file reads it; archives, which hold others, come last."""

__all__ = ["CONTAINERS", "read_source"]
