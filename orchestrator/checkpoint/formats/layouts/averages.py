"""Which sets of tensors are running averages of others: EMA and SWA, told by names and by the marks they leave.

Known are torch's `AveragedModel` (`n_averaged` beside `module.`), timm's and others' second entry (`state_dict_ema`,
`model_ema`, `ema`), names that begin with `ema.` or `model_ema.` beside plain ones, latent diffusion's names without
dots, and lists of shadow parameters in the model's order. Contract: a set that is told apart is either plain or an
average; parameters that an average lacks (buffers) are the plain set's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.checkpoint.formats.layouts.search import TensorSet
from orchestrator.checkpoint.formats.layouts.values import entries_of
from orchestrator.checkpoint.names import net_prefixes, without_wrappers

_WORD = re.compile(r"(?i:(^|[_.])(ema|swa|avg|averaged?|shadows?|polyak)([_.]|$))|^EMA|^(Stochastic)?WeightAverag")
_MARKS = ("n_averaged", "initted")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_LIGHTNING_RAW = "current_model_state"
_STASH = "collected_params"  # torch_ema's: plain weights that it put aside, beside the averages


def classify(sets: Iterable[TensorSet], data: Any) -> list[TensorSet]:
    """The sets that hold a SyncNet, plain ones and averages; a set with both is two."""
    found = list(sets)
    top = entries_of(data) or {}
    parts = [part for item in found if item.weights for part in _split(_marked_by_place(item, top))]
    nets = [part for part in parts if part.nets]
    plain = [part for part in nets if not part.averaged]
    if len(plain) == 1:
        nets += [net for item in found for net in _from_shadows(item, plain[0])]
        nets = [_completed(net, plain[0]) for net in nets]
    return nets


def _marked_by_place(item: TensorSet, top: Mapping[Any, Any]) -> TensorSet:
    """By the keys that lead to it."""
    word = next((key for key in item.path if _WORD.search(key)), "")
    if item.path[:1] == ("state_dict",) and _LIGHTNING_RAW in top:
        word = "Lightning's weight averaging"
    return replace(item, averaged=word)


def _split(item: TensorSet) -> list[TensorSet]:
    """By its names: plain tensors, and averages among them."""
    names, said = _averaged_names(item)
    if not names:
        return [item]
    averaged = {name: tensor for name, tensor in item.weights.items() if name in names}
    plain = {name: tensor for name, tensor in item.weights.items() if name not in names}
    rest = _of(item, {name: t for name, t in plain.items() if name.rpartition(".")[2] not in _MARKS}, item.averaged)
    average = _of(item, averaged, item.averaged or said)
    if rest.nets and not average.nets:
        average = _of(item, _with_dots(averaged, rest), said)
    return [part for part in (*_split(rest), average) if part.nets] or [item]


def _averaged_names(item: TensorSet) -> tuple[set[str], str]:
    """The names of averages, and what says so."""
    for name in item.weights:
        if name.rpartition(".")[2] == "n_averaged":
            start = f"{name.removesuffix('n_averaged')}module."
            return {other for other in item.weights if other.startswith(start)}, name
    starts = [start for start in {_first(name) for name in item.weights} if _WORD.search(start)]
    deeper = [prefix for prefix in item.nets if _WORD.search(prefix.rstrip("."))]
    for start in [*starts, *deeper]:
        names = {name for name in item.weights if without_wrappers(name).startswith(start)}
        if names:
            return names, start
    return set(), ""


def _first(name: str) -> str:
    return name[: name.find(".") + 1]


def _of(item: TensorSet, weights: dict[str, Any], averaged: str) -> TensorSet:
    return replace(item, weights=weights, averaged=averaged, nets=tuple(net_prefixes(weights)))


def _with_dots(averaged: Mapping[str, Any], plain: TensorSet) -> dict[str, Any]:
    """Averages that are named like the plain tensors without dots, after the model's own prefix or a part of it."""
    tails = {name.partition(".")[2]: tensor for name, tensor in averaged.items()}
    names = [name for name in plain.weights if without_wrappers(name).startswith(plain.nets[0])]
    for cut in range(max((name.count(".") for name in names), default=0)):
        keys = {name: "".join(name.split(".")[cut:]) for name in names}
        found = {name: tails[key] for name, key in keys.items() if key in tails}
        if len(found) == len([name for name in names if not is_buffer(name)]) or len(found) == len(names):
            return found
    return {}


def is_buffer(name: str) -> bool:
    """Whether a tensor is no parameter, as far as its name tells."""
    return name.endswith(_BUFFERS) or ".torchfb." in name


def _from_shadows(item: TensorSet, plain: TensorSet) -> list[TensorSet]:
    """A list of tensors by the names of the plain set's parameters, where every shape agrees."""
    if not item.shadows or not any(_WORD.search(key) for key in item.path) or item.path[-1] == _STASH:
        return []
    names = [name for name in plain.weights if not is_buffer(name)]
    if len(names) != len(item.shadows):
        names = [name for name in names if without_wrappers(name).startswith(plain.nets[0])]
    pairs = list(zip(names, item.shadows, strict=False))
    if len(names) != len(item.shadows) or any(plain.weights[name].shape != t.shape for name, t in pairs):
        return []
    return [replace(plain, path=item.path, weights=dict(pairs), averaged=item.where)]


def _completed(net: TensorSet, plain: TensorSet) -> TensorSet:
    """An average of parameters alone takes the buffers of the plain set, which has the same names otherwise."""
    if not net.averaged or len(net.nets) != 1:
        return net
    ours = {_short(name, net.nets[0]) for name in net.weights}
    theirs = {_short(name, plain.nets[0]): name for name in plain.weights if is_buffer(name)}
    lacking = {short: name for short, name in theirs.items() if short not in ours}
    if not lacking or any(is_buffer(name) for name in net.weights):
        return net
    lead = next((name[: len(name) - len(_short(name, net.nets[0]))] for name in net.weights), "")
    return replace(net, weights={**net.weights, **{lead + s: plain.weights[name] for s, name in lacking.items()}})


def _short(name: str, prefix: str) -> str:
    return without_wrappers(name).removeprefix(prefix)
