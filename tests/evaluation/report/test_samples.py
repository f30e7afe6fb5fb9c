"""Samples show the clips that are worth it, with the sound where the offset puts it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import write_manifest
from orchestrator.data.shards import ShardKind
from orchestrator.evaluation.audit import Audit, AuditStatus, ClipAudit
from orchestrator.evaluation.report import Sample, audit_samples, evaluation_samples
from orchestrator.evaluation.report.chosen import audit_choice, evaluation_choice, pair_accuracy
from orchestrator.evaluation.report.samples import section
from orchestrator.evaluation.report.sound import sound_of_mel
from orchestrator.evaluation.results import Evaluation
from orchestrator.storage import open_folder
from orchestrator.training.evaluation import PairList
from tests.data.conftest import ClipArrays, manifest_row, write_shard


def frames_of(sample: Sample, number: int = 0) -> int:
    with av.open(io.BytesIO(sample.videos[number][1])) as container:
        return sum(1 for _ in container.decode(video=0))


def test_samples_of_an_evaluation_are_whole(corpus: Corpus, evaluation: Evaluation, pairs: PairList) -> None:
    found = evaluation_samples(corpus, evaluation, pairs, worst=3, best=1)
    assert 3 <= len(found) <= 4 and len({sample.title for sample in found}) == len(found)
    rows = {row.clip_id: (row, report) for row, report in zip(evaluation.rows, evaluation.clips, strict=True)}
    for sample in found:
        row, report = rows[sample.title]
        assert frames_of(sample) == row.num_frames and sample.why and sample.status
        assert ("speaker", row.speaker) in sample.facts
        assert report.offset and sample.curve == report.offset.curve and sample.timeline == report.timeline
        with Image.open(io.BytesIO(sample.sheet)) as sheet:
            assert sheet.width > 1200
        assert "mel spectrogram" in sample.sound


def test_the_worst_in_each_way_come_by_turns(evaluation: Evaluation, pairs: PairList) -> None:
    def with_offset(place: int, **changes: float) -> Evaluation:
        report = evaluation.clips[place]
        assert report.offset
        moved = replace(report, offset=replace(report.offset, **changes))  # type: ignore[arg-type]
        return replace(evaluation, clips=tuple(moved if n == place else one for n, one in enumerate(evaluation.clips)))

    first = evaluation_choice(with_offset(4, frames=-40.0), pairs, 4, 0)
    assert first[0].place == 4 and "−40.0 frames (sound earlier)" in first[0].why
    assert {choice.status for choice in first} >= {"offset wrong", "pairs wrong"}
    unclear = evaluation_choice(with_offset(2, frames=0.0, confidence=-1.0), None, 8, 0)
    assert (2, "unclear") in {(choice.place, choice.status) for choice in unclear}
    clear = evaluation_choice(with_offset(6, frames=0.2, confidence=9.0, at_edge=False), None, 0, 1)
    assert [(choice.place, choice.status) for choice in clear] == [(6, "clear")]


def test_pairs_of_a_clip_are_counted_by_their_labels(evaluation: Evaluation, pairs: PairList) -> None:
    shares = pair_accuracy(evaluation, pairs)
    counts = {place: sum(pair.clip == evaluation.clips[place].clip for pair in pairs.pairs) for place in shares}
    total = sum(shares[place] * counts[place] for place in shares) / sum(counts.values())
    assert total == pytest.approx(evaluation.figure("accuracy").value)
    assert pair_accuracy(replace(evaluation, pairs_hash="other"), pairs) == {}


@pytest.mark.parametrize("columns", [0, 8, -8, 100, -100])
def test_sound_lies_where_the_offset_says(corpus: Corpus, columns: int) -> None:
    row = corpus.clips("all")[0]
    whole = sound_of_mel(np.array(corpus.stored(row).mel))
    frames, wave = section(corpus, replace(row, av_offset_s=columns / 80), 0, row.num_frames)
    assert frames.shape[0] == row.num_frames and wave.shape == (640 * row.num_frames,)
    shift, length = columns * 200, len(wave)
    expected = np.zeros(length, np.float32)
    source = whole[max(shift, 0) : shift + length]
    expected[max(-shift, 0) : max(-shift, 0) + len(source)] = source
    loud, found = (np.square(one).reshape(-1, 1600).mean(1) for one in (expected, wave))
    assert np.corrcoef(loud, found)[0, 1] > 0.95
    if columns == 100:
        assert not wave[-100 * 200 :].any(), "the mel ends there"


def test_a_later_part_has_its_own_sound(corpus: Corpus) -> None:
    row = corpus.clips("all")[0]
    whole = section(corpus, row, 0, row.num_frames)[1]
    frames, part = section(corpus, row, 13, 20)
    assert frames.shape[0] == 20 and part.shape == (20 * 640,)
    loud = [np.square(one).reshape(-1, 640).mean(1) for one in (whole[13 * 640 : 33 * 640], part)]
    assert np.corrcoef(*loud)[0, 1] > 0.95


def audit_of(corpus: Corpus, evaluation: Evaluation, statuses: Sequence[AuditStatus]) -> Audit:
    clips = [
        ClipAudit(
            row.clip_id, row.source, row.speaker, row.split, status, 0.0,
            0.12 * (place + 1) if status is AuditStatus.SHIFTED else 0.0, 0.9, "why", report,
        )
        for place, (row, report, status) in enumerate(zip(evaluation.rows, evaluation.clips, statuses, strict=False))
    ]  # fmt: skip
    return Audit(corpus.name, "c.pt", "checkpoint", 15, tuple(clips))


def test_every_status_of_an_audit_is_shown(corpus: Corpus, evaluation: Evaluation) -> None:
    statuses = [AuditStatus.IN_SYNC] * 3 + [AuditStatus.SHIFTED] * 3 + [AuditStatus.SILENT, AuditStatus.WRONG_AUDIO]
    audit = audit_of(corpus, evaluation, statuses)
    chosen = audit_choice(audit.clips, 4)
    assert [clip.status.value for clip in chosen] == ["shifted", "wrong_audio", "silent", "in_sync"]
    assert chosen[0].av_offset_s == max(clip.av_offset_s for clip in audit.clips), "the farthest"
    assert sum(clip.status is AuditStatus.IN_SYNC for clip in audit_choice(audit.clips, 99)) == 1
    shifted, silent = (audit_samples(corpus, replace(audit, clips=audit.clips[n : n + 1]))[0] for n in (3, 6))
    assert [label for label, _ in shifted.videos] == ["as the corpus had it", "with the new offset"]
    assert shifted.videos[0][1] != shifted.videos[1][1] and shifted.status == "shifted"
    assert len(silent.videos) == 1
    assert ("A/V offset", "0 frames → +12.0 frames (sound later)") in shifted.facts


def test_clips_that_were_not_judged_or_are_gone(corpus: Corpus, evaluation: Evaluation) -> None:
    audit = audit_of(corpus, evaluation, [AuditStatus.TOO_SHORT])
    gone = replace(audit.clips[0], clip_id="gone", status=AuditStatus.SHIFTED)
    (sample,) = audit_samples(corpus, replace(audit, clips=(replace(audit.clips[0], report=None), gone)))
    assert sample.curve == () and sample.offset is None and frames_of(sample) == evaluation.rows[0].num_frames


def test_latents_are_shown_stretched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = ClipArrays("latent", rng.normal(size=(30, 4, 8, 8)).astype(np.float16), np.zeros((80, 97), np.float32))
    write_shard(tmp_path / "shards" / "s.arrow", [clip], ShardKind.LATENTS)
    write_manifest(open_folder(tmp_path), [manifest_row(clip, 0)])
    corpus = Corpus.open(tmp_path)
    audit = Audit(
        "x", None, "estimate", 15, (ClipAudit("latent", "", "", "", AuditStatus.SHIFTED, 0, 0.2, 1, "", None),)
    )
    (sample,) = audit_samples(corpus, audit)
    assert frames_of(sample, 1) == 30
    frames = section(corpus, corpus.clips()[0], 0, 30)[0]
    assert frames.shape == (30, 8, 8, 3) and frames.std() > 40
