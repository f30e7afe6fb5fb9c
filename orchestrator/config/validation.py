"""Plain data against the schema and against itself; what is checked of a whole configuration and of a trial's alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from orchestrator.config.checks import cross_problems
from orchestrator.config.findings import describe_validation
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError


def validate(
    raw: Mapping[str, Any],
    name: str = "the configuration",
    more: Callable[[RunConfig], list[str]] = lambda _: [],
) -> RunConfig:
    """Check a plain mapping.

    Args:
        raw: sections and their settings.
        name: what a person calls it.
        more: further problems of a configuration whose values are sound by themselves.

    Raises:
        ConfigError: with every problem that was found.
    """
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(describe_validation(error, RunConfig), source=name) from None
    problems = cross_problems(config) + more(config)
    if problems:
        raise ConfigError(problems, source=name)
    return config


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as plain data with dotted settings, or whole sections, replaced; nothing is checked."""
    raw = config.model_dump(mode="python")
    for dotted, value in settings.items():
        *sections, key = dotted.split(".")
        target = raw
        for section in sections:
            target = target[section]
        target[key] = value
    return raw
