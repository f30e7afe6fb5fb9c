"""Small files that want much memory, time or stack.

They must be refused quickly; the tests' own limit of time is the measure.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad, Good
from tests.zoo.damaged import safetensors_bytes
from tests.zoo.files import bytes_file, legacy_tar, released, tar_of, torch_bytes, torch_file, zip_of
from tests.zoo.nets import stable_weights
from tests.zoo.objects import beside

MIB = 1 << 20
LEVELS = 100_000


class _Claims:
    """Pickles as a tensor in a storage of this many numbers, as torch does it."""

    def __init__(self, numel: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.numel, self.shape, self.stride = numel, shape, stride

    def __reduce__(self) -> tuple[Any, ...]:
        storage = _Storage(self.numel)
        return torch._utils._rebuild_tensor_v2, (storage, 0, self.shape, self.stride, False, OrderedDict())


class _Storage:
    def __init__(self, numel: int) -> None:
        self.numel = numel


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", value.numel) if isinstance(value, _Storage) else None


def _in_torch_zip(stream: bytes, record: bytes = b"", method: int = zipfile.ZIP_STORED) -> bytes:
    return zip_of({"net/data.pkl": stream, "net/data/0": record, "net/version": b"3\n"}, method)


def _claiming(tensor: _Claims) -> bytes:
    """A torch zip with one small record that is said to be huge."""
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump({"state_dict": {"audio_encoder.conv_in.weight": tensor}})
    return _in_torch_zip(buffer.getvalue(), bytes(64))


def _legacy_claiming() -> bytes:
    """The same in an old file, where the length also stands before the numbers."""
    content = torch_bytes({"a": torch.arange(7.0)}, _use_new_zipfile_serialization=False)
    return content[: -7 * 4 - 8] + struct.pack("<q", 1 << 42) + content[-7 * 4 :]


def _tar_claiming() -> bytes:
    content = legacy_tar({"a": torch.arange(7.0)})
    return content.replace(
        struct.pack("<q", 7) + torch.arange(7.0).numpy().tobytes(), struct.pack("<q", 1 << 42) + bytes(28)
    )


def _expanded() -> dict[str, Tensor]:
    """One number, said to be a terabyte; torch writes and reads this without a word."""
    return {**stable_weights(), "audio_encoder.conv_in.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}


# ---- compression


def _members(content: bytes, count: int) -> bytes:
    """gzip members after one another are one file."""
    return gzip.compress(content, 9) * count


def _nested(levels: int, content: bytes) -> bytes:
    for _ in range(levels):
        content = gzip.compress(content, 9)
    return content


def _deflated_zeros(size: int) -> bytes:
    """A torch zip of zeros, squeezed a thousand times."""
    buffer, numel = io.BytesIO(), size // 4
    _Pickler(buffer, 2).dump({"state_dict": {"audio_encoder.conv_in.weight": _Claims(numel, (numel,), (1,))}})
    return _in_torch_zip(buffer.getvalue(), bytes(size), zipfile.ZIP_DEFLATED)


def _lying_zip() -> bytes:
    """A deflated record that is said to be small, but is not."""
    return zip_of({"net.pt": bytes(64 * MIB)}).replace(struct.pack("<I", 64 * MIB), struct.pack("<I", 1000))


def _many_records() -> bytes:
    """A hundred thousand records of which all are one, as a zip's contents may say."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(8 * MIB))
        first = archive.filelist[0]
        for number in range(2000):
            twin = zipfile.ZipInfo(f"net/data/{number}")
            for slot in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(twin, slot, getattr(first, slot))
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


def _huge_array() -> bytes:
    """An npz array whose header claims a terabyte."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
    return zip_of({"audio_encoder.conv_in.weight.npy": array})


# ---- pickles


def _laughs() -> bytes:
    """Forty lists, each twice in the next."""
    layers: list[Any] = ["ha"]
    for _ in range(40):
        layers = [layers, layers]
    return pickle.dumps(layers, 2)


def _holds_itself() -> bytes:
    knot: list[Any] = []
    knot.append(knot)
    return pickle.dumps(knot, 2)


def _tuple_of_itself() -> bytes:
    """A tuple in a list in that tuple, which only pickle can make."""
    return b"\x80\x02]q\x00(h\x00tq\x01ah\x01."


_STREAMS: dict[str, bytes] = {
    "LONG4 of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f1234.",
    "LONG4 of a negative length": b"\x80\x02\x8b\xff\xff\xff\xff1234.",
    "BINBYTES8 of exabytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"1234.",
    "BINUNICODE8 of exabytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"1234.",
    "BYTEARRAY8 of a terabyte": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"1234.",
    "FRAME of exabytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "a huge memo index": b"\x80\x02}r\xff\xff\xff\xff.",
    "a memo index that was not set": b"\x80\x02j\xff\xff\xff\x7f.",
    "an INT of a million digits": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
    "a LONG of a million digits": b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.",
    "tuples in each other": b"\x80\x02)" + b"\x85" * LEVELS + b".",
    "lists in each other": b"\x80\x02" + b"]" * LEVELS + b"a" * (LEVELS - 1) + b".",
    "dicts in each other": b"\x80\x02" + b"}K\x00" * LEVELS + b"N" + b"s" * LEVELS + b".",
    "a million marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "an empty stack": b"\x80\x02....",
    "a key that is a list": b"\x80\x02}]K\x01s.",
    "no end": b"\x80\x02}K\x01K\x02s",
    "an unknown opcode": b"\x80\x02}\xff.",
    "a newer protocol": b"\x80\x63}.",
}

CORRUPT, NO_WEIGHTS, NOT = RefusalReason.CORRUPT, RefusalReason.NO_WEIGHTS, RefusalReason.NOT_A_CHECKPOINT
_EITHER = (CORRUPT, NO_WEIGHTS, NOT)
_FILES: dict[str, tuple[Callable[[], bytes], Any]] = {
    "torch zip of 128 MB of zeros, deflated": (lambda: _deflated_zeros(128 * MIB), CORRUPT),
    "zip of a file of 128 MB of zeros": (lambda: zip_of({"net.pt": bytes(128 * MIB)}), _EITHER),
    "zip that says it is small": (_lying_zip, CORRUPT),
    "zip of 2000 names for one record": (_many_records, CORRUPT),
    "gzip of 4 GB of zeros": (lambda: _members(bytes(16 * MIB), 256), _EITHER),
    "gzip of a checkpoint and 4 GB of zeros": (
        lambda: gzip.compress(torch_bytes(released()), 1) + _members(bytes(16 * MIB), 256),
        CORRUPT,
    ),
    "bzip2 of 256 MB of zeros": (lambda: bz2.compress(bytes(16 * MIB)) * 16, _EITHER),
    "xz of 256 MB of zeros": (lambda: lzma.compress(bytes(16 * MIB), preset=0) * 16, _EITHER),
    "gzip five deep": (lambda: _nested(5, torch_bytes(released())), (CORRUPT, NOT, RefusalReason.UNSUPPORTED)),
    "gzip five deep, of 1 GB of zeros": (
        lambda: _nested(4, _members(bytes(16 * MIB), 64)),
        (*_EITHER, RefusalReason.UNSUPPORTED),
    ),
    "tar.gz of 1 GB of zeros": (lambda: _tar_gz_of_zeros(), _EITHER),
    "torch zip, storage of terabytes": (lambda: _claiming(_Claims(1 << 40, (1 << 40,), (1,))), CORRUPT),
    "torch zip, tensor of terabytes in a small storage": (
        lambda: _claiming(_Claims(16, (1 << 20, 1 << 20), (0, 0))),
        CORRUPT,
    ),
    "torch zip, numbers beyond the storage": (lambda: _claiming(_Claims(16, (64,), (1,))), CORRUPT),
    "torch zip, negative shape": (lambda: _claiming(_Claims(16, (-4, -4), (1, 1))), CORRUPT),
    "torch zip, strides beyond the storage": (lambda: _claiming(_Claims(16, (4,), (1 << 40,))), CORRUPT),
    "torch zip, a shape that overflows": (lambda: _claiming(_Claims(16, (1 << 33, 1 << 33), (1, 1))), CORRUPT),
    "torch zip, an expanded tensor": (lambda: torch_bytes(_expanded()), CORRUPT),
    "torch legacy, storage of terabytes": (_legacy_claiming, CORRUPT),
    "torch 0.1 tar, storage of terabytes": (_tar_claiming, CORRUPT),
    "npz, array of terabytes": (_huge_array, CORRUPT),
    "safetensors, a header of terabytes": (lambda: struct.pack("<Q", 1 << 42) + b'{"a":1}', (CORRUPT, NOT)),
    "safetensors, a deep header": (lambda: _deep_header(), CORRUPT),
    "safetensors, a tensor of terabytes": (
        lambda: safetensors_bytes({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b""),
        CORRUPT,
    ),
    "pickle of billions of laughs": (_laughs, NO_WEIGHTS),
    "pickle of a list that holds itself": (_holds_itself, NO_WEIGHTS),
    "pickle of a tuple that holds itself": (_tuple_of_itself, _EITHER),
}


def _tar_gz_of_zeros() -> bytes:
    """The head of a tar that promises 1 GB, and the zeros."""
    head = tar_of({"net.pt": b""})[:512]
    size, check = b"%011o\0" % (1024 * MIB), 124
    head = head[:check] + size + head[check + 12 :]
    total = sum(head[:148]) + 8 * 32 + sum(head[156:])
    head = head[:148] + b"%06o\0 " % total + head[156:]
    return gzip.compress(head) + _members(bytes(16 * MIB), 64)


def _deep_header() -> bytes:
    """JSON that is nested a hundred thousand times."""
    text = b'{"a":' + b"[" * LEVELS + b"]" * LEVELS + b"}"
    return struct.pack("<Q", len(text)) + text


def _laughing() -> Any:
    layers: list[Any] = ["ha"]
    for _ in range(40):
        layers = [layers, layers]
    return layers


CASES: tuple[Good | Bad, ...] = (
    *(Bad(f"bomb: {name}", "bombs", bytes_file(make), reason) for name, (make, reason) in _FILES.items()),
    *(
        Bad(f"bomb: pickle with {name}", "bombs", bytes_file(lambda stream=stream: stream), _EITHER)
        for name, stream in _STREAMS.items()
    ),
    *(
        Bad(
            f"bomb: torch zip with {name}",
            "bombs",
            bytes_file(
                lambda stream=stream: zip_of({"net/data.pkl": stream, "net/version": b"3\n"}, zipfile.ZIP_STORED)
            ),
            _EITHER,
        )
        for name, stream in _STREAMS.items()
    ),
    Good("beside: billions of laughs", "objects beside the weights", beside(lambda mark: _laughing()), step=6),
    Good(
        "among 3000 other tensors",
        "bigger file",
        torch_file(
            lambda: {
                **{f"syncnet.{name}": tensor for name, tensor in stable_weights().items()},
                **{f"other.{number}": torch.ones(2) * number for number in range(3000)},
            }
        ),
        decides=("syncnet",),
    ),
)
