"""Which tracking store a run is recorded in, as pure functions of addresses.

Why: the same answer is needed by the plan, the doctor, the run and its status. Contract: nothing here opens a
connection, creates a file or imports mlflow; addresses of local stores are made absolute, because drivers and workers
have different working directories.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import ConfigError
from orchestrator.tracking.redaction import redact

URI_VARIABLE = "MLFLOW_TRACKING_URI"
"""The environment variable that MLflow's own tools read, and that comes after the configured address."""

_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_NO_FILE_STORE = "MLflow no longer maintains its file store: use a database, such as sqlite:////folder/mlflow.db"


def resolve_uri(configured: str | None, storage: str, env: Mapping[str, str]) -> str:
    """The address of the tracking store: the configured one, else the environment's, else SQLite under `storage`.

    Args:
        configured: `tracking.uri` of the run, or none.
        storage: the folder or remote address under which runs are kept.
        env: the environment, such as `os.environ`.

    Returns:
        An absolute address that means the same from every working directory of this machine.

    Raises:
        ConfigError: the address is one of MLflow's retired file stores, or there is no address and `storage` is
            remote, where a SQLite file cannot live.
    """
    for source, uri in (("tracking.uri", configured), (URI_VARIABLE, env.get(URI_VARIABLE))):
        if uri:
            return _checked(uri, source)
    folder = local_folder(storage)
    if folder is None:
        problem = f"`tracking.uri` must be given, because `storage` is remote ({redact(storage)})"
        hint = "give tracking.uri=http://your-mlflow-server:5000 (a SQLite file cannot live in an object store)"
        raise ConfigError([problem], hint=hint)
    return f"{_SQLITE}{folder / 'mlflow.db'}"


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a SQLite store; none means that the server decides."""
    database = sqlite_path(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of the file behind a SQLite address; none for every other kind of store."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).split("?", 1)[0]).absolute()


def local_folder(storage: str) -> Path | None:
    """The absolute path of a local storage folder; none when the address is remote."""
    match = _SCHEME.match(storage)
    if match is None:
        return Path(storage).expanduser().absolute()
    return Path(unquote(urlsplit(storage).path)) if match[1] == "file" else None


def open_hint(uri: str) -> str:
    """What a person types, or opens in a browser, to see the runs of this store. Credentials are left out."""
    if is_server(uri):
        return redact(uri)
    if uri.split(":", 1)[0].split("+", 1)[0] in _DATABASES:
        address = shlex.quote(redact(uri))
        return f"mlflow ui --backend-store-uri {address} --host 127.0.0.1 --port 5000"
    return f"MLflow at {redact(uri)}"


def run_url(uri: str, experiment_id: str, run_id: str) -> str | None:
    """The page of one run on a tracking server, without credentials; none for stores that have no pages."""
    if not is_server(uri):
        return None
    return f"{_without_user_info(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def is_server(uri: str) -> bool:
    """Whether the address is that of a tracking server rather than of a database."""
    return uri.startswith(("http://", "https://"))


def _checked(uri: str, source: str) -> str:
    """An absolute, usable address, or the error that says why it is not one."""
    if uri.split("://", 1)[0] in ("databricks", "uc"):
        return uri
    match = _SCHEME.match(uri)
    if match is None or match[1] == "file":
        problem = f"`{source}` must be a server or a database, but is the folder {redact(uri)!r}"
        raise ConfigError([problem], hint=_NO_FILE_STORE)
    database = sqlite_path(uri)
    if database is None:
        return uri
    query = uri.partition("?")[2]
    return f"{_SQLITE}{database}" + (f"?{query}" if query else "")


def _without_user_info(uri: str) -> str:
    """An address that a browser can open, less its user name and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
