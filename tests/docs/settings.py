"""Settings that the documentation names: against the schema, and against a preset as the real program loads it.

Contract: files of the reader's own need not be there; a preset of ours stands in for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from orchestrator.config import RunConfig, load_config
from orchestrator.config.findings import did_you_mean, section_names, setting_names
from orchestrator.errors import ConfigError
from orchestrator.sweeps.default import with_sweep
from tests.docs.pages import ROOT
from tests.docs.shell import MORE
from tests.docs.trees import is_placeholder

EXAMPLE = "a.b=c"
"""What the documentation writes for any setting."""
_STAND_IN = ROOT / "configs" / "latentsync_16_pixel_attn.yaml"
_IN_THE_IMAGE = "/app/"
"""Where the container image has the project."""
_SECTIONS = [name for name, field in RunConfig.model_fields.items() if f"{name}." in " ".join(setting_names())]
_SETTING = re.compile(rf"(?:{'|'.join(_SECTIONS)})\.(?!py$)[\w.]+(?:=\S*)?")
_TAGS = {"start.state"}
"""What is called like a setting and is none: tags of MLflow runs."""


def is_setting(text: str) -> bool:
    """Whether a piece of inline code is a setting such as `optim.lr`, perhaps with a value."""
    return _SETTING.fullmatch(text) is not None and text not in _TAGS


def setting_problems(text: str) -> Iterator[str]:
    """What is wrong with `a.b` or `a.b=c`."""
    name, _, value = text.partition("=")
    known = [*setting_names(), *section_names()]
    if name not in known:
        yield f"there is no setting `{name}`{did_you_mean(name, known)}"
    elif value and not is_placeholder(value):
        yield from _refusals(_STAND_IN, ["start.checkpoint=FILE", text])


def run_problems(config: object, overrides: Sequence[str] | None, **budget: Any) -> Iterator[str]:
    """What is wrong with a configuration and its overrides, and with the budget of a sweep."""
    given = [item for item in overrides or () if item not in (EXAMPLE, MORE)]
    for item in (item for item in given if is_placeholder(item.partition("=")[2])):
        yield from setting_problems(item)
    path = _file(str(config))
    if path is None:
        yield f"{config} is no configuration: there is no such file in the repository, and it is not called *.yaml"
        return
    yield from _refusals(path, [item for item in given if not is_placeholder(item.partition("=")[2])], **budget)


def yaml_problems(text: str) -> Iterator[str]:
    """What is wrong with a part of a configuration, on top of a preset."""
    part = yaml.safe_load(text)
    if not isinstance(part, dict) or set(part) - set(RunConfig.model_fields):
        yield f"this is no part of a configuration: {text.splitlines()[0]}"
        return
    yield from _refusals(OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(_STAND_IN), part)), [])


def _file(name: str) -> Path | None:
    """The configuration of a name, or what stands in for it; none for what cannot be one."""
    path = ROOT / name.removeprefix(_IN_THE_IMAGE)
    if path.is_file():
        return path
    return _STAND_IN if is_placeholder(name) or name in ("None", "configs/X.yaml") or name.endswith(".yaml") else None


def _refusals(source: Any, overrides: Sequence[str], **budget: Any) -> Iterator[str]:
    try:
        with_sweep(load_config(source, overrides), **budget)
    except ConfigError as error:
        yield from error.problems
