"""What people give instead of a checkpoint: pages, pointers, configurations, media, folders of other things."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad, Build
from tests.zoo.files import bytes_file, released, tar_of, torch_bytes, torch_file, zip_of
from tests.zoo.nets import stable_weights, trained
from tests.zoo.sharded import BIN, SAFE, spoiled

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0d71" * 16 + b"\nsize 1605392874\n"
_PAGE = b"<!DOCTYPE html>\n<html>\n<head><meta charset='utf-8'/><title>%s</title></head><body>%s</body></html>\n"
_ACCESS_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message>'
    b"<RequestId>9EXAMPLE</RequestId><HostId>abc=</HostId></Error>"
)
_WARNING = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body><p>Google Drive can't "
    b"scan this file for viruses.</p><form action='https://drive.usercontent.google.com/download'></form></body></html>"
)

_BYTES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "a page of the hub": (_PAGE % (b"404 - Page not found", b"Sorry, we can't find it."), ("web page", "404")),
    "a sign-in page": (_PAGE % (b"Sign in", b""), ("web page", "Sign in")),
    "a long page": (_PAGE % (b"Files", b"<div>x</div>" * 20_000), ("web page",)),
    "Drive's virus warning": (_WARNING, ("Google Drive",)),
    "Entry not found": (b"Entry not found", ("Entry not found",)),
    "Invalid username or password": (b"Invalid username or password.", ("Invalid username",)),
    "a gated model's error": (b'{"error":"Access to model x/y is restricted."}', ("restricted",)),
    "S3's AccessDenied": (_ACCESS_DENIED, ("AccessDenied",)),
    "a Git LFS pointer": (LFS, ("Git LFS", "1.6 GB")),
    "a YAML configuration": (b"model:\n  audio_encoder:\n    in_channels: 1\n", ("YAML",)),
    "a JSON configuration": (json.dumps({"model_type": "syncnet", "layers": [1, 2]}).encode(), ("JSON",)),
    "a Python script": (b"import torch\n\nnet = torch.load('net.pt')\n", ("text",)),
    "nothing": (b"", ("empty",)),
    "zeros": (bytes(300_000), ("zeros",)),
    "noise": (np.random.RandomState(3).bytes(50_000), ()),
    "an MP4 video": (b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 9, ("video",)),
    "a WAV file": (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)) * 9, ("WAV",)),
    "a PNG image": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, ("PNG",)),
    "a PDF": (b"%PDF-1.7\n" + bytes(range(256)) * 9, ("PDF",)),
    "an ONNX network": (b"\x08\x08\x12\x07pytorch\x1a\x062.11.0" + bytes(range(256)) * 9, ("ONNX",)),
    "a Word document": (zip_of({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}), ("word",)),
    "a zip without a checkpoint": (zip_of({"README.md": b"# x", "src/a.py": b"x = 1"}), ("zip", "README.md")),
    "a tar without a checkpoint": (tar_of({"README.md": b"# x", "src/a.py": b"x = 1"}), ("tar", "README.md")),
    "an empty zip": (zip_of({}), ("zip",)),
    "an archive of a web page": (zip_of({"net.pt": _PAGE % (b"404", b"")}), ("net.pt",)),
}


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((80, 52), np.float32))
    return buffer.getvalue()


def _mel_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, mel=np.zeros((80, 52), np.float32))
    return buffer.getvalue()


_NO_WEIGHTS, _NOT = RefusalReason.NO_WEIGHTS, RefusalReason.NOT_A_CHECKPOINT
_OBJECTS: dict[str, tuple[Callable[[], Any], Any, tuple[str, ...]]] = {
    "a cached mel": (lambda: torch.zeros(80, 52), _NOT, ("mel",)),
    "a cached mel in a dict": (lambda: {"mel": torch.zeros(80, 52), "sr": 16000}, (_NOT, _NO_WEIGHTS), ("mel",)),
    "a list of tensors": (lambda: [torch.zeros(2), torch.ones(2)], _NO_WEIGHTS, ("list",)),
    "an empty dict": (dict, _NO_WEIGHTS, ("empty",)),
    "an empty state_dict": (lambda: {"state_dict": {}}, _NO_WEIGHTS, ()),
    "only an optimizer": (lambda: trained().optimizer, _NO_WEIGHTS, ("optimizer",)),
    "only an optimizer, as an entry": (lambda: {"optimizer": trained().optimizer}, _NO_WEIGHTS, ("optimizer",)),
    "only a step": (lambda: {"global_step": 3, "epoch": 1}, _NO_WEIGHTS, ("global_step",)),
    "a number": (lambda: 7, _NO_WEIGHTS, ()),
    "a string": (lambda: "net.pt", _NO_WEIGHTS, ()),
    "None": (lambda: None, _NO_WEIGHTS, ()),
    "only metrics": (lambda: {"loss": torch.tensor(0.3), "accuracy": 0.9}, (_NOT, _NO_WEIGHTS), ()),
}

# ---- folders


def _empty(folder: Path) -> Path:
    (folder / "net").mkdir()
    return folder / "net"


def _videos(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom")
    (folder / "a.txt").write_text("words")
    return folder


def _two(folder: Path) -> Path:
    torch.save(released(), folder / "first.pt")
    torch.save(released(), folder / "second.pt")
    return folder


def _not_pulled(folder: Path) -> Path:
    """A repository that was cloned without Git LFS."""
    (folder / "model.safetensors").write_bytes(LFS)
    (folder / "config.json").write_text("{}")
    return folder


def _half_written(folder: Path) -> Path:
    """Our own directory, whose manifest was not reached."""
    made = folder / "state"
    made.mkdir()
    save_file(stable_weights(), made / "model.safetensors")
    (made / "state.json").write_text(json.dumps({"step": 3}))
    return made


def _pointer_shard(folder: Path, placed: dict[str, str]) -> None:
    (folder / next(iter(placed.values()))).write_bytes(LFS)


def _absent(folder: Path) -> Path:
    return folder / "net.pt"


_FOLDERS: dict[str, tuple[Build, Any, tuple[str, ...]]] = {
    "a path to nothing": (_absent, RefusalReason.MISSING, ("net.pt",)),
    "an empty folder": (_empty, (_NOT, _NO_WEIGHTS), ()),
    "a folder of videos": (_videos, (_NOT, _NO_WEIGHTS), ()),
    "a folder of two checkpoints": (_two, (_NOT, RefusalReason.UNSUPPORTED), ("first.pt", "second.pt")),
    "a folder that Git LFS did not fill": (_not_pulled, _NOT, ("LFS",)),
    "a shard that is a pointer": (spoiled(_pointer_shard, SAFE), (_NOT, RefusalReason.CORRUPT), ("LFS",)),
    "a bin shard that is a pointer": (spoiled(_pointer_shard, BIN), (_NOT, RefusalReason.CORRUPT), ("LFS",)),
}


def _two_in_one() -> bytes:
    whole = torch_bytes(released())
    return zip_of({"first.pt": whole, "second.pt": whole})


def _header_only() -> bytes:
    return struct.pack("<Q", 2) + b"{}"


CASES: tuple[Bad, ...] = (
    *(
        Bad(name, "not a checkpoint", bytes_file(lambda content=content: content), _NOT, says)
        for name, (content, says) in _BYTES.items()
    ),
    Bad("a cached mel as npy", "not a checkpoint", bytes_file(_npy, "mel.npy"), _NOT, ("numpy",)),
    Bad("a cached mel as npz", "not a checkpoint", bytes_file(_mel_npz, "mel.npz"), (_NOT, _NO_WEIGHTS), ("mel",)),
    *(Bad(name, "no weights in it", torch_file(make), reason, says) for name, (make, reason, says) in _OBJECTS.items()),
    Bad("empty safetensors", "no weights in it", bytes_file(_header_only), _NO_WEIGHTS),
    *(Bad(name, "folder of other things", build, reason, says) for name, (build, reason, says) in _FOLDERS.items()),
    Bad(
        "an archive of two checkpoints",
        "not a checkpoint",
        bytes_file(_two_in_one, "two.zip"),
        (_NOT, RefusalReason.UNSUPPORTED),
        ("first.pt", "second.pt"),
    ),
)
