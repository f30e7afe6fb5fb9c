"""What Ray shows of a submitted job besides its log: which run it drives, how that stands, and where its MLflow run is.

`ray job list` and `JobSubmissionClient.get_job_info(id).metadata` show it. What a person gave with `--metadata-json`
stays. Contract: nothing here raises or takes more than seconds, because no run may end for the sake of a label; outside
a submitted job nothing happens. The place is the one that Ray's own job supervisor writes, which leaves it alone while
the job's process lives.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.storage import redacted
from orchestrator.tracking import open_hint

if TYPE_CHECKING:  # the doctor asks for the id alone, and has no seconds for what a run needs
    from orchestrator.runtime.recorder import Recorder

_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The environment variable in which Ray tells a job's process what it belongs to."""
_ID = "job_submission_id"
_PATIENCE_S = 5.0
_LOG = logging.getLogger(__name__)


def submission_id(env: Mapping[str, str] = os.environ) -> str | None:
    """The id under which this process was submitted; none for a process that was not."""
    try:
        config = json.loads(env.get(_CONFIG, ""))
        return str(config["metadata"][_ID])
    except (ValueError, KeyError, TypeError):
        return None


def describe(**facts: Any) -> None:
    """Add facts to the metadata of the job that this process belongs to; those that are none or empty are left out."""
    submission, address = submission_id(), os.environ.get("RAY_ADDRESS")
    if submission is None or not address:
        return
    try:
        _merge(address, submission, {name: str(value) for name, value in facts.items() if value not in (None, "")})
    except Exception as error:  # Ray promises none of this, and no run may end for it
        _LOG.warning("the job's metadata stay as they were: %s", " ".join(str(error).split())[:200])


def describe_run(recorder: Recorder) -> None:
    """Say which run the job drives and where its MLflow run is; there, which job drives the run.

    Raises:
        TrackingError: the MLflow run cannot be written.
    """
    submission = submission_id()
    if submission is None:
        return
    writer = recorder.writer
    writer.set_tags({"ray.job": submission})
    link = writer.url or open_hint(recorder.target.uri)
    describe(**_facts(recorder), mlflow_run_id=writer.run_id, mlflow=link)


@contextmanager
def described(recorder: Recorder) -> Iterator[None]:
    """When the block ends, the job says how its run ended."""
    try:
        yield
    finally:
        describe(**_facts(recorder))


def _facts(recorder: Recorder) -> dict[str, str]:
    target = recorder.target
    kind, folder = target.tags.get("kind", "train"), redacted(target.paths.where)
    return {"run": target.paths.name, "kind": kind, "folder": folder, "state": _state(recorder)}


def _state(recorder: Recorder) -> str:
    from orchestrator.runtime.paths import read_json

    try:
        return str((read_json(recorder.target.paths.status) or {}).get("state", ""))
    except (OrchestratorError, OSError):  # the storage is away, which somebody else tells
        return ""


def _merge(address: str, submission: str, facts: Mapping[str, str]) -> None:
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.ray_constants import KV_NAMESPACE_JOB
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services
    from ray.dashboard.modules.job.common import JobInfoStorageClient

    key = JobInfoStorageClient.JOB_DATA_KEY.format(job_id=submission).encode()
    with init_grpc_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        store: Any = services.InternalKVGcsServiceStub(channel)
        asked = messages.InternalKVGetRequest(key=key, namespace=KV_NAMESPACE_JOB)  # type: ignore[attr-defined]
        info = json.loads(store.InternalKVGet(asked, timeout=_PATIENCE_S).value)
        info["metadata"] = {**(info.get("metadata") or {}), **facts}
        told = messages.InternalKVPutRequest(  # type: ignore[attr-defined]
            key=key, value=json.dumps(info).encode(), overwrite=True, namespace=KV_NAMESPACE_JOB
        )
        store.InternalKVPut(told, timeout=_PATIENCE_S)
