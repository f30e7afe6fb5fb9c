"""The command behind `orchestrator audit`: the same in this process and on Ray, recorded, written only when asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.cli import main
from orchestrator.data.manifest import read_manifest
from orchestrator.data.revisions import manifest_versions
from orchestrator.errors import ConfigError
from orchestrator.evaluation.audit import AuditStatus
from orchestrator.runtime.audit import Ask, AuditResult, Record, audit
from orchestrator.storage import open_folder
from tests.conftest import TINY_MODEL


@pytest.fixture
def corpus(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A corpus of this test's own."""
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


@pytest.fixture
def weights(tiny_model_config: Any, tmp_path: Path) -> Path:
    """A file with a network that has learned nothing."""
    from orchestrator.models import build_model

    torch.manual_seed(0)
    torch.save({"state_dict": build_model(tiny_model_config).state_dict()}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def look(corpus: Path, weights: Path | None, workers: int, **more: Any) -> AuditResult:
    """An audit, small."""
    ask = Ask(max_offset=6, stride=2, workers=workers, model_config=TINY_MODEL if weights else None)
    return audit(corpus, weights, ask=ask, record=Record(storage=str(corpus.parent / "runs")), **more)


@pytest.mark.parametrize("judged", [True, False])
def test_ray_and_this_process_say_the_same(ray_session: None, corpus: Path, weights: Path, judged: bool) -> None:
    net = weights if judged else None
    here, there = look(corpus, net, 0).audit, look(corpus, net, 2).audit
    assert len(here.clips) == len(read_manifest(open_folder(corpus)))
    assert [(each.clip_id, each.status) for each in here.clips] == [(each.clip_id, each.status) for each in there.clips]
    ours = [each.report.offset.frames for each in here.clips if each.report and each.report.offset]
    theirs = [each.report.offset.frames for each in there.clips if each.report and each.report.offset]
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert bool(ours) == judged


def test_the_manifest_is_written_only_when_that_is_asked(corpus: Path) -> None:
    before = read_manifest(open_folder(corpus))
    assert look(corpus, None, 0).version is None
    assert read_manifest(open_folder(corpus)) == before
    result = look(corpus, None, 0, write=True)
    assert result.version is not None
    assert [version.number for version in manifest_versions(open_folder(corpus))] == [0, 1]
    assert {row.audit for row in read_manifest(open_folder(corpus))} <= {str(status) for status in AuditStatus}
    assert manifest_versions(open_folder(corpus))[1].why.startswith("audit by estimate: ")


def test_the_record_holds_counts_table_and_page(corpus: Path) -> None:
    from mlflow import MlflowClient

    result = look(corpus, None, 0)
    client = MlflowClient(result.tracking_uri)
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["audit/clips"] == len(result.audit.clips)
    assert run.data.params["audit.method"] == "estimate"
    kept = {file.path for file in client.list_artifacts(result.run_id, "audit")}
    assert kept == {"audit/clips.csv", "audit/report.html"}
    assert "video/webm" in Path(result.report).read_text()


@pytest.mark.parametrize(("ask", "problem"), [(Ask(max_offset=4), "max_offset"), (Ask(stride=0), "stride")])
def test_what_cannot_be_asked_is_refused(corpus: Path, ask: Ask, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        audit(corpus, ask=ask, record=Record(storage=str(corpus.parent / "runs")))


def test_the_command_tells_and_writes(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", str(corpus), "--storage", str(corpus.parent / "runs"), "--max-offset", "6"]
    assert main(words) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert main([*words, "--write", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == 1
    assert sum(told["counts"].values()) == len(told["clips"]) == 8
    assert main([*words, "--reject", "ugly"]) == 2
    assert "must be one of" in capsys.readouterr().err
