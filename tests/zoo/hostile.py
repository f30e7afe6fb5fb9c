"""Files that would run code if they were unpickled freely: every way into a pickle, every container around it.

Where no weights can be had they are refused as unsafe. What stands beside good weights is read around.
"""

from __future__ import annotations

import builtins
import gzip
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
from tests.zoo.case import MARK, Bad, Build, Good
from tests.zoo.deepspeed import TAG, Zero
from tests.zoo.files import legacy_tar, parameter_tree, released, tar_of, torch_bytes, zip_of
from tests.zoo.libraries import accelerate
from tests.zoo.nets import stable_weights, trained
from tests.zoo.objects import Runs
from tests.zoo.sharded import BIN, shards, write_index

LEGACY: dict[str, Any] = {"_use_new_zipfile_serialization": False}


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


def _nested_bytes(mark: Path) -> Any:
    """torch's own function for storages in plain pickles unpickles the bytes that it is given."""
    return Calls(torch.storage._load_from_bytes, torch_bytes(Runs(mark), **LEGACY))


def _getattr_chain(mark: Path) -> Any:
    module = Calls(builtins.__import__, "os")
    return Calls(operator.call, Calls(getattr, module, "system"), f"touch {mark}")


_OBJECTS: dict[str, tuple[Callable[[Path], Any], str]] = {
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
    "torch's nested storages": (_nested_bytes, "system"),
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

# ---- containers


def _in_torch_zip(stream: bytes) -> bytes:
    return zip_of({"net/data.pkl": stream, "net/version": b"3\n"}, zipfile.ZIP_STORED)


def _in_legacy(stream: bytes, place: int = 3) -> bytes:
    """The five pickles of old torch files; the object is the fourth."""
    pickles = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    pickles[place] = stream
    return b"".join(pickles)


def _in_tar(stream: bytes, member: str) -> bytes:
    members = {
        "sys_info": pickle.dumps({"protocol_version": 1000}, 2),
        "pickle": pickle.dumps({}, 2),
        "tensors": pickle.dumps(0, 2),
        "storages": pickle.dumps(0, 2) + pickle.dumps([], 2),
    }
    return tar_of({**members, member: stream})


def _in_script(stream: bytes) -> bytes:
    return zip_of({"net/data.pkl": stream, "net/constants.pkl": stream, "net/version": b"3\n"}, zipfile.ZIP_STORED)


def _object_npz(stream: bytes) -> bytes:
    """An npz whose array is a pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    return zip_of({"audio_encoder.conv_in.weight.npy": buffer.getvalue() + stream})


_CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "plain pickle": lambda stream: stream,
    "torch zip": _in_torch_zip,
    "torch legacy": _in_legacy,
    "torch legacy, as system information": lambda stream: _in_legacy(stream, 2),
    "torch legacy, as storage names": lambda stream: _in_legacy(stream, 4),
    "torch 0.1 tar, as the object": lambda stream: _in_tar(stream, "pickle"),
    "torch 0.1 tar, as storages": lambda stream: _in_tar(stream, "storages"),
    "torch 0.1 tar, as tensors": lambda stream: _in_tar(stream, "tensors"),
    "TorchScript": _in_script,
    "gzip of a torch zip": lambda stream: gzip.compress(_in_torch_zip(stream)),
    "tar of a torch zip": lambda stream: tar_of({"net.pt": _in_torch_zip(stream)}),
    "npz": _object_npz,
}
# what is not the object holds no weights that were lost, so that the file may as well be called empty or broken
_ELSEWHERE = ("as system information", "as storage names", "as storages", "as tensors", "npz")


def stream_file(make: Callable[[Path], bytes], name: str = "net.pt") -> Build:
    """A case's `build`: bytes that know which file their payload makes."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(make(folder / MARK))
        return folder / name

    return build


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


def _container_case(name: str, wrap: Callable[[bytes], bytes]) -> Bad:
    elsewhere = any(name.endswith(words) for words in _ELSEWHERE)
    reasons = (UNSAFE, CORRUPT, NO_WEIGHTS, RefusalReason.UNSUPPORTED) if elsewhere else UNSAFE
    build = stream_file(lambda mark: wrap(pickle.dumps(Runs(mark), 2)))
    return Bad(f"payload in {name}", "payloads by container", build, reasons, () if elsewhere else ("system",))


# ---- beside good weights, in files and folders


def _accelerate_with(file: str) -> Build:
    def build(folder: Path) -> Path:
        made = accelerate(True)(folder)
        torch.save(Runs(folder / MARK), made / file)
        return made

    return build


def _bin_shard(folder: Path) -> Path:
    """A payload beside the tensors of one shard."""
    placed, index = shards(folder, BIN)
    first = folder / next(iter(placed.values()))
    torch.save({**torch.load(first), "extra": Runs(folder / MARK)}, first)
    write_index(index, placed)
    return folder


def _bin_shard_only(folder: Path) -> Path:
    placed, index = shards(folder, BIN)
    torch.save(Runs(folder / MARK), folder / next(iter(placed.values())))
    write_index(index, placed)
    return folder


def _zero_with_payload(folder: Path) -> Path:
    Zero(2).write(folder)
    torch.save(Runs(folder / MARK), folder / TAG / "zero_pp_rank_1_mp_rank_00_optim_states.pt")
    return folder


def _tar_beside(mark: Path) -> bytes:
    return legacy_tar({"state_dict": stable_weights(), "extra": Runs(mark)})


def _script_beside(mark: Path) -> bytes:
    """A good program with a payload among its constants."""
    script, buffer = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(parameter_tree(stable_weights())), script)
    with zipfile.ZipFile(script) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            payload = info.filename.endswith("/constants.pkl")
            new.writestr(info.filename, pickle.dumps(Runs(mark), 2) if payload else old.read(info))
    return buffer.getvalue()


_GOOD_BESIDE: dict[str, Build] = {
    "pickle of tensors": stream_file(lambda mark: pickle.dumps({**released(), "extra": Runs(mark)})),
    "torch 0.1 tar": stream_file(_tar_beside),
    "TorchScript's constants": stream_file(_script_beside),
    "a bin shard": _bin_shard,
    "a key": stream_file(lambda mark: torch_bytes({**released(), Runs(mark): 1})),
    "a state setter": stream_file(lambda mark: torch_bytes({**released(), "extra": Settles(mark)})),
    "pickle.loads": stream_file(lambda mark: torch_bytes({**released(), "x": _OBJECTS["pickle.loads"][0](mark)})),
}


def _moments() -> Any:
    return trained().moments


_ACCELERATE: dict[str, Any] = {"step": None, "epoch": None}
CASES: tuple[Good | Bad, ...] = (
    *(
        Bad(
            f"payload by {name}, protocol {p}",
            "payloads by opcode",
            stream_file(_pickled(make, p)),
            _reason(name),
            _says(name, word),
        )
        for name, (make, word) in _OBJECTS.items()
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
            stream_file(lambda mark, make=make: _in_torch_zip(make(mark))),
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
    *(_container_case(name, wrap) for name, wrap in _CONTAINERS.items()),
    *(Good(f"payload beside weights: {name}", "payloads beside weights", make) for name, make in _GOOD_BESIDE.items()),
    Good(
        "payload for Accelerate's optimizer",
        "payloads beside weights",
        _accelerate_with("optimizer.bin"),
        decides=("fresh",),
        **_ACCELERATE,
    ),
    Good(
        "payload for Accelerate's generators",
        "payloads beside weights",
        _accelerate_with("random_states_0.pkl"),
        moments=_moments,
        **_ACCELERATE,
    ),
    Bad("payload for a whole bin shard", "payloads by container", _bin_shard_only, (UNSAFE, CORRUPT), ("system",)),
    Bad("payload for a ZeRO rank", "payloads by container", _zero_with_payload, (UNSAFE, CORRUPT)),
)
