"""Tensor names as the model itself has them: without what wrappers put in front.

`module.` comes from (Distributed)DataParallel, `_orig_mod.` from torch.compile. Contract: a prefix is stripped from all
names or from none; a file in which only some names carry it is refused, and so are names that become equal.
"""

from __future__ import annotations

from torch import Tensor

from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.errors import CheckpointError, RefusalReason

PREFIXES = ("module.", "_orig_mod.")
"""What wrappers put before every name, in any order and number."""


def clean_names(weights: dict[str, Tensor], path: str) -> tuple[dict[str, Tensor], list[Decision]]:
    """The same tensors by clean names, and what was stripped.

    Raises:
        CheckpointError: `mismatch`, when only some names have a prefix or when two names become one.
    """
    stripped = ""
    while prefix := _common_prefix(weights, path):
        weights = _without(weights, prefix, path)
        stripped += prefix
    if not stripped:
        return weights, []
    why = f"every name began with `{stripped}`, which a wrapper around the model had added"
    return weights, [Decision("weights.names", DecisionSource.DERIVED, f"`{stripped}` stripped", why)]


def _common_prefix(weights: dict[str, Tensor], path: str) -> str | None:
    for prefix in PREFIXES:
        having = sum(name.startswith(prefix) for name in weights)
        if having == len(weights):
            return prefix
        if having:
            example = next(name for name in weights if not name.startswith(prefix))
            raise _mismatch(
                f"{having} of {len(weights)} names begin with `{prefix}` and the others do not, e.g. `{example}`", path
            )
    return None


def _without(weights: dict[str, Tensor], prefix: str, path: str) -> dict[str, Tensor]:
    clean: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        short = name.removeprefix(prefix)
        if not short or short in clean:
            raise _mismatch(f"without `{prefix}` two of its names would both be `{short}`", path)
        clean[short] = tensor
    return clean


def _mismatch(what: str, path: str) -> CheckpointError:
    return CheckpointError(
        f"the weights in {path} are named inconsistently: {what}",
        reason=RefusalReason.MISMATCH,
        path=path,
        hint="the file seems to mix two models; save the state_dict of one of them alone",
    )
