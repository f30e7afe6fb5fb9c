"""Single files: every container that one set of weights is packed in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.zoo.case import Build, Good
from tests.zoo.nets import net_of, stable_model_config, stable_weights

LEGACY: dict[str, Any] = {"_use_new_zipfile_serialization": False}
"""For `torch.save`: as before torch 1.6."""


def torch_file(make: Callable[[], Any], name: str = "net.pt", **options: Any) -> Build:
    """A case's `build`: `torch.save` of what `make` gives."""

    def build(folder: Path) -> Path:
        torch.save(make(), folder / name, **options)
        return folder / name

    return build


def bytes_file(make: Callable[[], bytes], name: str = "net.pt") -> Build:
    """A case's `build`: a file with these bytes."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(make())
        return folder / name

    return build


def torch_bytes(payload: Any, **options: Any) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(payload, buffer, **options)
    return buffer.getvalue()


def rezipped(
    content: bytes, method: int = zipfile.ZIP_STORED, rename: Callable[[str], str] = lambda name: name
) -> bytes:
    """The same zip, packed anew."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for info in old.infolist():
            new.writestr(rename(info.filename), old.read(info))
    return buffer.getvalue()


def released() -> dict[str, Any]:
    """The commonest payload."""
    return {"state_dict": stable_weights()}


def _deflated() -> bytes:
    return rezipped(torch_bytes(released()), zipfile.ZIP_DEFLATED)


def _without_root() -> bytes:
    return rezipped(torch_bytes(released()), rename=lambda name: name.split("/", 1)[1])


def _without_checksums() -> bytes:
    torch.serialization.set_crc32_options(False)
    try:
        return torch_bytes(released())
    finally:
        torch.serialization.set_crc32_options(True)


def _big_endian() -> bytes:
    """As torch writes it on a big-endian machine: a note in the zip, and every number turned round."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes(released()))) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if "/data/" in info.filename:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            elif info.filename.endswith("/byteorder"):
                content = b"big"
            new.writestr(info.filename, content)
    return buffer.getvalue()


# ---- tar files of torch 0.1


class _TarPickler(pickle.Pickler):
    """Tensors become their number; parameters are what torch 0.1 made of them."""

    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file, protocol=2)
        self.tensors = tensors

    def persistent_id(self, value: object) -> str | None:
        if not isinstance(value, Tensor):
            return None
        self.tensors.append(value)
        return str(1000 + len(self.tensors))


def legacy_tar(payload: Any) -> bytes:
    """A tar with `sys_info`, `pickle`, `storages` and `tensors`, as torch wrote it before 2017.

    A storage is its number, place and type, then its length and bytes; a tensor is its number, its storage's number
    and its type, then dimensions, strides and offset.
    """
    body, tensors = io.BytesIO(), list[Tensor]()
    _TarPickler(body, tensors).dump(payload)
    storages, views = io.BytesIO(), io.BytesIO()
    pickle.dump(len(tensors), storages, 2)
    pickle.dump(len(tensors), views, 2)
    for number, tensor in enumerate(tensors, 1):
        flat = tensor.contiguous()
        kind = getattr(torch, f"{_OLD_KINDS[flat.dtype]}Storage")
        pickle.dump((number, "cpu", kind), storages, 2)
        storages.write(struct.pack("<q", flat.numel()) + flat.numpy().tobytes())
        pickle.dump((1000 + number, number, getattr(torch, f"{_OLD_KINDS[flat.dtype]}Tensor")), views, 2)
        views.write(struct.pack(f"<ii{flat.ndim}q", flat.ndim, 0, *flat.shape))
        views.write(struct.pack(f"<{flat.ndim}qq", *flat.stride(), 0))
    pickle.dump([], storages, 2)  # views into other storages
    system = {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    members = {
        "sys_info": pickle.dumps(system, 2),
        "pickle": body.getvalue(),
        "tensors": views.getvalue(),
        "storages": storages.getvalue(),
    }
    return tar_of(members, format=tarfile.PAX_FORMAT)


_OLD_KINDS = {torch.float32: "Float", torch.float64: "Double", torch.float16: "Half", torch.int64: "Long"}

# ---- other files


def tar_of(members: Mapping[str, bytes], mode: str = "w", **options: Any) -> bytes:
    """A tar with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in stable_weights().items()}


def _npz(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **_arrays())
    return buffer.getvalue()


def safetensors_file(metadata: Callable[[], dict[str, str] | None], name: str = "net.safetensors") -> Build:
    """A case's `build`: safetensors with these strings beside the tensors."""

    def build(folder: Path) -> Path:
        save_file(stable_weights(), folder / name, metadata())
        return folder / name

    return build


class Identity(torch.nn.Module):
    """Gives back its input; parameters are added to it by name."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def parameter_tree(weights: Mapping[str, Tensor], root: type[torch.nn.Module] = Identity) -> torch.nn.Module:
    """A module with these parameters at their names and no more, for formats that do not care what it computes."""
    tree = root()
    for name, tensor in weights.items():
        *path, last = name.split(".")
        module = tree
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, torch.nn.Parameter(tensor.clone()))
    return tree


def torchscript(kind: str) -> Build:
    """A case's `build`: the net as a TorchScript program, scripted or traced."""

    def build(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "script":
                program = torch.jit.script(parameter_tree(stable_weights()))
            else:
                model = net_of(stable_weights())
                shape = model.input_shape
                inputs = torch.zeros(2, *shape.frames), torch.zeros(2, *shape.audio)
                program = torch.jit.trace(model, inputs, check_trace=False)
            torch.jit.save(program, folder / "net.ts")
        return folder / "net.ts"

    return build


def _whole() -> bytes:
    return torch_bytes(released())


_README = {"README.md": b"# A SyncNet\nTrained on something.\n"}
_ARCHIVES: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(_whole(), 1),
    "bzip2": lambda: bz2.compress(_whole(), 1),
    "xz": lambda: lzma.compress(_whole(), preset=0),
    "zip of one file": lambda: zip_of({"net.pt": _whole()}),
    "zip beside a readme in a folder": lambda: zip_of({"release/README.md": b"# Net", "release/net.pt": _whole()}),
    "tar of one file": lambda: tar_of({"net.pt": _whole()}),
    "tar beside a readme": lambda: tar_of({**_README, "net.pt": _whole()}),
    "tar.gz in a folder": lambda: tar_of({"./release/net.pt": _whole()}, "w:gz"),
    "tar.xz": lambda: tar_of({"net.pt": _whole()}, "w:xz"),
    "zip of a safetensors file": lambda: zip_of({"net.safetensors": _safetensors_bytes()}),
    "gzip of a legacy file": lambda: gzip.compress(torch_bytes(released(), _use_new_zipfile_serialization=False), 1),
}


def _safetensors_bytes() -> bytes:
    from safetensors.torch import save

    return save(stable_weights())


def _ours() -> dict[str, str]:
    return {"format": "pt", "global_step": "12", "model_config": stable_model_config().model_dump_json()}


CASES: tuple[Good, ...] = (
    Good("torch zip", "torch zip", torch_file(released)),
    Good("torch zip with the wrong ending", "torch zip", torch_file(released, "net.safetensors")),
    Good("torch zip, deflated", "torch zip", bytes_file(_deflated)),
    Good("torch zip without root folder", "torch zip", bytes_file(_without_root)),
    Good("torch zip without checksums", "torch zip", bytes_file(_without_checksums)),
    Good("torch zip, big-endian", "torch zip", bytes_file(_big_endian)),
    Good("torch zip, ordered dict", "torch zip", torch_file(lambda: OrderedDict(stable_weights()))),
    Good(
        "torch zip, parameters",
        "torch zip",
        torch_file(lambda: {n: torch.nn.Parameter(t) for n, t in stable_weights().items()}),
    ),
    *(Good(f"torch zip, pickle protocol {p}", "torch zip", torch_file(released, pickle_protocol=p)) for p in (3, 4, 5)),
    Good("torch legacy", "torch legacy", torch_file(released, **LEGACY)),
    *(
        Good(f"torch legacy, pickle protocol {p}", "torch legacy", torch_file(released, pickle_protocol=p, **LEGACY))
        for p in (3, 4, 5)
    ),
    Good("torch 0.1 tar", "torch legacy", bytes_file(lambda: legacy_tar(released()))),
    Good(
        "torch 0.1 tar, ordered dict",
        "torch legacy",
        bytes_file(lambda: legacy_tar(OrderedDict(stable_weights())), "net.tar"),
    ),
    *(
        Good(
            f"pickle of tensors, protocol {p}", "pickle", bytes_file(lambda p=p: pickle.dumps(released(), p), "net.pkl")
        )
        for p in (2, 3, 4, 5)
    ),
    *(
        Good(f"pickle of arrays, protocol {p}", "pickle", bytes_file(lambda p=p: pickle.dumps(_arrays(), p), "net.pkl"))
        for p in (2, 3, 4, 5)
    ),
    Good("safetensors", "safetensors", safetensors_file(lambda: None)),
    Good("safetensors with a step", "safetensors", safetensors_file(lambda: {"global_step": "6"}), step=6),
    Good("safetensors with our model description", "safetensors", safetensors_file(_ours), step=12),
    Good("TorchScript, scripted", "TorchScript", torchscript("script")),
    Good("TorchScript, traced", "TorchScript", torchscript("trace")),
    Good("npz", "npz", bytes_file(lambda: _npz(np.savez), "net.npz")),
    Good("npz, compressed", "npz", bytes_file(lambda: _npz(np.savez_compressed), "net.npz")),
    *(Good(name, "archive of one checkpoint", bytes_file(make, "archive")) for name, make in _ARCHIVES.items()),
)
