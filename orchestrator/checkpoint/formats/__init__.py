"""Foreign files and folders: from bytes to weights, step and optimizer, without running anything that they name.

`read_checkpoint` reads, `take_apart` finds the training state in what was read, `scan` compares every checksum. The
first container or folder format that recognises the bytes and the first layout that recognises the object win; names
of files play no part.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.checkpoint.formats.base import Contents, Extracted, Part, SourceFile, no_weights, refuse
from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.containers import read_source
from orchestrator.checkpoint.formats.folders import is_index, read_folder, read_index_file
from orchestrator.checkpoint.formats.layouts import layout_of
from orchestrator.checkpoint.formats.layouts.values import describe, is_tensor
from orchestrator.checkpoint.formats.scan import Identity, scan
from orchestrator.errors import CheckpointError, RefusalReason


def read_checkpoint(path: Path) -> Contents:
    """Read a file or folder; tensors look into it and are not touched yet.

    Raises:
        CheckpointError: it is refused; `reason` says why.
    """
    if not path.exists():
        raise CheckpointError(
            f"there is no file {path}", reason=RefusalReason.MISSING, path=str(path), hint="check the path"
        )
    try:
        if path.is_dir():
            return read_folder(path)
        if not path.is_file():
            what = "is not a checkpoint: it is a pipe, a socket or a device"
            raise refuse(path, RefusalReason.NOT_A_CHECKPOINT, what, "give a file or a folder")
        source = SourceFile(path, Blob.of_file(path))
        return read_index_file(path) if is_index(source) else read_source(source)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise refuse(path, RefusalReason.STORAGE, what, "check its permissions and the disk") from error


def take_apart(path: Path, contents: Contents, weights: str = "raw") -> Extracted:
    """Find the training state in what was read.

    Args:
        path: for messages.
        contents: what was read.
        weights: `raw` or `ema`.

    Raises:
        CheckpointError: `no_weights`, `unsafe`, `not_a_checkpoint`, or `mismatch` when it is not clear which are meant.
    """
    layout = layout_of(contents)
    if layout is not None:
        return layout.extract(contents, weights, path)
    if is_tensor(contents.data):
        what = f"is not a checkpoint: it holds {describe(contents.data)}, like a cached mel"
        raise refuse(path, RefusalReason.NOT_A_CHECKPOINT, what, "give the file with the model's weights")
    raise no_weights(path, describe(contents.data), contents.placeholders)


__all__ = ["Contents", "Extracted", "Identity", "Part", "SourceFile", "read_checkpoint", "scan", "take_apart"]
