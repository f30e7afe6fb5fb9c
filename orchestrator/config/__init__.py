"""The typed configuration: schema, YAML files, overrides, and validation that reports all problems at once."""

from orchestrator.config.load import (
    apply_settings,
    load_config,
    load_config_with_notes,
    load_model_config,
)
from orchestrator.config.model import InputShape, ModelConfig, StableSyncNetConfig, Wav2LipSyncNetConfig, input_shape
from orchestrator.config.schema import RunConfig

__all__ = [
    "InputShape",
    "ModelConfig",
    "RunConfig",
    "StableSyncNetConfig",
    "Wav2LipSyncNetConfig",
    "apply_settings",
    "input_shape",
    "load_config",
    "load_config_with_notes",
    "load_model_config",
]
