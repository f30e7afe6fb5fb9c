"""Folders in which an index says what is where: sharded safetensors and sharded `pytorch_model.bin`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad, Build, Good
from tests.zoo.nets import stable_weights

SAFE, BIN = "model.safetensors", "pytorch_model.bin"


def shards(folder: Path, kind: str = SAFE, count: int = 3) -> tuple[dict[str, str], Path]:
    """Write the shards. Returns which holds what, and where the index belongs."""
    stem, ending = kind.split(".")
    names = list(stable_weights())
    placed: dict[str, str] = {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}.{ending}"
        part: dict[str, Tensor] = {name: stable_weights()[name] for name in names[number::count]}
        save_file(part, folder / file, {"format": "pt"}) if kind == SAFE else torch.save(part, folder / file)
        placed |= dict.fromkeys(part, file)
    return placed, folder / f"{kind}.index.json"


def write_index(index: Path, placed: dict[str, str], **more: Any) -> None:
    """As transformers and diffusers write it."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in stable_weights().values())
    index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": placed, **more}, indent=2))


def sharded(kind: str, as_index: bool) -> Build:
    """A case's `build`: all that belongs there; the folder or its index is given."""

    def build(folder: Path) -> Path:
        placed, index = shards(folder, kind)
        write_index(index, placed)
        (folder / "config.json").write_text('{"_class_name": "StableSyncNet"}')
        return index if as_index else folder

    return build


def spoiled(spoil: Callable[[Path, dict[str, str]], None], kind: str = SAFE, as_index: bool = False) -> Build:
    """A case's `build`: a folder in which `spoil` breaks something, before the index is written."""

    def build(folder: Path) -> Path:
        inner = folder / "net"
        inner.mkdir()
        placed, index = shards(inner, kind)
        spoil(inner, placed)
        write_index(index, placed)
        return index if as_index else inner

    return build


def _move(folder: Path, placed: dict[str, str], target: str) -> None:
    """The first shard is elsewhere, and the index says so."""
    first = next(iter(placed.values()))
    (folder / first).rename(folder / target)
    for name in [name for name, file in placed.items() if file == first]:
        placed[name] = target


def _outside(folder: Path, placed: dict[str, str]) -> None:
    _move(folder, placed, "../secret.safetensors")


def _absolute(folder: Path, placed: dict[str, str]) -> None:
    _move(folder, placed, str(folder.parent / "secret.safetensors"))


def _linked(folder: Path, placed: dict[str, str]) -> None:
    first = next(iter(placed.values()))
    (folder / first).rename(folder.parent / "secret.safetensors")
    (folder / first).symlink_to(folder.parent / "secret.safetensors")


def _missing(folder: Path, placed: dict[str, str]) -> None:
    (folder / next(iter(placed.values()))).unlink()


def _lacking(folder: Path, placed: dict[str, str]) -> None:
    """A shard lacks a tensor that the index promises."""
    placed["audio_encoder.conv_in.extra"] = next(iter(placed.values()))


def _cut(folder: Path, placed: dict[str, str]) -> None:
    shard = folder / next(iter(placed.values()))
    shard.write_bytes(shard.read_bytes()[:-100])


def _nonsense(folder: Path, placed: dict[str, str]) -> None:
    placed["audio_encoder.conv_in.weight"] = {"file": 1}  # type: ignore[assignment]


def _itself(folder: Path, placed: dict[str, str]) -> None:
    """The index names itself as a shard."""
    placed["audio_encoder.conv_in.weight"] = f"{SAFE}.index.json"


CORRUPT, UNSAFE, MISSING = RefusalReason.CORRUPT, RefusalReason.UNSAFE, RefusalReason.MISSING
CASES: tuple[Good | Bad, ...] = (
    Good("sharded safetensors, folder", "sharded", sharded(SAFE, as_index=False)),
    Good("sharded safetensors, index", "sharded", sharded(SAFE, as_index=True)),
    Good("sharded bin, folder", "sharded", sharded(BIN, as_index=False)),
    Good("sharded bin, index", "sharded", sharded(BIN, as_index=True)),
    Bad("a shard in the folder above", "sharded", spoiled(_outside), UNSAFE, ("secret",)),
    Bad("a shard in the folder above, index given", "sharded", spoiled(_outside, as_index=True), UNSAFE, ("secret",)),
    Bad("a shard with an absolute path", "sharded", spoiled(_absolute), UNSAFE, ("secret",)),
    Bad("a shard that links out of the folder", "sharded", spoiled(_linked), UNSAFE, ("00001-of-00003",)),
    Bad("a missing shard", "sharded", spoiled(_missing), (CORRUPT, MISSING), ("00001-of-00003",)),
    Bad("a missing bin shard", "sharded", spoiled(_missing, BIN), (CORRUPT, MISSING), ("00001-of-00003",)),
    Bad("a shard that lacks a tensor", "sharded", spoiled(_lacking), (CORRUPT, RefusalReason.MISMATCH), ("extra",)),
    Bad("a shard that is cut short", "sharded", spoiled(_cut), CORRUPT, ("00001-of-00003",)),
    Bad("an index with nonsense in it", "sharded", spoiled(_nonsense), CORRUPT, ("index",)),
    Bad("an index that names itself", "sharded", spoiled(_itself), (CORRUPT, RefusalReason.NOT_A_CHECKPOINT)),
)
