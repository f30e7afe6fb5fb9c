"""What is found out about a checkpoint or a corpus, kept: a folder with the report, and a run in MLflow with the same.

Contract: a finding has a name of its own; found again, it is the same MLflow run and its files are replaced. Nothing is
written before there is something to write, so that a refused evaluation leaves no trace.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orchestrator.checkpoint.shelf import inside
from orchestrator.runtime.job import describe
from orchestrator.runtime.paths import require_lasting
from orchestrator.storage import Location, local_path, open_folder, redacted
from orchestrator.tracking import RunWriter, open_hint, resolve_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "findings"
"""Beside the runs."""
REPORT = "report.html"
"""The page of a finding."""


@dataclass(frozen=True)
class Finding:
    """Something that was found out."""

    kind: str
    """`evaluate`, `audit`, `compare` or `score`."""
    name: str
    """What MLflow calls the run, and what the folder is called; the same whenever the same is asked again."""
    facts: Mapping[str, Any]
    """What was asked: params in MLflow."""
    metrics: Mapping[str, float]
    """What came out."""
    step: int
    """Optimizer steps of the checkpoint, the place of the metrics on MLflow's axis."""
    result: Mapping[str, Any]
    """All of it, as JSON."""
    pictures: Mapping[str, Figure] = field(default_factory=dict)
    """File name -> chart."""
    page: str | None = None
    """The report, as HTML."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shelf:
    """Where findings are kept: under `findings` beside the runs, and in MLflow where those are."""

    storage: str
    """The folder of the runs: a path or a URI."""
    uri: str | None = None
    """The tracking store; none means MLFLOW_TRACKING_URI, and without that a SQLite file in a local `storage`."""
    experiment: str = "syncnet"
    """The MLflow experiment."""

    @classmethod
    def under(cls, storage: Location, uri: str | None = None, experiment: str = "syncnet") -> Shelf:
        """A shelf, after a check that it can be one.

        Raises:
            ConfigError: the folder would be gone with a submitted job, or the tracking store cannot be one.
        """
        require_lasting("the folder of findings", storage)
        local = local_path(storage)
        shelf = cls(str(storage if local is None else local.expanduser().absolute()), uri, experiment)
        _ = shelf.tracking_uri  # refused before anything is computed
        return shelf

    @property
    def tracking_uri(self) -> str:
        """The tracking store."""
        return resolve_uri(self.uri, self.storage, os.environ)

    def folder(self, name: str) -> Location:
        """The folder of a finding."""
        return inside(inside(self.storage, FOLDER), name)

    def keep(self, finding: Finding) -> Kept:
        """Write a finding into its folder, and into MLflow.

        Raises:
            OrchestratorError: either cannot be written.
        """
        pictures = {name: _png(one) for name, one in finding.pictures.items()}
        files = _files(finding)
        self.put(finding.name, {**files, **pictures})
        run_id, folder = self._record(finding, files), redacted(self.folder(finding.name))
        describe(kind=finding.kind, run=finding.name, folder=folder, mlflow_run_id=run_id)
        page = REPORT if finding.page is not None else f"{finding.kind}.json"
        return Kept(f"{folder}/{page}", run_id, self.tracking_uri)

    def put(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write files into the folder of a finding.

        Raises:
            StorageError: it cannot be written.
        """
        folder = open_folder(self.folder(name))
        for file_name, content in files.items():
            folder.write(file_name, content)

    def _record(self, finding: Finding, files: Mapping[str, bytes]) -> str:
        tags, name = {"kind": finding.kind, **finding.tags}, finding.name
        with RunWriter.start(self.tracking_uri, self.experiment, name, name, tags=tags) as writer:
            writer.log_params(finding.facts)
            writer.log_metrics(finding.metrics, finding.step)
            for file_name, figure in finding.pictures.items():
                writer.log_figure(figure, f"charts/{file_name}")
            for file_name, content in files.items():
                writer.log_text(content.decode(), f"{finding.kind}/{file_name}")
            return writer.run_id


@dataclass(frozen=True)
class Kept:
    """Where a finding lies."""

    report: str
    """The page or, without one, the result as JSON; without credentials."""
    run_id: str
    """MLflow's id of the run."""
    tracking_uri: str

    @property
    def places(self) -> dict[str, str]:
        """For a card: where to look."""
        return {"report": self.report, "open MLflow": open_hint(self.tracking_uri)}


def told(console: Console, kept: Kept) -> None:
    """Say where a finding lies."""
    for name, place in kept.places.items():
        console.print(f"{name}: {place}", highlight=False, markup=False, soft_wrap=True)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _files(finding: Finding) -> dict[str, bytes]:
    result = json.dumps(finding.result, indent=1, default=str).encode()
    page = {} if finding.page is None else {REPORT: finding.page.encode("utf-8", "replace")}
    return {f"{finding.kind}.json": result, **page}
