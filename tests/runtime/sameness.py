"""Whether two runs ended alike, bit for bit: the whole state in their last checkpoints, and every figure they logged.

Left out are the figures that measure time or the machine: they are another every time, even of the same run.
"""

from __future__ import annotations

import json
from pathlib import Path

import orchestrator
from orchestrator.config import RunConfig
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.train import tracking_uri
from orchestrator.runtime.usage import SYSTEM
from orchestrator.tracking import find_run, read_history
from orchestrator.training.retention import checkpoints_in

TIMES = frozenset({"train/samples_per_s", "train/data_wait", "train/data_ready"})
"""What depends on the machine and the moment."""

Rows = list[dict[str, float]]


def differences(config: RunConfig, first: str, second: str) -> list[str]:
    """What is not the same in two runs of one configuration, one line per finding; none when they ended alike."""
    ends = [checkpoints_in(RunPaths.of(config.storage, name).folder)[-1] for name in (first, second)]
    found: list[str] = []
    if ends[0].name != ends[1].name or len({_content(end) for end in ends}) > 1:
        found += orchestrator.diff(*ends).lines()
    one, other = logged(config, first), logged(config, second)
    found += [f"{name} was logged for one run only" for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        if one[name] != other[name]:
            odd = [[row for row in a if row not in b] for a, b in ((one[name], other[name]), (other[name], one[name]))]
            found.append(f"{name}: {odd[0][:3]} | {odd[1][:3]}")
    return found


def logged(config: RunConfig, name: str) -> dict[str, Rows]:
    """Every figure of a run by name, as rows in order of steps, without those that measure time or the machine."""
    uri = tracking_uri(config)
    record = find_run(uri, config.tracking.experiment, name)
    assert record is not None, f"{uri} has no run {name!r}"
    counted = [name for name in record.metrics if name not in TIMES and not name.startswith(SYSTEM)]
    return {metric: read_history(uri, record.run_id, [metric]) for metric in counted}


def _content(checkpoint: Path) -> str:
    return str(json.loads((checkpoint / "manifest.json").read_text())["content_hash"])
