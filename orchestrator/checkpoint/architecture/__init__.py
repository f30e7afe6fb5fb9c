"""Which network do these weights belong to? Told from names and shapes, or checked against a given description.

Contract: nothing is guessed. Either the tensors fit exactly one known network and the answer says what was assumed (the
strides of a matched layout), or a CheckpointError says what is known, what weights cannot tell, and how to give it.
Each family has its own file, which proposes candidates; here they are compared with the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from orchestrator.checkpoint.architecture import dinet, joonson, stable_syncnet, wav2lip
from orchestrator.checkpoint.architecture.candidates import Candidate, Shapes, difference, type_difference
from orchestrator.checkpoint.architecture.others import lone_encoder, other_network
from orchestrator.checkpoint.architecture.stable_syncnet import GIVE_CONFIG
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource
from orchestrator.errors import CheckpointError, RefusalReason

ANCHORS: tuple[str, ...] = (
    stable_syncnet.ANCHOR,
    wav2lip.FACE_ANCHOR,
    wav2lip.VISUAL_ANCHOR,
    joonson.TRAINER_ANCHOR,
    joonson.ANCHOR,
    dinet.ANCHOR,
)
"""One tensor of every net of each family, by which a SyncNet is found behind a prefix: what stands before the anchor in
a name is the prefix of the whole net, but for `OWN_PREFIXES`."""
OWN_PREFIXES = (joonson.TRAINER_PREFIX,)
"""What looks like a prefix by one anchor, and belongs to the names of the family of another."""

_FAMILIES = (stable_syncnet.candidates, wav2lip.candidates, joonson.candidates, dinet.candidates)


@dataclass(frozen=True)
class Recognition:
    """The answer."""

    config: AnyModelConfig
    """The network; its tensors are exactly those of the file."""
    how: str
    """For a person, e.g. `stable_syncnet (16_pixel_attn layout)`."""
    decisions: tuple[Decision, ...]
    """What was assumed."""


def recognise(
    weights: Mapping[str, Tensor], path: str, *, given: AnyModelConfig | None = None, source: DecisionSource
) -> Recognition:
    """Find the network that has exactly these tensors.

    Args:
        weights: tensors by clean names.
        path: for messages.
        given: the network, where it is known; it is checked and never overruled.
        source: who gave it.

    Raises:
        CheckpointError: `unknown_architecture`, or `mismatch` when `given` or the nearest known network does not fit.
        ConfigError: `given` is no working network.
    """
    if given is not None:
        require_fit(given, weights, path)
        why = "the configuration was given, and every tensor fits it"
        return Recognition(given, f"{given.name} (given)", (Decision("model", source, given.name, why),))
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    candidates = [candidate for family in _FAMILIES for candidate in family(shapes, path)]
    fitting = [candidate for candidate in candidates if not difference(candidate.config, shapes)]
    match fitting:
        case [only]:
            require_fit(only.config, weights, path)
            return Recognition(only.config, only.how, only.decisions)
        case []:
            raise _unknown(shapes, candidates, path)
        case _:
            raise _ambiguous(fitting, path)


def require_fit(config: AnyModelConfig, weights: Mapping[str, Tensor], path: str) -> None:
    """Refuse weights that are not exactly those of `config`: other names, other shapes, integers for reals.

    Raises:
        CheckpointError: `mismatch`, with the first differences.
        ConfigError: `config` is no working network.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    problem = str(difference(config, shapes)) or type_difference(config, weights)
    if problem:
        raise CheckpointError(
            f"the weights in {path} do not fit {config.name}: {problem}",
            reason=RefusalReason.MISMATCH,
            path=path,
            hint="give the configuration that the weights were trained with",
        )


def _ambiguous(fitting: list[Candidate], path: str) -> CheckpointError:
    """Several networks have these very tensors; name the options in which they differ."""
    raw: list[dict[str, Any]] = [candidate.config.model_dump(mode="json") for candidate in fitting]
    options = [key for key in raw[0] if len({str(config.get(key)) for config in raw}) > 1]
    named = " and ".join(f"`{key}` ({' or '.join(str(config.get(key)) for config in raw)})" for key in options)
    return CheckpointError(
        f"the weights in {path} are a {raw[0]['name']}, but do not tell its {named}, on which the embeddings depend",
        reason=RefusalReason.UNKNOWN_ARCHITECTURE,
        path=path,
        hint=f"give the model's configuration with the right {' and '.join(options)}, e.g. `model_config={raw[-1]}`",
    )


def _unknown(shapes: Shapes, candidates: list[Candidate], path: str) -> CheckpointError:
    """No known network has exactly these tensors; say the most that can be said."""
    reason, hint = RefusalReason.UNKNOWN_ARCHITECTURE, "give the file of a SyncNet; docs/models.md lists the known ones"
    if other := other_network(shapes):
        what = f"is {other}, which is no SyncNet"
    elif encoder := lone_encoder(shapes):
        what = f"holds only {encoder}; a SyncNet has two"
    elif candidates:
        nearest = min(candidates, key=lambda candidate: len(difference(candidate.config, shapes)))
        what = f"nearly holds {nearest.how}, but: {difference(nearest.config, shapes)}"
        reason, hint = RefusalReason.MISMATCH, GIVE_CONFIG
    elif broken := stable_syncnet.incomplete(shapes):
        what = f"holds tensors of a StableSyncNet, but not a whole one: {broken}"
        reason, hint = RefusalReason.MISMATCH, "download or save the file again"
    else:
        names = ", ".join(f"`{name}` {list(shape)}" for name, shape in list(shapes.items())[:3])
        what = f"holds weights of no known SyncNet: {len(shapes)} tensors, e.g. {names}"
        hint = GIVE_CONFIG
    return CheckpointError(f"{path} {what}", reason=reason, path=path, hint=hint)


__all__ = ["ANCHORS", "OWN_PREFIXES", "Recognition", "recognise", "require_fit"]
