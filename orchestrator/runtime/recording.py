"""What is found out about a checkpoint or a corpus, kept: a folder with the report, and a run in MLflow with the same.

Contract: a finding has a name of its own; found again, it is the same MLflow run and its files are replaced. Nothing is
written before there is something to write, so that a refused evaluation leaves no trace.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orchestrator.runtime.job import describe
from orchestrator.runtime.paths import require_lasting, writable
from orchestrator.storage import redacted
from orchestrator.storage.local import atomic_writer
from orchestrator.tracking import RunWriter, open_hint, resolve_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    """Where findings are kept.

    Args:
        folder: a local folder, in which each finding gets one of its own.
        uri: the tracking store; none means MLFLOW_TRACKING_URI, and without that a SQLite file in `folder`'s parent.
        experiment: the MLflow experiment.
        parent_run_id: the MLflow run that the findings belong to.
    """

    folder: Path
    uri: str | None = None
    experiment: str = "syncnet"
    parent_run_id: str | None = None

    @classmethod
    def under(cls, storage: str | Path, uri: str | None = None, experiment: str = "syncnet") -> Shelf:
        """The shelf of a storage of runs, recorded where those are.

        Raises:
            ConfigError: the folder would be gone with a submitted job, or the tracking store cannot be one.
        """
        require_lasting("the folder of findings", storage)
        return cls(Path(storage).expanduser().absolute() / "findings", uri, experiment)

    @property
    def tracking_uri(self) -> str:
        """The tracking store."""
        return resolve_uri(self.uri, str(self.folder.parent), os.environ)

    def keep(self, finding: Finding) -> Kept:
        """Write a finding into its folder, and into MLflow.

        Raises:
            OrchestratorError: either cannot be written.
        """
        files = _files(finding)
        folder = self.put(finding.name, {**files, **{name: _png(one) for name, one in finding.pictures.items()}})
        run_id = self._record(finding, folder, list(files))
        describe(kind=finding.kind, run=finding.name, folder=redacted(folder), mlflow_run_id=run_id)
        return Kept(folder, run_id, self.tracking_uri)

    def put(self, name: str, files: Mapping[str, bytes]) -> Path:
        """Write files into the folder of a finding, and give that.

        Raises:
            OrchestratorError: it cannot be written.
        """
        folder = self.folder / name
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for file_name, content in files.items():
                with atomic_writer(folder / file_name) as file:
                    file.write(content)
        return folder

    def _record(self, finding: Finding, folder: Path, files: Sequence[str]) -> str:
        tags = {"kind": finding.kind, **finding.tags}
        uri = self.tracking_uri
        with RunWriter.start(uri, self.experiment, finding.name, finding.name, self.parent_run_id, tags) as writer:
            writer.log_params(finding.facts)
            writer.log_metrics(finding.metrics, finding.step)
            for name, figure in finding.pictures.items():
                writer.log_figure(figure, f"charts/{name}")
            for name in files:
                writer.log_file(folder / name, finding.kind)
            return writer.run_id


@dataclass(frozen=True)
class Kept:
    """Where a finding lies."""

    folder: Path
    run_id: str
    """MLflow's id of the run."""
    tracking_uri: str

    @property
    def places(self) -> dict[str, str]:
        """For a card: where to look."""
        page = self.folder / REPORT
        return {"report": str(page if page.exists() else self.folder), "open MLflow": open_hint(self.tracking_uri)}


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
