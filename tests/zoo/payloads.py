"""Every way into a pickle: files that are a payload and nothing else, and are refused as unsafe."""

from __future__ import annotations

import builtins
import importlib
import io
import operator
import os
import pickle
import runpy
import subprocess
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.errors import RefusalReason
from tests.zoo.case import MARK, Bad, Build
from tests.zoo.files import LEGACY, torch_bytes, zip_of
from tests.zoo.objects import Runs


class Calls:
    """Unpickles to what a function gives."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Builder:
    """Runs a command when its state is set."""

    def __setstate__(self, command: str) -> None:
        os.system(command)


class Settles:
    """Unpickles with a function that sets the state."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return set, ([],), f"touch {self.mark}", None, None, _os_system


def _os_system(target: object, command: str) -> None:
    os.system(command)


def _touch(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w').close()"


# ---- ways into a pickle; each is given the file to make


def nested_bytes(mark: Path) -> Any:
    """torch's own function for storages in plain pickles unpickles the bytes that it is given."""
    return Calls(torch.storage._load_from_bytes, torch_bytes(Runs(mark), **LEGACY))


def _getattr_chain(mark: Path) -> Any:
    module = Calls(builtins.__import__, "os")
    return Calls(operator.call, Calls(getattr, module, "system"), f"touch {mark}")


OBJECTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "os.system": (lambda mark: Calls(os.system, f"touch {mark}"), "system"),
    "subprocess.Popen": (lambda mark: Calls(subprocess.Popen, ["touch", str(mark)]), "Popen"),
    "subprocess.check_output": (lambda mark: Calls(subprocess.check_output, ["touch", str(mark)]), "check_output"),
    "exec": (lambda mark: Calls(exec, _touch(mark)), "exec"),
    "eval": (lambda mark: Calls(eval, _touch(mark)), "eval"),
    "open": (lambda mark: Calls(open, str(mark), "w"), "open"),
    "importlib": (lambda mark: Calls(importlib.import_module, "this"), "import_module"),
    "__import__ and getattr": (_getattr_chain, "__import__"),
    "runpy": (lambda mark: Calls(runpy.run_path, str(mark)), "run_path"),
    "partial": (lambda mark: Calls(partial(os.system, f"touch {mark}")), "partial"),
    "pickle.loads": (lambda mark: Calls(pickle.loads, pickle.dumps(Runs(mark))), "loads"),
    "torch.load": (lambda mark: Calls(torch.load, io.BytesIO(torch_bytes(Runs(mark)))), "load"),
    "torch's nested storages": (nested_bytes, "system"),
    "numpy.load": (lambda mark: Calls(np.load, str(mark)), "load"),
    "a state setter": (Settles, "_os_system"),
}


def _stack_global(mark: Path) -> bytes:
    """Names taken from the stack, in parts that a search for `os.system` does not find."""
    command = f"touch {mark}".encode()
    return b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(command)]) + command + b"\x85R."


def _memo_global(mark: Path) -> bytes:
    """The same, with the words fetched from the memo in another order."""
    command = f"touch {mark}".encode()
    words = b"\x8c\x06system\x94\x8c\x05posix\x94" + b"00" + b"h\x01h\x00\x93"
    return b"\x80\x04" + words + b"\x8c" + bytes([len(command)]) + command + b"\x85R."


def _build(mark: Path) -> bytes:
    """BUILD calls `__setstate__` of a class of the file's choice."""
    command = f"touch {mark}".encode()
    name = f"c{Builder.__module__}\nBuilder\n".encode()
    return b"\x80\x02" + name + b")\x81X" + len(command).to_bytes(4, "little") + command + b"b."


def _inst(mark: Path) -> bytes:
    """INST, an opcode of protocol 0 that calls."""
    return b"\x80\x02(S'touch " + str(mark).encode() + b"'\niposix\nsystem\n."


def _obj(mark: Path) -> bytes:
    """OBJ, an opcode of protocol 1 that calls."""
    return b"\x80\x02(cposix\nsystem\nS'touch " + str(mark).encode() + b"'\no."


def _newobj_ex(mark: Path) -> bytes:
    """NEWOBJ_EX, with arguments by name."""
    command = f"touch {mark}".encode()
    popen = b"csubprocess\nPopen\n"
    return b"\x80\x04" + popen + b"\x8c" + bytes([len(command)]) + command + b"\x85}\x8c\x05shell\x88s\x92."


def _extension(mark: Path) -> bytes:
    """EXT1, a number for a name that the process may have registered."""
    return b"\x80\x02\x82\x01)R."


def _protocol_0(mark: Path) -> bytes:
    return pickle.dumps(Runs(mark), 0)


_STREAMS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "STACK_GLOBAL": (_stack_global, "system"),
    "STACK_GLOBAL from the memo": (_memo_global, "system"),
    "BUILD": (_build, "Builder"),
    "INST": (_inst, "system"),
    "OBJ": (_obj, "system"),
    "NEWOBJ_EX": (_newobj_ex, "Popen"),
}


def stream_file(make: Callable[[Path], bytes], name: str = "net.pt") -> Build:
    """A case's `build`: bytes that know which file their payload makes."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(make(folder / MARK))
        return folder / name

    return build


def in_torch_zip(stream: bytes) -> bytes:
    return zip_of({"net/data.pkl": stream, "net/version": b"3\n"}, zipfile.ZIP_STORED)


def _pickled(make: Callable[[Path], Any], protocol: int) -> Callable[[Path], bytes]:
    return lambda mark: pickle.dumps(make(mark), protocol)


# an object of any class may set its state; that this one does harm cannot be seen
_ANY_OBJECT = ("BUILD", "a state setter")
# what is no storage is damage where a storage should be
_NO_STORAGE = "torch's nested storages"
UNSAFE, CORRUPT, NO_WEIGHTS = RefusalReason.UNSAFE, RefusalReason.CORRUPT, RefusalReason.NO_WEIGHTS
_EXTENSION = (UNSAFE, CORRUPT, NO_WEIGHTS, RefusalReason.UNSUPPORTED)
_NOT = RefusalReason.NOT_A_CHECKPOINT


def _reason(name: str) -> tuple[RefusalReason, ...]:
    if name == _NO_STORAGE:
        return UNSAFE, CORRUPT
    return (UNSAFE, NO_WEIGHTS) if name in _ANY_OBJECT else (UNSAFE,)


def _says(name: str, word: str) -> tuple[str, ...]:
    return () if name in (*_ANY_OBJECT, _NO_STORAGE) else (word,)


CASES: tuple[Bad, ...] = (
    *(
        Bad(
            f"payload by {name}, protocol {p}",
            "payloads by opcode",
            stream_file(_pickled(make, p)),
            _reason(name),
            _says(name, word),
        )
        for name, (make, word) in OBJECTS.items()
        for p in (2, 4)
        if name != "torch.load"
    ),
    *(
        Bad(f"payload by {name}", "payloads by opcode", stream_file(make), _reason(name), _says(name, word))
        for name, (make, word) in _STREAMS.items()
    ),
    *(
        Bad(
            f"payload by {name}, in a torch zip",
            "payloads by opcode",
            stream_file(lambda mark, make=make: in_torch_zip(make(mark))),
            _reason(name),
            _says(name, word),
        )
        for name, (make, word) in _STREAMS.items()
    ),
    Bad("payload by EXT1", "payloads by opcode", stream_file(_extension), _EXTENSION),
    Bad(
        "payload by protocol 0",
        "payloads by opcode",
        stream_file(_protocol_0),
        (UNSAFE, RefusalReason.NOT_A_CHECKPOINT),
    ),
)
