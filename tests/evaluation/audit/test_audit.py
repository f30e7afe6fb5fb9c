"""An audit of a corpus, what of it is written back, and that this can be undone."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import ManifestRow, read_manifest
from orchestrator.data.revisions import Revision, restore_manifest, revise_manifest
from orchestrator.evaluation.audit import (
    Audit,
    AuditRequest,
    AuditStatus,
    AuditUnit,
    ClipAudit,
    ClipAudited,
    audit_here,
    conclude_audit,
    plan_audit,
    revisions_of,
)
from orchestrator.evaluation.towers import Towers
from orchestrator.models import build_model
from orchestrator.storage import open_folder
from tests.evaluation.audit.conftest import SHIFTS_S


def estimated(corpus: Path) -> Audit:
    """An audit without a network."""
    return audit_here(plan_audit(Corpus.open(corpus)), None, None)


def clip(row: ManifestRow, status: AuditStatus, after_s: float = 0.0) -> ClipAudit:
    """A made-up verdict."""
    return ClipAudit(
        row.clip_id, row.source, "", row.split, status, row.av_offset_s, after_s, 0.9, f"because {status}", None
    )


def audit_of(*clips: ClipAudit) -> Audit:
    """A made-up audit."""
    return Audit("a corpus", "a network", "checkpoint", 15, clips)


def test_wrong_offsets_are_found_written_and_taken_back(shifted_corpus: Path) -> None:
    folder, before = open_folder(shifted_corpus), read_manifest(open_folder(shifted_corpus))
    found = estimated(shifted_corpus)
    assert {each.source for each in found.of(AuditStatus.SHIFTED)} == set(SHIFTS_S)
    assert {each.source for each in found.moved} == set(SHIFTS_S)
    revise_manifest(folder, revisions_of(found, plan_audit(Corpus.open(shifted_corpus)).by_id), "an audit")
    assert all(abs(row.av_offset_s) <= 1 / 40 for row in read_manifest(folder))
    again = estimated(shifted_corpus)
    assert again.counts[AuditStatus.IN_SYNC] == 6
    assert again.moved == []
    restore_manifest(folder)
    assert read_manifest(folder) == before


@pytest.mark.parametrize("status", [AuditStatus.WRONG_AUDIO, AuditStatus.SILENT, AuditStatus.AT_EDGE])
def test_a_rejected_clip_is_looked_at_again_and_can_come_back(shifted_corpus: Path, status: AuditStatus) -> None:
    folder, plan = open_folder(shifted_corpus), plan_audit(Corpus.open(shifted_corpus))
    bad = plan.rows[0]
    revise_manifest(folder, revisions_of(audit_of(clip(bad, status)), plan.by_id), "x")
    (row,) = [row for row in read_manifest(folder) if not row.ok]
    assert (row.clip_id, row.reason, row.detail) == (bad.clip_id, status, f"because {status}")
    again = plan_audit(Corpus.open(shifted_corpus))
    assert len(again.rows) == 6
    unsure = revisions_of(audit_of(clip(row, AuditStatus.UNSURE)), again.by_id)
    revise_manifest(folder, unsure, "x")
    assert len(Corpus.open(shifted_corpus).clips()) == 5
    revise_manifest(folder, revisions_of(audit_of(clip(row, AuditStatus.SHIFTED, 0.1)), again.by_id), "x")
    assert [row.av_offset_s for row in Corpus.open(shifted_corpus).clips() if row.clip_id == bad.clip_id] == [0.1]


def test_nothing_is_rejected_that_was_not_asked_for(shifted_corpus: Path) -> None:
    plan = plan_audit(Corpus.open(shifted_corpus))
    found = audit_of(*(clip(row, status) for row, status in zip(plan.rows, AuditStatus, strict=False)))
    assert {each.status for each in revisions_of(found, plan.by_id, reject=())} == {None}
    by_default = {each.audit for each in revisions_of(found, plan.by_id) if each.status == "rejected"}
    assert by_default == {"at_edge", "wrong_audio"}
    assert all(each.av_offset_s is None for each in revisions_of(found, plan.by_id) if each.audit == "in_sync")


def test_a_clip_that_a_person_rejected_stays_away(shifted_corpus: Path) -> None:
    first = Corpus.open(shifted_corpus).clips()[0]
    revise_manifest(open_folder(shifted_corpus), [Revision(first.clip_id, status="rejected", reason="ugly")], "x")
    assert first.clip_id not in plan_audit(Corpus.open(shifted_corpus)).by_id


def test_units_say_the_same_however_they_are_cut(shifted_corpus: Path, tiny_model_config: Any) -> None:
    model = build_model(tiny_model_config)
    plan, request = plan_audit(Corpus.open(shifted_corpus)), AuditRequest(max_offset=6, stride=4)
    whole = audit_here(plan, Towers(model), "net", request)
    findings = {}
    for unit in plan.units(_Give(model), request, 4):
        for message in pickle.loads(pickle.dumps(unit)).run():
            if isinstance(message, ClipAudited) and message.finding is not None:
                findings[message.source] = message.finding
    parted = conclude_audit(plan, findings, "net", request)
    assert [(each.clip_id, each.status) for each in parted.clips] == [
        (each.clip_id, each.status) for each in whole.clips
    ]
    assert all(each.report is not None and each.report.offset is not None for each in whole.clips)


class _Give:
    """Gives a network, and pickles."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self) -> Towers:
        return Towers(self.model)


def test_a_clip_that_kills_is_left_aside_with_its_reason(shifted_corpus: Path) -> None:
    plan = plan_audit(Corpus.open(shifted_corpus))
    unit = AuditUnit(plan.corpus, plan.rows[:1], None).without(plan.rows[0].clip_id, "crashes", "kills the process")
    _, done = unit.run()
    assert isinstance(done, ClipAudited)
    assert (done.reason, done.finding is not None) == ("crashes", True)
    assert done.finding is not None
    (told,) = conclude_audit(plan, {done.source: done.finding}, None).clips
    assert (told.status, told.av_offset_s) == (AuditStatus.UNSURE, told.before_s)
    assert "kills the process" in told.why


def test_a_common_offset_is_doubted(shifted_corpus: Path) -> None:
    plan = plan_audit(Corpus.open(shifted_corpus))
    here = estimated(shifted_corpus)
    assert here.notes == ()
    rows = tuple(replace(row, av_offset_s=row.av_offset_s + 0.2) for row in plan.rows)
    moved = audit_here(replace(plan, rows=rows), None, None)
    assert "whole corpus is shifted" in " ".join(moved.notes)
