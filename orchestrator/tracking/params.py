"""Settings as MLflow params and tags: nested -> dotted text, secrets hidden, cut to MLflow's limits.

Contract: pure functions; the same settings always give the same text, so that a continued run can tell a changed
setting from an unchanged one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.tracking.redaction import redact_tree

PARAM_LIMIT = 6000
"""Most characters of a param's value that MLflow keeps."""
TAG_LIMIT = 5000
"""Most characters of a tag's value that every MLflow store keeps."""
KEY_LIMIT = 250
"""Most characters of a name."""

_NOT_ALLOWED = re.compile(r"[^\w\-. /:]")


def flatten(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as `{"optim.lr": "1e-05", ...}`, ready to be logged. Lists become JSON."""
    return {safe_name(key): cut(_text(value), PARAM_LIMIT) for key, value in _leaves(redact_tree(dict(settings)), "")}


def clean_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags that MLflow accepts and anybody may read."""
    return {safe_name(name): cut(str(redact_tree(value, name)), TAG_LIMIT) for name, value in tags.items()}


def safe_name(name: str) -> str:
    """A name with `_` for every character that MLflow refuses, cut to its limit."""
    return cut(_NOT_ALLOWED.sub("_", name), KEY_LIMIT, ellipsis="_")


def cut(text: str, limit: int, ellipsis: str = "…") -> str:
    """`text` in at most `limit` characters, the last of them an ellipsis if any were left out."""
    return text if len(text) <= limit else text[: limit - len(ellipsis)] + ellipsis


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every setting that is not itself a group, under its dotted name."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{name}.")
        else:
            yield name, item


def _text(value: Any) -> str:
    """A value as a person would write it."""
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)
