"""Tensor names as the model itself has them: without what wrappers and bigger models put in front or in between.

`module.` comes from (Distributed)DataParallel, `_orig_mod.` from torch.compile, `_fsdp_wrapped_module.` from FSDP; they
may stand anywhere in a name. What else stands before a net's names, e.g. `syncnet.`, is found by a tensor that every
such net has. Contract: all tensors of the net have the same prefix; a file in which only some carry it, in which two
names become one, or which holds two nets, is refused; tensors beside the net are counted and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from orchestrator.checkpoint.architecture import ANCHORS, OWN_PREFIXES
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.errors import CheckpointError, RefusalReason

PROFILED = frozenset(("total_ops", "total_params"))
"""What a profiler leaves among the buffers of every module."""
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"))
"""Parts of names that wrappers add, wherever they stand."""

_Value = TypeVar("_Value")


def clean_names(weights: Mapping[str, _Value], path: str) -> tuple[dict[str, _Value], list[Decision]]:
    """The tensors of the one SyncNet by clean names, and what was stripped and left; values are not looked at.

    Names without any SyncNet among them lose what wrappers added, where that is clear, and nothing else.

    Raises:
        CheckpointError: `mismatch`, for two nets, for a prefix on only some names, and when two names become one.
    """
    nets = net_prefixes(weights)
    if len(nets) > 1:
        raise _two_nets(nets, path)
    prefix = nets[0] if nets else ""
    inside = {name: value for name, value in weights.items() if without_wrappers(name).startswith(prefix)}
    depth = prefix.count(".")
    leads = Counter(_lead(name, depth) for name in inside)
    if not nets and len(leads) != 1:
        return dict(weights), []
    _require_one(leads, inside, depth, path)
    lead = next(iter(leads), "")
    clean = _without(inside, lead, path)
    counted = [name for name in clean if name.rpartition(".")[2] in PROFILED]
    kept = {name: value for name, value in clean.items() if name not in counted}
    return kept, [*_decisions(weights, inside, lead), *_profiled(counted)]


def net_prefixes(names: Iterable[str]) -> list[str]:
    """What stands before the names of each SyncNet among these, wrappers left out; the empty string for a bare one."""
    found: dict[str, None] = {}
    for name in names:
        clean = without_wrappers(name)
        anchor = next((a for a in ANCHORS if clean == a or clean.endswith(f".{a}")), None)
        if anchor is not None:
            found[clean.removesuffix(anchor)] = None
    return [prefix for prefix in found if not any(prefix == outer + own for outer in found for own in OWN_PREFIXES)]


def without_wrappers(name: str) -> str:
    """A name without the parts that wrappers add."""
    *parts, last = name.split(".")
    return ".".join([*(part for part in parts if part not in WRAPPERS), last])


def _lead(name: str, depth: int) -> str:
    """What stands before a net's own part of a name, wrappers included; `depth` parts of it are none."""
    *parts, _ = name.split(".")
    taken = 0
    for part in parts:
        if part not in WRAPPERS:
            if depth == 0:
                break
            depth -= 1
        taken += 1
    return "".join(f"{part}." for part in parts[:taken])


def _require_one(leads: Counter[str], inside: Iterable[str], depth: int, path: str) -> None:
    """All names of the net have the same prefix."""
    if len(leads) < 2:
        return
    prefix, having = next((lead, count) for lead, count in leads.items() if lead)
    example = next(name for name in inside if _lead(name, depth) != prefix)
    what = f"{having} of {sum(leads.values())} names begin with `{prefix}` and the others do not, e.g. `{example}`"
    raise _inconsistent(what, path)


def _without(weights: Mapping[str, _Value], lead: str, path: str) -> dict[str, _Value]:
    clean: dict[str, _Value] = {}
    for name, value in weights.items():
        short = without_wrappers(name.removeprefix(lead))
        if not short or short in clean:
            raise _inconsistent(f"without what wrappers add, two of its names would both be `{short}`", path)
        clean[short] = value
    return clean


def _decisions(weights: Mapping[str, _Value], inside: Mapping[str, _Value], lead: str) -> list[Decision]:
    decisions: list[Decision] = []
    if lead:
        why = f"every name of the net began with `{lead}`, which a wrapper or a bigger model had added"
        decisions.append(Decision("weights.names", DecisionSource.DERIVED, f"`{lead}` stripped", why))
    inner = Counter(part for name in inside for part in name.removeprefix(lead).split(".")[:-1] if part in WRAPPERS)
    for part, count in inner.items():
        what, why = f"`{part}.` removed inside {count} names", "wrappers around parts of the model had added it"
        decisions.append(Decision("weights.names", DecisionSource.DERIVED, what, why))
    outside = [name for name in weights if name not in inside]
    if outside:
        examples = ", ".join(f"`{name}`" for name in outside[:3]) + (" ..." if len(outside) > 3 else "")
        why = f"they are not part of the SyncNet under `{lead}`: {examples}"
        decisions.append(Decision("weights.outside", DecisionSource.DERIVED, f"{len(outside)} tensors left", why))
    return decisions


def _profiled(names: list[str]) -> list[Decision]:
    if not names:
        return []
    why = f"a profiler had registered them as buffers, e.g. `{names[0]}`; they are no part of the net"
    return [Decision("weights.profiled", DecisionSource.DERIVED, f"{len(names)} tensors left", why)]


def _inconsistent(what: str, path: str) -> CheckpointError:
    return CheckpointError(
        f"the weights in {path} are named inconsistently: {what}",
        reason=RefusalReason.MISMATCH,
        path=path,
        hint="the file seems to mix two models; save the state_dict of one of them alone",
    )


def _two_nets(prefixes: list[str], path: str) -> CheckpointError:
    named = ", ".join(f"`{prefix}`" if prefix else "no prefix" for prefix in prefixes[:6])
    return CheckpointError(
        f"{path} holds {len(prefixes)} SyncNets, whose names begin with {named}",
        reason=RefusalReason.MISMATCH,
        path=path,
        hint="save the state_dict of one of them alone",
    )
