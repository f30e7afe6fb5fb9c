"""What makes two starts the same run.

The same name with the same meaning continues; the same name with another meaning is refused, because Ray would
silently resume the old run under the new settings. Settings that only say where and how fast a run computes may change
between starts, and so may the credentials in an address, which are not written down.
"""

from __future__ import annotations

from typing import Any

from orchestrator.config.findings import setting_names
from orchestrator.config.schema import RunConfig
from orchestrator.config.sweep import SWEEP_FREE, SweepConfig
from orchestrator.errors import RunError
from orchestrator.runtime.paths import RunPaths, read_json, write_json
from orchestrator.storage import redacted
from orchestrator.tracking.redaction import redact_tree

FREE = (
    "scale.",
    "tracking.",
    "storage",
    "data.path",
    "data.cache",
    "data.loader_threads",
    "data.prefetch",
    "train.micro_batch",
    "speed.",
    "checkpoint.",
)
"""Settings that may differ between two starts of one run: they change no number that the run computes."""
MEANT = ("checkpoint.metric",)
"""Exceptions to that: they decide which checkpoint is best."""


def claim(paths: RunPaths, config: RunConfig, facts: dict[str, Any]) -> bool:
    """Register this configuration under the run's name, or check that it is the one registered.

    Args:
        paths: the run's places.
        config: its configuration.
        facts: what else must not change, such as the hash of the corpus and of the starting state.

    Returns:
        Whether the run existed before.

    Raises:
        RunError: the name belongs to a run of another meaning.
    """
    identity = redact_tree({"settings": _meaning(config), "facts": facts})
    known = read_json(paths.identity)
    if known is None:
        write_json(paths.identity, {**identity, "config": redact_tree(config.model_dump(mode="json"))})
        return False
    # an older version knew fewer settings, and computed what the new ones compute by default
    before = _meaning_of(known["settings"], config)
    changed = _differences(redact_tree(before), identity["settings"])
    changed += _differences(redact_tree(known["facts"]), identity["facts"])
    if changed:
        raise RunError(
            f"the run {paths.name!r} exists with other settings: {'; '.join(changed)}",
            hint="go back to the old settings to continue it, or give another --name, which with "
            f"`start.verb=resume start.checkpoint={redacted(paths.where)}/step-...` goes on from one of its "
            "checkpoints",
        )
    return True


def _meaning(config: RunConfig) -> dict[str, Any]:
    plain = config.model_dump(mode="json")
    return {name: _lookup(plain, name) for name in _meaningful()} | {"sweep": _sweep_meaning(plain["sweep"])}


def _sweep_meaning(sweep: dict[str, Any] | None) -> dict[str, Any] | None:
    """A sweep without its budget: more of that extends it; but a population is as large as it began."""
    if sweep is None:
        return None
    free = set(SWEEP_FREE) - ({"trials"} if sweep.get("scheduler") == "pbt" else set())
    return {name: value for name, value in sweep.items() if name not in free}


def _meaning_of(known: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The settings that were registered, with those that are newer at their defaults."""
    missing = [name for name in _meaningful() if name not in known]
    plain = config.model_dump(mode="json")
    for name in missing:
        _remove(plain, name)
    defaults = RunConfig.model_validate(plain).model_dump(mode="json") if missing else {}
    meaning = {name: known[name] if name in known else _lookup(defaults, name) for name in _meaningful()}
    if meaning["sweep"] is not None:
        sweep = SweepConfig.model_validate(meaning["sweep"]).model_dump(mode="json")
        meaning["sweep"] = _sweep_meaning(sweep)
    return meaning


def _meaningful() -> list[str]:
    return [name for name in setting_names() if name in MEANT or not name.startswith(FREE)]


def _lookup(plain: dict[str, Any], dotted: str) -> Any:
    value: Any = plain
    for part in dotted.split("."):
        value = value[part]
    return value


def _remove(plain: dict[str, Any], dotted: str) -> None:
    *path, last = dotted.split(".")
    _lookup(plain, ".".join(path)).pop(last) if path else plain.pop(last)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    keys = sorted(set(old) | set(new))
    return [f"`{key}` was {old.get(key)!r} and is {new.get(key)!r}" for key in keys if old.get(key) != new.get(key)]
