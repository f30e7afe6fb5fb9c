"""From YAML and `a.b=c` overrides to a checked `RunConfig`.

Promises: every problem is reported at once, in one grammar ("`optim.lr` must be > 0, but is -1"), unknown keys with a
did-you-mean; LatentSync's own SyncNet YAML files load too, with a note for every setting that has no meaning here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from orchestrator.config.findings import describe_validation
from orchestrator.config.latentsync import convert_latentsync, is_latentsync
from orchestrator.config.model import AnyModelConfig, ModelConfig, StableSyncNetConfig
from orchestrator.config.schema import RunConfig
from orchestrator.config.space_checks import space_problems
from orchestrator.config.validation import validate, with_settings
from orchestrator.errors import ConfigError

ConfigSource = RunConfig | str | Path | Mapping[str, Any]
"""A checked configuration, a YAML file, or the same as a mapping."""

_MODEL: TypeAdapter[AnyModelConfig] = TypeAdapter(ModelConfig)


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Read and check a configuration.

    Args:
        source: a YAML file, or the same as a mapping.
        overrides: `a.b=c` strings; the value is read as YAML.

    Raises:
        ConfigError: with every problem that was found.
    """
    return load_config_with_notes(source, overrides)[0]


def as_config(source: ConfigSource) -> RunConfig:
    """A checked configuration as it is, anything else loaded."""
    return source if isinstance(source, RunConfig) else load_config(source)


def load_config_with_notes(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[RunConfig, list[str]]:
    """Like `load_config`, with what was left out or reinterpreted of a foreign file, one sentence each."""
    name = "the configuration" if isinstance(source, Mapping) else str(source)
    raw = _read(source, name)
    notes: list[str] = []
    if is_latentsync(raw):
        raw, notes = convert_latentsync(raw)
    config = validate(_override(raw, overrides, name), name, space_problems)
    return config, notes


def load_model_config(source: str | Path | Mapping[str, Any]) -> AnyModelConfig:
    """The model part of a configuration file, of LatentSync's too; or a mapping that is such a part.

    Raises:
        ConfigError: with every problem that was found.
    """
    name = "the model configuration" if isinstance(source, Mapping) else str(source)
    raw = _read(source, name)
    if is_latentsync(raw):
        raw = convert_latentsync(raw)[0]
    try:
        return _MODEL.validate_python(raw.get("model", raw))
    except ValidationError as error:
        raise ConfigError(describe_validation(error, StableSyncNetConfig, "model."), source=name) from None


def apply_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with dotted settings replaced, checked as a whole again."""
    return validate(with_settings(config, settings), more=space_problems)


def _read(source: str | Path | Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(source, Mapping):
        path = Path(source)
        if not path.is_file():
            raise ConfigError([f"there is no file {name}"], source=name, hint="give the path of a YAML file")
    try:
        node = OmegaConf.create(dict(source)) if isinstance(source, Mapping) else OmegaConf.load(path)
        raw = OmegaConf.to_container(node, resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError([f"it cannot be read as YAML: {reason}"], source=name) from None
    if not isinstance(raw, dict):
        raise ConfigError([f"it must be a mapping of sections, but is a {type(raw).__name__}"], source=name)
    return {str(key): value for key, value in raw.items()}


def _override(raw: dict[str, Any], overrides: Sequence[str], name: str) -> dict[str, Any]:
    malformed = [f"override `{item}` must look like a.b=c" for item in overrides if "=" not in item]
    if malformed:
        raise ConfigError(malformed, source=name)
    try:
        merged = OmegaConf.merge(_without_interpolation(raw), OmegaConf.from_dotlist(list(overrides)))
        return dict(OmegaConf.to_container(merged, resolve=True))  # type: ignore[arg-type]
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError([f"an override cannot be applied: {' '.join(str(error).split())}"], source=name) from None


def _without_interpolation(raw: dict[str, Any]) -> Any:
    # already resolved: a value that merely looks like an interpolation must not be resolved a second time
    return OmegaConf.create(raw, flags={"allow_objects": True})
