"""Payloads in every container and folder; beside good weights they are read around, else they are refused."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
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
from tests.zoo.payloads import OBJECTS, Settles, in_torch_zip, stream_file
from tests.zoo.sharded import BIN, shards, write_index

UNSAFE, CORRUPT, NO_WEIGHTS = RefusalReason.UNSAFE, RefusalReason.CORRUPT, RefusalReason.NO_WEIGHTS

# ---- containers


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
    "torch zip": in_torch_zip,
    "torch legacy": _in_legacy,
    "torch legacy, as system information": lambda stream: _in_legacy(stream, 2),
    "torch legacy, as storage names": lambda stream: _in_legacy(stream, 4),
    "torch 0.1 tar, as the object": lambda stream: _in_tar(stream, "pickle"),
    "torch 0.1 tar, as storages": lambda stream: _in_tar(stream, "storages"),
    "torch 0.1 tar, as tensors": lambda stream: _in_tar(stream, "tensors"),
    "TorchScript": _in_script,
    "gzip of a torch zip": lambda stream: gzip.compress(in_torch_zip(stream)),
    "tar of a torch zip": lambda stream: tar_of({"net.pt": in_torch_zip(stream)}),
    "npz": _object_npz,
}
# what is not the object holds no weights that were lost, so that the file may as well be called empty or broken
_ELSEWHERE = ("as system information", "as storage names", "as storages", "as tensors", "npz")


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
    "pickle.loads": stream_file(lambda mark: torch_bytes({**released(), "x": OBJECTS["pickle.loads"][0](mark)})),
}


def _moments() -> Any:
    return trained().moments


_ACCELERATE: dict[str, Any] = {"step": None, "epoch": None}
CASES: tuple[Good | Bad, ...] = (
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
