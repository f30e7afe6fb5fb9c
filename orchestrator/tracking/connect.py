"""Open a tracking store and an experiment in it: safely when many do so at once, quickly when it is not there.

Why: MLflow creates a SQLite store without a lock, so two processes that start together corrupt each other's
migration, and it retries a missing server for minutes. Contract: whatever goes wrong inside `guard` comes out as
`TrackingError` with the address, its credentials hidden, and a hint.
"""

from __future__ import annotations

import logging
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from filelock import FileLock

from orchestrator.errors import OrchestratorError, TrackingError
from orchestrator.tracking.redaction import redact
from orchestrator.tracking.store import artifact_location, is_server, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 5.0
"""How long a tracking server may take to answer the first call."""
LOCK_SECONDS = 120.0
"""How long to wait for another process that is creating the same SQLite store."""


def connect(uri: str) -> MlflowClient:
    """A client of the store at `uri`, which is created first if it is a SQLite file that does not exist.

    Raises:
        TrackingError: the server does not answer within `PROBE_SECONDS`, or the store cannot be opened.
    """
    _probe(uri)
    # MLflow reports usage to its makers by default, which a cluster without internet access turns into delays.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # It also prints the address of every run that ends to standard output, where a caller's own output goes.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # And it waits minutes for a server that is away: whoever can wait tries again itself, and knows for how long.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with guard(uri, "open the tracking store"), _first_use(uri):
        from mlflow import MlflowClient

        # what it logs as an error, with a traceback each time, it also raises
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def ensure_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment, which is created if there is none of that name.

    Raises:
        TrackingError: it was deleted in MLflow, or cannot be read or created.
    """
    with guard(uri, f"open the experiment {name!r}"):
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=artifact_location(uri)))
            except MlflowException:  # another process may have created it since
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
    if found.lifecycle_stage == "deleted":
        hint = f"restore it with `mlflow experiments restore --experiment-id {found.experiment_id}` or use another name"
        raise TrackingError(f"the experiment {name!r} was deleted in MLflow at {redact(uri)}", hint=hint)
    return str(found.experiment_id)


def find_experiment(client: MlflowClient, uri: str, name: str) -> str | None:
    """The id of the experiment, or none if there is no such experiment. Creates nothing."""
    with guard(uri, f"look up the experiment {name!r}"):
        found = client.get_experiment_by_name(name)
    return None if found is None else str(found.experiment_id)


@contextmanager
def guard(uri: str, action: str) -> Iterator[None]:
    """Turn every failure inside into a `TrackingError` that says what was tried and where."""
    try:
        yield
    except OrchestratorError:  # it says so already
        raise
    # All of Exception: besides its own errors MLflow lets through those of database drivers, HTTP and object stores.
    except Exception as error:
        raise TrackingError(f"cannot {action} at {redact(uri)}: {_reason(error)}", hint=_hint(uri, error)) from error


def _reason(error: BaseException) -> str:
    """One line: what the database driver says, where SQLAlchemy and MLflow have wrapped it in words of their own."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(getattr(cause, "orig", None), Exception):
        cause = cause.__cause__
    text = str(error if cause is None else cause.orig)  # type: ignore[attr-defined]
    return redact(text).strip().split("\n", 1)[0] or type(error).__name__


def _probe(uri: str) -> None:
    """Ask a server for anything at all, so that a wrong address is an error in seconds and not in minutes."""
    if not is_server(uri):
        return
    request = urllib.request.Request(_health(uri), method="GET")
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # any answer proves that somebody is there; MLflow itself judges what it says
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            return  # MLflow has certificate settings of its own
        message = f"the tracking server at {redact(uri)} does not answer: {redact(str(error))}"
        raise TrackingError(message, hint=_hint(uri, error)) from error


def _health(uri: str) -> str:
    """The health page of a server, without the credentials that urllib would mistake for a part of the host."""
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/") + "/health"


def _first_use(uri: str) -> AbstractContextManager[object]:
    """Let one process at a time open a SQLite store, since opening may create and migrate it."""
    database = sqlite_path(uri)
    if database is None:
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=LOCK_SECONDS)


def _hint(uri: str, error: Exception) -> str:
    """What a person can do about a failure at this kind of store."""
    if isinstance(error, ModuleNotFoundError):
        return f"install the driver of this database: pip install {error.name}"
    if is_server(uri):
        return "is the server running and reachable from here? start one with `mlflow server`, or set tracking.uri"
    if sqlite_path(uri) is not None:
        return "is its folder writable, and has the disk room? set tracking.uri to keep the runs elsewhere"
    return "check tracking.uri"
