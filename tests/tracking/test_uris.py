"""Which store is used, how it is shown, and that no credential is ever part of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.tracking import open_hint, redact, resolve_uri
from orchestrator.tracking.params import PARAM_LIMIT, flatten
from orchestrator.tracking.redaction import HIDDEN, redact_tree
from orchestrator.tracking.store import artifact_location, local_folder, run_url

ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://env:5000"}


def test_configured_comes_before_environment_before_storage(tmp_path: Path) -> None:
    assert resolve_uri("http://configured:5000", str(tmp_path), ENVIRONMENT) == "http://configured:5000"
    assert resolve_uri(None, str(tmp_path), ENVIRONMENT) == "http://env:5000"
    assert resolve_uri(None, str(tmp_path), {}) == f"sqlite:///{tmp_path}/mlflow.db"


def test_local_addresses_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(None, "runs", {}) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert resolve_uri("sqlite:///a.db?timeout=9", "runs", {}) == f"sqlite:///{tmp_path}/a.db?timeout=9"


def test_files_lie_beside_the_local_store(tmp_path: Path) -> None:
    assert artifact_location(resolve_uri(None, str(tmp_path), {})) == (tmp_path / "mlartifacts").as_uri()
    assert artifact_location("http://server:5000") is None


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///data/mlruns", "file:mlruns"])
@pytest.mark.parametrize("source", ["tracking.uri", "MLFLOW_TRACKING_URI"])
def test_the_file_store_is_refused(uri: str, source: str) -> None:
    configured, env = (uri, {}) if source == "tracking.uri" else (None, {source: uri})
    with pytest.raises(ConfigError, match=source) as caught:
        resolve_uri(configured, "runs", env)
    assert "sqlite:" in caught.value.hint


def test_remote_storage_needs_a_server() -> None:
    with pytest.raises(ConfigError, match="storage` is remote") as caught:
        resolve_uri(None, "s3://key:secret@bucket/runs", {})
    assert "tracking.uri=" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_databricks_is_no_folder() -> None:
    assert resolve_uri("databricks://profile", "runs", {}) == "databricks://profile"
    assert resolve_uri("databricks", "runs", {}) == "databricks"


@pytest.mark.parametrize(
    ("storage", "folder"), [("file:///data/a%20b", Path("/data/a b")), ("/data", Path("/data")), ("gs://bucket", None)]
)
def test_local_folder(storage: str, folder: Path | None) -> None:
    assert local_folder(storage) == folder


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:pa$$@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg2://u:p@ss@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("failed at https://u:p@h/a and https://v:q@i/b.", "failed at https://***@h/a and https://***@i/b."),
        ("https://h/x?a=1&token=abc&b=2", "https://h/x?a=1&token=***&b=2"),
        ("s3://bucket/k?AWS_SECRET_ACCESS_KEY=abc", "s3://bucket/k?AWS_SECRET_ACCESS_KEY=***"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("write to ann@example.org", "write to ann@example.org"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_secrets_are_hidden_at_any_depth() -> None:
    tree = {"s3": {"Secret_Key": "a", "tokens": ["b"], "token": None}, "urls": ["http://u:p@h"], "lr": 0.1}
    assert redact_tree(tree) == {
        "s3": {"Secret_Key": HIDDEN, "tokens": [HIDDEN], "token": None},
        "urls": ["http://***@h"],
        "lr": 0.1,
    }


def test_settings_become_dotted_text() -> None:
    settings = {"optim": {"lr": 1e-5, "betas": (0.9, 0.999), "extra": {}}, "on": True, "none": None, "odd(key)": 1}
    assert flatten(settings) == {
        "optim.lr": "1e-05",
        "optim.betas": "[0.9, 0.999]",
        "optim.extra": "{}",
        "on": "True",
        "none": "None",
        "odd_key_": "1",
    }


def test_long_values_are_cut() -> None:
    value = flatten({"x": "a" * (PARAM_LIMIT + 1)})["x"]
    assert len(value) == PARAM_LIMIT
    assert value.endswith("a…")


def test_what_a_person_types_to_see_the_runs() -> None:
    shown = open_hint("sqlite:////my runs/mlflow.db")
    assert shown == "mlflow ui --backend-store-uri 'sqlite:////my runs/mlflow.db' --host 127.0.0.1 --port 5000"
    assert open_hint("http://u:p@server:5000") == "http://***@server:5000"
    assert "p@ss" not in open_hint("mysql+pymysql://u:p@ss@db/mlflow")


def test_the_page_of_a_run() -> None:
    assert run_url("https://u:p@server/mlflow/", "3", "abc") == "https://server/mlflow/#/experiments/3/runs/abc"
    assert run_url("sqlite:////data/mlflow.db", "3", "abc") is None
