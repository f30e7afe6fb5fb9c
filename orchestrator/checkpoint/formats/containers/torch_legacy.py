"""The files of `torch.save` before torch 1.6, and of `_use_new_zipfile_serialization=False` since.

Five pickles after one another (magic number, protocol, system, object, storage names), then the bytes of the tensors.
Contract: all five are scanned before one is read.
"""

from __future__ import annotations

from orchestrator.checkpoint.formats.base import Container, Contents, SourceFile, refuse
from orchestrator.checkpoint.formats.pickle_scan import beside_weights, foreign, named_globals
from orchestrator.checkpoint.formats.torch_safe import damaged, load_tensors_only, unsafe
from orchestrator.errors import RefusalReason

# the number 0x1950a86a20f9469cfc6c, with which torch begins such files, as protocol 2 pickles it
_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_PICKLES = 5


def detect(source: SourceFile) -> bool:
    """Whether the file begins with torch's magic number, whichever pickle protocol wrote it."""
    return source.head.startswith(b"\x80") and _MAGIC in source.head[:32]


def read(source: SourceFile) -> Contents:
    """Look at what the pickles name, then load tensors only."""
    names = _scan(source, _PICKLES)
    data = load_tensors_only(source, mmap=False)
    return Contents(TORCH_LEGACY.name, data, allowed_classes=beside_weights(names))


def detect_pickle(source: SourceFile) -> bool:
    """Whether the file begins like a pickle that torch did not write."""
    return source.head[:1] == b"\x80" and source.head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def refuse_pickle(source: SourceFile) -> Contents:
    """A plain pickle is told apart into one that names code and one that is merely not supported."""
    _scan(source, 1)
    raise refuse(
        source,
        RefusalReason.UNSUPPORTED,
        "is a plain pickle, not written by torch.save",
        "load it where it was made and write it again with torch.save or safetensors",
    )


TORCH_LEGACY = Container("torch-legacy", detect, read)
PLAIN_PICKLE = Container("pickle", detect_pickle, refuse_pickle)


def _scan(source: SourceFile, pickles: int) -> list[str]:
    """Every name in the pickles at the beginning of the file; unsafe ones are refused even in a damaged file."""
    names: set[str] = set()
    with source.path.open("rb") as file:
        for i in range(pickles):
            try:
                names |= set(named_globals(file))
            except ValueError as error:
                raise damaged(source, f"pickle {i + 1} of {pickles} in it is cut short or broken") from error
            if foreign(names):
                raise unsafe(source, sorted(foreign(names)))
    return sorted(names)
