"""A bare dict of tensors: `torch.save(model.state_dict(), file)`, and every safetensors file.

safetensors may carry strings beside the tensors: a step (`global_step` or `step`), and in files exported here the
description of the network (`model_config`).
"""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from orchestrator.checkpoint.formats.base import Contents, Extracted, Layout
from orchestrator.checkpoint.formats.layouts.values import count, count_decision, is_tensor_dict
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource
from orchestrator.config.model import ModelConfig

_MODEL: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)
_STEP_KEYS = ("global_step", "step")


def detect(contents: Contents) -> bool:
    """Whether the object is tensors by name and nothing else."""
    return is_tensor_dict(contents.data)


def extract(contents: Contents) -> Extracted:
    """Weights, and step and network from the metadata."""
    key = next((key for key in _STEP_KEYS if key in contents.metadata), _STEP_KEYS[0])
    raw_step = contents.metadata.get(key)
    step = count(int(raw_step)) if raw_step is not None and raw_step.isdecimal() else None
    config, decisions = _model_config(contents.metadata.get("model_config"))
    return Extracted(
        format="raw_state_dict",
        weights=dict(contents.data),
        step=step,
        model_config=config,
        decisions=(count_decision("step", key, raw_step, step), *decisions),
    )


BARE = Layout("bare", detect, extract)


def _model_config(text: str | None) -> tuple[AnyModelConfig | None, list[Decision]]:
    if text is None:
        return None, []
    try:
        return _MODEL.validate_json(text), []
    except ValidationError:
        why = "`model_config` in the metadata of the file is not in this product's form, so it was not used"
        return None, [Decision("model", DecisionSource.DERIVED, None, why)]
