"""Plain pickles: `pickle.dump` of tensors or numpy arrays, without torch.save around them."""

from __future__ import annotations

import re

from orchestrator.checkpoint.formats.base import Container, Contents, Part, SourceFile, damaged, refuse
from orchestrator.checkpoint.formats.containers.storages import load_storage
from orchestrator.checkpoint.formats.pickles import BrokenPickle, read, report_names
from orchestrator.errors import RefusalReason

_JOBLIB = b"joblib.numpy_pickle"

# protocols 0 and 1 have no header: a dict, a list, an object or a name that is called
_TEXT_PICKLE = re.compile(rb"\(d|\(l|\}q|\]q|\(i[\w.]+\n|c[\w.]+\n[\w.]+\n(p\d+\n|q|[()\]}])")


def detect(source: SourceFile) -> bool:
    """Whether the file begins like a pickle of any protocol."""
    head = source.head
    return (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or bool(_TEXT_PICKLE.match(head))


def read_plain(source: SourceFile) -> Contents:
    """Read the object."""
    names: set[str] = set()
    try:
        data = read(source.blob.open(), names, None, load_storage)
    except BrokenPickle as error:
        if _JOBLIB in source.head:
            what = "was written by joblib, which puts arrays between the instructions of its pickle"
            raise refuse(source, RefusalReason.UNSUPPORTED, what, "save it with torch.save or numpy.savez") from error
        raise damaged(source, f"it begins like a pickle, but is none ({error})") from error
    return Contents(PLAIN_PICKLE.name, data, (Part(source.blob),), placeholders=report_names(names))


PLAIN_PICKLE = Container("pickle", detect, read_plain)
