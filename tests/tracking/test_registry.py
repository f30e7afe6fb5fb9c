"""The champion of a sweep is registered once, however often that is asked for, and a new one takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED

from orchestrator.errors import CheckpointError, RefusalReason, RegistryError, TrackingError
from orchestrator.tracking import Champion, RunWriter, model_name, register_champion


class Weights:
    """Writes weights, and counts how often."""

    def __init__(self, content: str) -> None:
        self._content, self.written = content, 0

    def __call__(self, file: Path) -> None:
        self.written += 1
        file.write_text(self._content)


@pytest.fixture
def trials(uri: str, experiment: str) -> list[str]:
    """MLflow's ids of two trials of one sweep, which have ended."""
    with RunWriter.start(uri, experiment, "sweep", "sweep") as sweep:
        writers = [RunWriter.start(uri, experiment, f"{n}", f"sweep/{n}", sweep.run_id) for n in range(2)]
    for writer in writers:
        writer.finish()
    return [writer.run_id for writer in writers]


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


def champions(client: MlflowClient, trials: list[str]) -> list[bool]:
    return [client.get_run(run_id).data.tags.get("champion") == "true" for run_id in trials]


def files(client: MlflowClient, run_id: str) -> list[str]:
    return [file.path for file in client.list_artifacts(run_id, "model")]


def test_a_champion_is_registered_once(uri: str, experiment: str, trials: list[str], client: MlflowClient) -> None:
    name, weights = model_name(experiment, "sweep"), Weights("weights")
    champion = Champion(trials[0], "abc", "it is **the best**", {"val/accuracy": 0.9, "token": "hunter2"})
    first = register_champion(uri, name, champion, weights, {"sweep": "sweep"})
    again = register_champion(uri, name, champion, weights)
    assert (first.version, first.is_new) == (again.version, not again.is_new) == ("1", True)
    assert weights.written == 1, "the run has them already"
    version = client.get_model_version_by_alias(name, "champion")
    assert (version.run_id, str(version.version), version.description) == (trials[0], "1", "it is **the best**")
    assert version.tags == {"val/accuracy": "0.9", "token": "***", "model.state": "abc"}
    assert client.get_registered_model(name).tags == {"sweep": "sweep"}
    assert champions(client, trials) == [True, False]
    assert client.get_run(trials[0]).info.status == "FINISHED", "a run that has ended stays so"
    folder = Path(client.download_artifacts(trials[0], "model"))
    assert str(version.source).endswith(f"{trials[0]}/artifacts/model")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("weights.safetensors", "weights")]


def test_what_is_said_of_a_champion_is_kept_up_to_date(
    uri: str, experiment: str, trials: list[str], client: MlflowClient
) -> None:
    name = model_name(experiment, "sweep")
    for gain in (0.1, 0.2):
        register_champion(uri, name, Champion(trials[0], "abc", f"{gain}", {"gain": gain}), Weights(""))
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (version.description, version.tags["gain"]) == ("0.2", "0.2")


def test_another_champion_is_another_version(
    uri: str, experiment: str, trials: list[str], client: MlflowClient
) -> None:
    name = model_name(experiment, "sweep")
    register_champion(uri, name, Champion(trials[0], "abc"), Weights("a"))
    second = register_champion(uri, name, Champion(trials[1], "def"), Weights("b"))
    assert (second.version, second.is_new) == ("2", True)
    assert str(client.get_model_version_by_alias(name, "champion").version) == "2"
    assert champions(client, trials) == [False, True]
    better = Weights("c")
    third = register_champion(uri, name, Champion(trials[1], "ghi"), better)
    assert (third.version, better.written) == ("3", 1), "the same trial has a better checkpoint"
    back = register_champion(uri, name, Champion(trials[0], "abc"), Weights("a"))
    assert (back.version, back.is_new) == ("1", False)
    assert str(client.get_model_version_by_alias(name, "champion").version) == "1"


def test_what_a_crash_left_half_done_is_done(
    uri: str, experiment: str, trials: list[str], client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every one of the calls that change something."""
    name, champion = model_name(experiment, "sweep"), Champion(trials[0], "abc")

    def crash(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    for call in ("log_artifact", "set_tag", "create_registered_model", "create_model_version"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MlflowClient, call, crash)
            register_champion(uri, name, champion, Weights("a"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "set_registered_model_alias", crash)
        register_champion(uri, name, champion, Weights("a"))
    assert not register_champion(uri, name, champion, Weights("a")).is_new, "the version was made before the crash"
    assert str(client.get_model_version_by_alias(name, "champion").version) == "1"
    assert files(client, trials[0]) == ["model/weights.safetensors"]


@pytest.mark.parametrize(("code", "kind"), [(PERMISSION_DENIED, RegistryError), (INTERNAL_ERROR, TrackingError)])
def test_a_refusal_is_told_from_a_failure(
    uri: str, experiment: str, trials: list[str], monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise MlflowException("no, says http://u:hunter2@h", error_code=code)

    monkeypatch.setattr(MlflowClient, "create_registered_model", refuse)
    with pytest.raises(kind, match=r"cannot register the champion at .*no, says") as caught:
        register_champion(uri, model_name(experiment, "sweep"), Champion(trials[0], "abc"), Weights("a"))
    assert "hunter2" not in str(caught.value)
    assert files(MlflowClient(tracking_uri=uri), trials[0]), "the run has its weights all the same"


def test_weights_that_cannot_be_written_say_so_themselves(uri: str, experiment: str, trials: list[str]) -> None:
    def refuse(file: Path) -> None:
        raise CheckpointError(f"{file} is damaged", reason=RefusalReason.CORRUPT)

    with pytest.raises(CheckpointError, match="is damaged"):
        register_champion(uri, model_name(experiment, "sweep"), Champion(trials[0], "abc"), refuse)


@pytest.mark.parametrize(
    ("experiment_name", "name"), [("syncnet", "syncnet.a-1"), ("a/b: 'c'@d", "a_b___c__d.a-1"), ("唇", "唇.a-1")]
)
def test_names_that_the_registry_takes(uri: str, trials: list[str], experiment_name: str, name: str) -> None:
    assert model_name(experiment_name, "a-1") == name
    assert register_champion(uri, name, Champion(trials[0], "abc"), Weights("a")).address == f"models:/{name}/1"
