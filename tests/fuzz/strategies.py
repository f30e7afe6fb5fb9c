"""How input is made: bytes of good files that are changed, streams of pickle instructions, and objects of any depth."""

from __future__ import annotations

import pickletools
import struct
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

_EDGE = 8192
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
_WORDS = (
    "state_dict", "model", "net", "module", "optimizer", "state", "param_groups", "params", "step", "global_step",
    "exp_avg", "epoch", "train_step_list", "train_loss_list", "ema", "shadow_params", "n_averaged", "_parameters",
    "_modules", "_buffers", "module.audio_encoder.conv_in.weight", "audio_encoder.conv_in.weight", "x", "",
)  # fmt: skip
_NAMES = (
    "posix system", "builtins eval", "builtins getattr", "torch._utils _rebuild_tensor_v2", "torch FloatStorage",
    "collections OrderedDict", "numpy dtype", "numpy._core.multiarray scalar", "numpy.core.multiarray _reconstruct",
    "torch.storage _load_from_bytes", "builtins bytearray", "builtins set", "pathlib PosixPath", "_codecs encode",
    "torch._tensor _rebuild_from_type_v2", "copyreg _reconstructor", "somewhere.gone Thing", "datetime datetime",
)  # fmt: skip
_PLAIN_OPS = [op.code.encode("latin1") for op in pickletools.opcodes if op.arg is None]

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(
            ["flip", "set", "number", "cut", "remove", "insert", "repeat", "copy", "splice", "text", "zero"]
        ),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 32) - 1),
    ),
    min_size=1,
    max_size=6,
)
"""What is done to good bytes: (how, where, what)."""


def changed(content: bytes, changes: list[tuple[str, int, int]], other: bytes) -> bytes:
    """Good bytes after all changes; `other` is spliced in."""
    data = bytearray(content)
    for how, where, what in changes:
        place = _place(len(data), where)
        length = 1 + what % 64
        match how:
            case "flip":
                data[place : place + 1] = bytes(byte ^ (1 << what % 8) for byte in data[place : place + 1])
            case "set":
                data[place : place + 1] = bytes([what % 256])
            case "number":
                size = (1, 2, 4, 8)[what % 4]
                number = _NUMBERS[(what >> 2) % len(_NUMBERS)] & ((1 << 8 * size) - 1)
                data[place : place + size] = number.to_bytes(size, "little")
            case "cut":
                del data[place:]
            case "remove":
                del data[place : place + length]
            case "insert":
                data[place:place] = struct.pack("<I", what) * (1 + what % 5)
            case "repeat":
                data[place:place] = data[place : place + length] * 3
            case "copy":
                data[place : place + length] = data[(start := what % (len(data) + 1)) : start + length]
            case "splice":
                data[place:] = other[what % (len(other) + 1) :]
            case "text":
                data[place : place + length] = (b"../../../etc/passwd\n", b"posix\nsystem\n", b"/data.pkl")[what % 3]
            case "zero":
                data[place : place + length] = bytes(length)
    return bytes(data)


def _place(size: int, where: int) -> int:
    """Mostly near the beginning or the end, where the structure is."""
    zone, where = where % 4, where // 4
    if zone == 0 or size <= 2 * _EDGE:
        return where % (size + 1)
    return where % _EDGE if zone < 3 else size - 1 - where % _EDGE


def _argument_ops() -> st.SearchStrategy[bytes]:
    number = st.sampled_from(_NUMBERS)
    text = st.sampled_from(_WORDS).map(str.encode)
    return st.one_of(
        st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
        number.map(lambda n: b"J" + struct.pack("<I", n & 0xFFFFFFFF)),
        st.integers(0, 30).map(lambda n: b"q" + bytes([n])),
        st.integers(0, 30).map(lambda n: b"h" + bytes([n])),
        number.map(lambda n: b"r" + struct.pack("<I", n & 0xFFFFFFFF)),
        text.map(lambda word: b"X" + struct.pack("<I", len(word)) + word),
        text.map(lambda word: b"\x8c" + bytes([len(word)]) + word),
        number.map(lambda n: b"B" + struct.pack("<I", n & 0xFFFFFFFF) + b"abc"),
        number.map(lambda n: b"\x8e" + struct.pack("<Q", n) + b"abc"),
        number.map(lambda n: b"\x96" + struct.pack("<Q", n) + b"abc"),
        st.integers(0, 40).map(lambda n: b"\x8a" + bytes([n]) + b"\xff" * n),
        number.map(lambda n: b"\x8b" + struct.pack("<I", n & 0xFFFFFFFF) + b"\x01"),
        st.floats(allow_nan=True).map(lambda value: b"G" + struct.pack(">d", value)),
        st.sampled_from(_NAMES).map(lambda name: b"c" + name.replace(" ", "\n").encode() + b"\n"),
        st.sampled_from(_NAMES).map(lambda name: b"i" + name.replace(" ", "\n").encode() + b"\n"),
        number.map(lambda n: b"I" + str(n).encode() + b"\n"),
        st.binary(max_size=6).map(lambda raw: b"S'" + raw.replace(b"\n", b"") + b"'\n"),
        st.binary(max_size=6).map(lambda raw: b"P" + raw.replace(b"\n", b"") + b"\n"),
        st.integers(0, 255).map(lambda n: b"\x82" + bytes([n])),
    )


PROGRAMS = st.lists(st.one_of(_argument_ops(), st.sampled_from(_PLAIN_OPS)), max_size=60).map(
    lambda ops: b"\x80\x04" + b"".join(ops) + b"."
)
"""Streams of pickle instructions, most of them wrong in some way."""


def _leaves() -> st.SearchStrategy[Any]:
    tensors = st.sampled_from(
        [torch.zeros(0), torch.ones(2, 3), torch.tensor(3), torch.zeros(1).expand(50, 50), torch.zeros(4, 4).t()[1:],
         torch.tensor([float("nan")]), torch.zeros(3, dtype=torch.complex64), torch.eye(2).to_sparse()]
    )  # fmt: skip
    numbers = st.one_of(st.integers(-(1 << 70), 1 << 70), st.floats(), st.booleans(), st.none())
    return st.one_of(tensors, numbers, st.sampled_from(_WORDS), st.binary(max_size=9), st.just(np.float32(2)))


def _nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(st.sampled_from(_WORDS), st.integers(-2, 5), st.tuples(st.integers(0, 3)))
    return st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(keys, children, max_size=5),
        st.tuples(children, children),
    )


STRUCTURES = st.recursive(_leaves(), _nested, max_leaves=25)
"""Objects of any shape with the names that layouts look for in the wrong places."""
