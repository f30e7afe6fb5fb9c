"""The model registry: the best weights of a sweep as a version of a registered model, under the alias `champion`.

Contract: whatever is repeated after a crash changes nothing that is there already: weights are uploaded once per
checkpoint that they come from, a version is made once per champion, and the alias names the present one. Nothing here
touches how a run ended. A store that has no registry, or refuses it, raises `RegistryError`, the rest `TrackingError`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import RegistryError, TrackingError
from orchestrator.tracking.connect import connect, guard
from orchestrator.tracking.names import CHAMPION_TAG, MODEL_TAG, champion_filter
from orchestrator.tracking.params import clean_tags
from orchestrator.tracking.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"
"""What the registry calls the present version: `models:/<name>@champion`."""
WEIGHTS = "model/weights.safetensors"
"""Where a run keeps the weights that are registered."""
_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_LATER = frozenset({408, 409, 429, 499})
"""Refusals by HTTP status that may be over in a while."""
_KEPT = "the weights are all the same an artifact of the trial's run"


@dataclass(frozen=True)
class Champion:
    """The best of a sweep, as the registry shows it."""

    run_id: str
    """MLflow's id of its run."""
    state: str
    """Hash of the checkpoint that its weights come from."""
    description: str = ""
    """For a person, in Markdown."""
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    is_new: bool
    """Whether it was made just now."""

    @property
    def address(self) -> str:
        """What MLflow's own tools load it by."""
        return f"models:/{self.name}/{self.version}"


def model_name(experiment: str, sweep: str) -> str:
    """The name of a sweep's registered model: names are shared by all experiments of a store."""
    return _NOT_IN_NAMES.sub("_", f"{experiment}.{sweep}")


def register_champion(
    uri: str, name: str, champion: Champion, write: Callable[[Path], object], tags: Mapping[str, Any] | None = None
) -> Registered:
    """Give the champion's run its weights and its tag, and register them.

    Args:
        uri: the tracking store.
        name: of the registered model, as `model_name` gives it.
        champion: the best of a sweep.
        write: writes its weights into a file.
        tags: of the registered model.

    Raises:
        RegistryError: the store has no registry, or refuses it; the run has its weights and its tag.
        TrackingError: the store cannot be used now.
    """
    client = connect(uri)
    with guard(uri, "keep the champion's weights"):
        run = client.get_run(champion.run_id)
        _keep_weights(client, run, champion.state, write)
        _mark(client, run)
    with _registry(uri):
        known = _aliases(client, name, tags or {})
        version = _find_version(client, name, champion)
        made = version or _make_version(client, name, champion, run)
        if version is not None:
            _update(client, version, champion)
        if known.get(ALIAS) != str(made.version):
            client.set_registered_model_alias(name, ALIAS, made.version)
    return Registered(name, str(made.version), is_new=version is None)


def _keep_weights(client: MlflowClient, run: Run, state: str, write: Callable[[Path], object]) -> None:
    """Upload the weights, unless the run has them; the tag comes last, so that half an upload is done again."""
    run_id, folder = run.info.run_id, str(Path(WEIGHTS).parent)
    there = {file.path for file in client.list_artifacts(run_id, folder)}
    if WEIGHTS in there and run.data.tags.get(MODEL_TAG) == state:
        return
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / Path(WEIGHTS).name
        write(file)
        client.log_artifact(run_id, str(file), folder)
    client.set_tag(run_id, MODEL_TAG, state)


def _mark(client: MlflowClient, run: Run) -> None:
    """Have this run of a sweep, and no other, wear the champion's tag."""
    client.set_tag(run.info.run_id, CHAMPION_TAG, "true")
    for other in client.search_runs([run.info.experiment_id], champion_filter(run.data.tags)):
        if other.info.run_id != run.info.run_id:
            client.delete_tag(other.info.run_id, CHAMPION_TAG)


def _aliases(client: MlflowClient, name: str, tags: Mapping[str, Any]) -> dict[str, str]:
    """The aliases of a registered model, which is made if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    client.create_registered_model(name, tags=clean_tags(tags))
    return {}


def _find_version(client: MlflowClient, name: str, champion: Champion) -> ModelVersion | None:
    """The version that was made of this champion; none before there is one."""
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{champion.run_id}'")
    return next((version for version in versions if version.tags.get(MODEL_TAG) == champion.state), None)


def _make_version(client: MlflowClient, name: str, champion: Champion, run: Run) -> ModelVersion:
    source = f"{str(run.info.artifact_uri).rstrip('/')}/{Path(WEIGHTS).parent}"
    tags, description = _tags(champion), redact(champion.description)
    return client.create_model_version(name, source, run.info.run_id, tags=tags, description=description)


def _update(client: MlflowClient, version: ModelVersion, champion: Champion) -> None:
    """What is said about a version may have changed: a sweep that was extended knows more of its champion."""
    for name, value in _tags(champion).items():
        if version.tags.get(name) != value:
            client.set_model_version_tag(version.name, version.version, name, value)
    if version.description != redact(champion.description):
        client.update_model_version(version.name, version.version, redact(champion.description))


def _tags(champion: Champion) -> dict[str, str]:
    return clean_tags({**champion.tags, MODEL_TAG: champion.state})


@contextmanager
def _registry(uri: str) -> Iterator[None]:
    """Tell what a store refuses for good from what it cannot do now."""
    try:
        with guard(uri, "register the champion"):
            yield
    except TrackingError as error:
        if _is_refused(error.__cause__):
            raise RegistryError(error.message, hint=_KEPT) from error
        raise


def _is_refused(cause: BaseException | None) -> bool:
    from mlflow.exceptions import MlflowException

    if not isinstance(cause, MlflowException):
        return False
    status = cause.get_http_status_code()
    return (400 <= status < 500 and status not in _LATER) or status == 501
