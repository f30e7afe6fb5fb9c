"""The names of the tags by which this product finds its runs again, and the searches for them.

Contract: these names are stored in people's trackers, so they never change.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.errors import TrackingError

KEY_TAG = "orchestrator.run_key"
"""Our own id of a run within its experiment."""
HOST_TAG = "orchestrator.host"
"""The machine of the process that writes the run."""
PID_TAG = "orchestrator.pid"
"""Its process id there."""
START_TAG = "orchestrator.process_start"
"""When that process began, as `ProcessMark.start` has it."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag for the run above."""
CHANGED_PREFIX = "changed."
"""Tags of this name hold settings that differ from the param first logged."""
CHAMPION_TAG = "champion"
"""`true` at the best trial of a sweep; the sweep's own run names that trial."""
MODEL_TAG = "model.state"
"""Hash of the checkpoint that a run's weights in the registry come from, at the run and at the version."""


def key_filter(key: str) -> str:
    """The search for the run with this key.

    Raises:
        TrackingError: the key has characters that MLflow's search language cannot quote.
    """
    return _tag_is(KEY_TAG, key)


def parent_filter(parent_run_id: str) -> str:
    """The search for the runs right below one run."""
    return _tag_is(PARENT_TAG, parent_run_id)


def champion_filter(tags: Mapping[str, str]) -> str:
    """The search for the champions beside a run with these tags: those below the same run."""
    return f"{_tag_is(CHAMPION_TAG, 'true')} and {parent_filter(tags[PARENT_TAG])}"


def host_filter(host: str) -> str:
    """The search for the runs that one machine is writing, or died while writing."""
    return f"attributes.status = 'RUNNING' and {_tag_is(HOST_TAG, host)}"


def _tag_is(tag: str, value: str) -> str:
    if not value or any(character in value for character in "'\"`\\"):
        raise TrackingError(f"a run cannot be looked up by {tag} = {value!r}", hint="use a name without quotes")
    return f"tags.`{tag}` = '{value}'"
