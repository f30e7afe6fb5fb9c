"""Parts of a net that keep their weights while the rest trains (`optim.freeze`): feature extractors, in eval mode.

Promises: a frozen parameter gets no gradient, no weight decay and no moments; a frozen part computes as it is judged
(no dropout, running averages of batch norm used and not moved), whatever mode the net around it is put into; backward
passes end where nothing further down trains. Names of parameters stay. It is done before the net is compiled, wrapped
or given an optimizer, all of which then see only what trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MethodType

from torch import nn

from orchestrator.config.findings import did_you_mean
from orchestrator.config.model import AnyModelConfig
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.models import SyncNet, build_meta


def freeze(model: SyncNet, entries: Sequence[str], tell: Callable[[str], None] = lambda _: None) -> None:
    """Freeze parts of a net, in place.

    Args:
        model: in training mode; on any device, also without memory.
        entries: `optim.freeze`: names of modules or parameters, each with all that lies below it. A part of a name may
            be a shell pattern: `visual_encoder.down_blocks.[0-3]`.
        tell: receives a sentence about what is left to train.

    Raises:
        ConfigError: an entry names nothing that has weights, or nothing is left to train.
    """
    if not entries:
        return
    _check(entries, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not _is_named(name, entries))
    for name, module in model.named_modules():
        if _is_named(name, entries):
            module.training = False
            # validation puts the whole net into eval mode and back: this part stays
            module.train = MethodType(_stay, module)  # type: ignore[method-assign]
    tell(f"`optim.freeze`: {count_trained(model):,} of {count_parameters(model):,} parameters train")


def check_freeze(config: RunConfig) -> SyncNet:
    """Refuse an `optim.freeze` that does not fit the net, that of a sweep's trials too, before anything starts.

    Returns:
        What `net_to_train` gives.

    Raises:
        ConfigError: an entry names nothing that has weights, or nothing is left to train.
    """
    swept = config.sweep.space.get("optim.freeze") if config.sweep else None
    for entries in swept.listed if swept else ():
        _net_to_train(config.model, tuple(entries))
    return net_to_train(config)


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def count_parameters(model: nn.Module) -> int:
    """How many numbers a net, or a part of one, consists of."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_trained(model: nn.Module) -> int:
    """How many of them training changes."""
    return sum(parameter.numel() for parameter in trained(model))


def net_to_train(config: RunConfig) -> SyncNet:
    """The net as it will train, without memory, built once and shared: for looking at it only.

    Raises:
        ConfigError: `optim.freeze` does not fit the net.
    """
    return _net_to_train(config.model, config.optim.freeze)


@lru_cache(maxsize=32)
def _net_to_train(model: AnyModelConfig, entries: tuple[str, ...]) -> SyncNet:
    net = build_meta(model)
    freeze(net, entries)
    return net


def _check(entries: Sequence[str], model: SyncNet) -> None:
    """Refuse entries that freeze nothing, or all together everything.

    Raises:
        ConfigError: as `freeze`.
    """
    names = [name for name, _ in model.named_parameters()]
    problems = [
        _misnomer(entry, names, model) for entry in entries if not any(_is_named(name, [entry]) for name in names)
    ]
    if problems:
        parts = ", ".join(f"`{name}`" for name, _ in model.named_children())
        raise ConfigError(problems, hint=f"{model.config.name} consists of {parts}, and of what lies in them")
    if all(_is_named(name, entries) for name in names):
        problem = f"`optim.freeze` must leave something to train, but freezes all {len(names)} parameters of the net"
        raise ConfigError([problem], hint="name fewer parts; `train.steps=0` judges a file without training it")


def _misnomer(entry: str, names: Sequence[str], model: SyncNet) -> str:
    """Why an entry freezes nothing."""
    modules = [name for name, _ in model.named_modules() if name]
    if any(_is_named(name, [entry]) for name in modules):
        return f"`optim.freeze` names `{entry}`, which has no weights"
    what = f"which is no part of {model.config.name}{did_you_mean(entry, [*modules, *names])}"
    return f"`optim.freeze` names `{entry}`, {what}"


def _is_named(name: str, entries: Sequence[str]) -> bool:
    """Whether an entry names this part or one that it lies in."""
    parts = name.split(".")
    wanted = [entry.split(".") for entry in entries]
    return any(len(each) <= len(parts) and all(map(fnmatchcase, parts, each)) for each in wanted)


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of `train`: nobody wakes what is frozen."""
    return module
