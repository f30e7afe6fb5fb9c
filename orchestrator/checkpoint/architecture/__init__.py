"""Which network do these weights belong to? Told from names and shapes, or checked against a given description.

Contract: nothing is guessed. Either every tensor fits a network exactly and the answer says what was assumed (the
strides of a matched layout), or a CheckpointError says what is known, what weights cannot tell, and how to give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from orchestrator.checkpoint.architecture.stable_syncnet import (
    Shapes,
    Skeleton,
    config_of,
    match,
    read_skeleton,
    read_skeletons,
)
from orchestrator.checkpoint.architecture.unsupported import known_but_unsupported
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource
from orchestrator.config.model import Wav2LipSyncNetConfig, model_problems
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import build_meta

_GIVE_CONFIG = (
    "give the model's configuration: `model_config=` with LatentSync's own YAML or this product's `model:` section"
)


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
        CheckpointError: `unknown_architecture`, `unsupported`, or `mismatch` when `given` or the nearest known network
            does not fit.
        ConfigError: `given` is no working network.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if given is not None:
        require_fit(given, weights, path)
        why = "the configuration was given, and every tensor fits it"
        return Recognition(given, f"{given.name} (given)", (Decision("model", source, given.name, why),))
    skeletons = read_skeletons(shapes)
    if skeletons is not None:
        return _stable_syncnet(*skeletons, weights, path)
    if _difference(Wav2LipSyncNetConfig(), shapes) is None:
        why = "names and shapes are exactly those of Wav2Lip's SyncNet_color, which has no free hyperparameters"
        decision = Decision("model", DecisionSource.DERIVED, "wav2lip_syncnet", why)
        require_fit(Wav2LipSyncNetConfig(), weights, path)
        return Recognition(Wav2LipSyncNetConfig(), "wav2lip_syncnet (SyncNet_color)", (decision,))
    raise _unknown(shapes, path)


def require_fit(config: AnyModelConfig, weights: Mapping[str, Tensor], path: str) -> None:
    """Refuse weights that are not exactly those of `config`: other names, other shapes, integers for reals.

    Raises:
        CheckpointError: `mismatch`, with the first differences.
        ConfigError: `config` is no working network.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    difference = _difference(config, shapes) or _type_difference(config, weights)
    if difference:
        raise CheckpointError(
            f"the weights in {path} do not fit {config.name}: {difference}",
            reason=RefusalReason.MISMATCH,
            path=path,
            hint="give the configuration that the weights were trained with",
        )


def _stable_syncnet(audio: Skeleton, visual: Skeleton, weights: Mapping[str, Tensor], path: str) -> Recognition:
    layout = match(audio, visual)
    if layout is None:
        known = f"audio encoder: {audio}; visual encoder: {visual}"
        raise CheckpointError(
            f"the weights in {path} are a StableSyncNet of no shipped layout ({known}); weights do not tell the "
            "strides (`downsample_factors`), nor resolution and frames",
            reason=RefusalReason.UNKNOWN_ARCHITECTURE,
            path=path,
            hint=_GIVE_CONFIG,
        )
    config = config_of(layout, audio, visual)
    problems = model_problems(config)
    if problems:
        raise CheckpointError(
            f"the weights in {path} look like StableSyncNet's {layout.name} layout, but cannot be one: {problems[0]}",
            reason=RefusalReason.UNKNOWN_ARCHITECTURE,
            path=path,
            hint=_GIVE_CONFIG,
        )
    require_fit(config, weights, path)
    return Recognition(config, f"stable_syncnet ({layout.name} layout)", _shipped_decisions(layout.name, config))


def _shipped_decisions(layout: str, config: AnyModelConfig) -> tuple[Decision, ...]:
    read_off = "channels, attention places and downsampling places were read off the weights"
    assumed = f"weights do not tell this; it is that of LatentSync's {layout} layout, whose structure they have"
    raw = config.model_dump(mode="json")
    decisions = [Decision("model", DecisionSource.DERIVED, f"stable_syncnet ({layout})", read_off)]
    for encoder in ("audio_encoder", "visual_encoder"):
        factors = raw[encoder]["downsample_factors"]
        decisions.append(Decision(f"model.{encoder}.downsample_factors", DecisionSource.DERIVED, factors, assumed))
    for key in ("num_frames", "resolution", "lower_half", "latent_space"):
        decisions.append(Decision(f"model.{key}", DecisionSource.DERIVED, raw[key], assumed))
    no_dropout = "weights do not tell it; the shipped layouts have none"
    decisions.append(Decision("model.dropout", DecisionSource.DEFAULT, 0.0, no_dropout))
    return tuple(decisions)


def _difference(config: AnyModelConfig, shapes: Shapes) -> str | None:
    """The first differences between a network's tensors and these, or none."""
    expected = {name: tuple(tensor.shape) for name, tensor in build_meta(config).state_dict().items()}
    missing = [name for name in expected if name not in shapes]
    extra = [name for name in shapes if name not in expected]
    wrong = [
        f"`{name}` is {list(shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    ]
    parts = [_listed("missing", missing), _listed("not part of it", extra), _listed("of another shape", wrong)]
    return "; ".join(part for part in parts if part) or None


def _type_difference(config: AnyModelConfig, weights: Mapping[str, Tensor]) -> str | None:
    wrong = [
        f"`{name}` is {str(weights[name].dtype).removeprefix('torch.')}"
        for name, tensor in build_meta(config).state_dict().items()
        if tensor.is_floating_point() != weights[name].is_floating_point()
    ]
    return _listed("of another kind of number", wrong) or None


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
    return f"{len(names)} {what} ({shown})"


def _unknown(shapes: Shapes, path: str) -> CheckpointError:
    known = known_but_unsupported(shapes)
    if known:
        return CheckpointError(
            f"the weights in {path} are those of {known}, which is not supported yet",
            reason=RefusalReason.UNSUPPORTED,
            path=path,
            hint="supported are StableSyncNet (LatentSync) and SyncNet_color (Wav2Lip)",
        )
    if any(read_skeleton(shapes, f"{name}_encoder.") for name in ("audio", "visual")):
        what = "has only one whole encoder of a StableSyncNet; tensors of the other are missing"
        reason = RefusalReason.MISMATCH
    elif "face_encoder.0.conv_block.0.weight" in shapes:
        what = f"nearly holds Wav2Lip's SyncNet_color, but: {_difference(Wav2LipSyncNetConfig(), shapes)}"
        reason = RefusalReason.MISMATCH
    else:
        names = ", ".join(f"`{name}` {list(shape)}" for name, shape in list(shapes.items())[:3])
        what = f"holds weights of no known SyncNet: {len(shapes)} tensors, e.g. {names}"
        reason = RefusalReason.UNKNOWN_ARCHITECTURE
    return CheckpointError(f"{path} {what}", reason=reason, path=path, hint=_GIVE_CONFIG)


__all__ = ["Recognition", "recognise", "require_fit"]
