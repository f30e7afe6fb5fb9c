"""Foreign files: from bytes to weights, step and optimizer, without running anything that a file names.

`open_source` looks, `read_file` reads. The first container that recognises the bytes and the first layout that
recognises the object win; the file's name plays no part.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from orchestrator.checkpoint.formats.base import HEAD, Contents, Extracted, SourceFile, refuse
from orchestrator.checkpoint.formats.containers import CONTAINERS
from orchestrator.checkpoint.formats.containers.not_checkpoint import refuse_file
from orchestrator.checkpoint.formats.layouts import LAYOUTS
from orchestrator.errors import CheckpointError, RefusalReason

_LOOKS_LIKE_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def open_source(path: str | Path) -> SourceFile:
    """Look at the beginning of a file.

    Raises:
        CheckpointError: `missing`, or `not_a_checkpoint` for a directory.
    """
    where = Path(path)
    if not where.exists():
        raise CheckpointError(
            f"there is no file {where}", reason=RefusalReason.MISSING, path=str(where), hint="check the path"
        )
    if where.is_dir():
        raise _refuse_directory(where)
    with where.open("rb") as file:
        return SourceFile(where, where.stat().st_size, file.read(HEAD))


def read_file(source: SourceFile) -> tuple[Contents, Extracted]:
    """Read a file and take it apart.

    Raises:
        CheckpointError: the file is refused; `reason` says why.
    """
    for container in CONTAINERS:
        if container.detect(source):
            contents = container.read(source)
            return contents, _take_apart(source, contents)
    raise refuse_file(source)


def _take_apart(source: SourceFile, contents: Contents) -> Extracted:
    for layout in LAYOUTS:
        if layout.detect(contents):
            return layout.extract(contents)
    if isinstance(contents.data, Tensor):
        what = f"is not a checkpoint: it holds one tensor of shape {list(contents.data.shape)}, like a cached mel"
        raise refuse(source, RefusalReason.NOT_A_CHECKPOINT, what, "give the file with the model's weights")
    raise refuse(
        source,
        RefusalReason.NO_WEIGHTS,
        f"holds no model weights, but {_describe(contents.data)}",
        "known are a `state_dict` entry and a bare dict of tensors",
    )


def _describe(data: object) -> str:
    if isinstance(data, dict):
        keys = ", ".join(str(key)[:40] for key in list(data)[:6])
        return f"a dict with {keys}" if keys else "an empty dict"
    return f"a {type(data).__name__}"


def _refuse_directory(where: Path) -> CheckpointError:
    inside = sorted(item.name for item in where.iterdir() if item.suffix in _LOOKS_LIKE_WEIGHTS)
    hint = f"give one of its files: {', '.join(inside[:4])}" if inside else "give the file with the weights"
    return CheckpointError(
        f"{where.name} is a directory, but not a normalized checkpoint",
        reason=RefusalReason.NOT_A_CHECKPOINT,
        path=str(where),
        hint=hint,
    )


__all__ = ["Contents", "Extracted", "SourceFile", "open_source", "read_file"]
