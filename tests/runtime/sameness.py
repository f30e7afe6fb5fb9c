"""Whether two runs ended alike, bit for bit: the whole state in their last checkpoints, and every figure they logged.

Left out are the figures that measure time or the machine: they are another every time, even of the same run.
"""

from __future__ import annotations

import orchestrator
from orchestrator.checkpoint import read_manifest
from orchestrator.config import RunConfig
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.train import tracking_uri
from orchestrator.runtime.usage import SYSTEM
from orchestrator.tracking import find_run, read_history
from orchestrator.training.retention import checkpoints_in, step_of

TIMES = frozenset({"train/samples_per_s", "train/data_wait", "train/data_ready"})
"""What depends on the machine and the moment."""

Rows = list[dict[str, float]]


def differences(config: RunConfig, first: str, second: str) -> list[str]:
    """What is not the same in two runs of one configuration, one line per finding; none when they ended alike."""
    return differences_between((config, first), (config, second))


def differences_between(*runs: tuple[RunConfig, str]) -> list[str]:
    """The same of two runs of two configurations, which may lie in different places."""
    ends = [checkpoints_in(RunPaths.of(config.storage, name).where)[-1] for config, name in runs]
    found: list[str] = []
    if step_of(ends[0]) != step_of(ends[1]) or len({read_manifest(end).content_hash for end in ends}) > 1:
        found += orchestrator.diff(*ends).lines()
    one, other = (logged(*run) for run in runs)
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
