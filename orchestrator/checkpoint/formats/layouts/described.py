"""The network, where a configuration beside the weights describes it.

Configurations come as plain dicts, Namespaces, OmegaConf or lost classes; all are read as plain data. Contract: one is
believed when it is a whole description of a SyncNet and every tensor fits it; otherwise it is as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.checkpoint.architecture import require_fit
from orchestrator.checkpoint.formats.layouts.scopes import Scopes
from orchestrator.checkpoint.formats.layouts.values import entries_of
from orchestrator.checkpoint.formats.pickles import plain
from orchestrator.checkpoint.names import clean_names
from orchestrator.checkpoint.state import AnyModelConfig, Decision, DecisionSource
from orchestrator.config import load_model_config
from orchestrator.config.latentsync import is_latentsync
from orchestrator.config.model import ModelConfig, StableSyncNetConfig
from orchestrator.errors import CheckpointError, ConfigError

_MODEL: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)
_CONFIG = re.compile(r"conf|cfg|hparams|hyper_?param|args|^opt$|settings|arch", re.IGNORECASE)
_SECTIONS = ("model", "syncnet", "model_config", "net", "config")
_ENCODERS = ("audio_encoder", "visual_encoder")


def described(scopes: Scopes, weights: Mapping[str, Any], path: str) -> tuple[AnyModelConfig | None, list[Decision]]:
    """The network that an entry describes and that the tensors fit, or none."""
    for entry in scopes.all(lambda entry: bool(_CONFIG.search(entry.key)) and entries_of(entry.value) is not None):
        for raw in _descriptions(plain(entry.value)):
            config = _fitting(raw, weights, path)
            if config is not None:
                scopes.use(entry)
                why = f"`{entry.where}` of the file describes the network, and every tensor fits"
                return config, [Decision("model.config", DecisionSource.FILE, config.name, why)]
    return None, []


def described_in_text(text: str | None) -> tuple[AnyModelConfig | None, list[Decision]]:
    """The network in the metadata of a safetensors file that was exported here."""
    if text is None:
        return None, []
    try:
        return _MODEL.validate_json(text), []
    except ValidationError:
        why = "`model_config` in the metadata of the file is not in this product's form, so it was not used"
        return None, [Decision("model", DecisionSource.DERIVED, None, why)]


def _descriptions(raw: Any) -> Iterator[Mapping[str, Any]]:
    """Dicts that tell a whole network, in `raw` and its sections."""
    if not isinstance(raw, Mapping):
        return
    if all(isinstance(raw.get(part), Mapping) and "downsample_factors" in raw[part] for part in _ENCODERS):
        yield {**_known(raw), "name": "stable_syncnet"}
    elif isinstance(raw.get("name"), str) and raw["name"].endswith(("syncnet", "trainer", "fork")):
        yield raw
    if is_latentsync(raw):
        yield raw  # with what its other sections say about the input
    for section in _SECTIONS:
        if isinstance(raw.get(section), Mapping):
            yield from _descriptions(raw[section])


def _known(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a description may say; the rest of the dict is about something else."""
    return {key: value for key, value in raw.items() if key in StableSyncNetConfig.model_fields}


def _fitting(raw: Mapping[str, Any], weights: Mapping[str, Any], path: str) -> AnyModelConfig | None:
    try:
        config = load_model_config(raw)
        require_fit(config, clean_names(weights, path)[0], path)
    except (ConfigError, CheckpointError, AttributeError, TypeError, ValueError):
        return None
    return config
