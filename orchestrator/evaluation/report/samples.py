"""Clips to look at and to listen to: the worst and the best of an evaluation, the suspicious ones of an audit.

Why: a figure says how many clips are wrong, and only a clip says why. Contract: what is shown is what training reads,
with the A/V offset that is named; which clips are shown is a pure function of the evaluation or the audit, each with
the reason for which it was chosen; there are never more than `MOST`, so that a page can be sent by mail.
"""

# T frames, C channels, H W pixels, M mel bins, L mel columns

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, HOP, SAMPLE_RATE, mel_start
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.corpus import offset_columns, usable_frames
from orchestrator.data.corpus.sheet import draw_sheet
from orchestrator.data.corpus.show import choose_samples, visible_frames
from orchestrator.data.manifest import ManifestRow
from orchestrator.evaluation.audit import Audit, ClipAudit
from orchestrator.evaluation.clips import ClipReport, Moment
from orchestrator.evaluation.report.chosen import audit_choice, evaluation_choice
from orchestrator.evaluation.report.clip import playable
from orchestrator.evaluation.report.sound import sound_of_mel
from orchestrator.evaluation.report.words import STATUS_WORDS, frames_text, number_text, share_text
from orchestrator.evaluation.results import Evaluation
from orchestrator.training.evaluation import PairList

MOST = 12
"""Clips on a page."""
REBUILT = "sound rebuilt from the mel spectrogram that the network hears"
"""What is to be said of clips of a prepared corpus."""
_SECONDS = 4.0
_MOVED = 0.5
"""Frames from which on two versions differ enough to hear."""
_SHEET_FRAMES = 12
_SHEET_QUALITY = 82
_SAMPLES = SAMPLE_RATE // FPS


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip, as a page shows it."""

    title: str
    """Its name."""
    facts: tuple[tuple[str, str], ...] = ()
    """What is known of it: labels and texts."""
    videos: tuple[tuple[str, bytes], ...] = ()
    """What each of them is, and the bytes of `playable`."""
    sheet: bytes = b""
    """A contact sheet, as PNG or WebP."""
    curve: tuple[float, ...] = ()
    """Its mean distance at each offset; NaN where it is not known."""
    offset: float | None = None
    """The best one, in frames."""
    timeline: tuple[Moment, ...] = ()
    """What its parts say."""
    why: str = ""
    """Why it is shown."""
    status: str = ""
    """In a word, if there is one."""
    sound: str = REBUILT
    """Where the sound comes from; empty for the video's own."""


def evaluation_samples(
    corpus: Corpus, evaluation: Evaluation, pairs: PairList | None = None, worst: int = 8, best: int = 2
) -> list[Sample]:
    """The worst clips of an evaluation, and a few of the best for comparison.

    Args:
        corpus: on which it was made.
        evaluation: what was found.
        pairs: its list, by which clips with many wrong pairs are found.
        worst, best: how many of each; together at most `MOST`.

    Raises:
        DataError: as `Corpus.stored`.
    """
    chosen = evaluation_choice(evaluation, pairs, worst, best)[:MOST]
    found = []
    for place, why, status in chosen:
        row, report = evaluation.rows[place], evaluation.clips[place]
        sample = Sample(row.clip_id, _facts(row, report), why=why, status=status)
        found.append(_with_material(sample, corpus, report, [("", row)]))
    return found


def audit_samples(corpus: Corpus, audit: Audit, count: int = MOST) -> list[Sample]:
    """Clips of every status that an audit found, the suspicious ones first; shifted ones before and after.

    Args:
        corpus: what was audited.
        audit: what was found.
        count: how many, at most `MOST`.

    Raises:
        DataError: as `Corpus.stored`.
    """
    rows = {row.clip_id: row for row in corpus.rows if row.shard}  # those that the audit rejected, too
    known = [clip for clip in audit.clips if clip.clip_id in rows]
    found = []
    for clip in audit_choice(known, min(count, MOST)):
        row = rows[clip.clip_id]
        sample = Sample(clip.clip_id, _audit_facts(clip, row), why=clip.why, status=STATUS_WORDS[clip.status])
        before = replace(row, av_offset_s=clip.before_s)
        versions = [("as the corpus had it", before)]
        if abs(clip.av_offset_s - clip.before_s) * FPS > _MOVED:
            versions.append(("with the new offset", replace(row, av_offset_s=clip.av_offset_s)))
        found.append(_with_material(sample, corpus, clip.report, versions))
    return found


def section(corpus: Corpus, row: ManifestRow, start: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames [start, start + count) of a clip as RGB (T, H, W, 3), and their sound, by the row's A/V offset.

    Where the sound does not reach, it is silent.

    Raises:
        DataError: as `Corpus.stored`.
    """
    stored = corpus.stored(row)
    frames_THWC = visible_frames(np.asarray(stored.view(start, count)))
    columns = offset_columns(row)
    first = max(mel_start(start) + columns, 0)
    end = min(max(-(-(start + count) * _SAMPLES // HOP) + columns + 1, first), stored.mel.shape[1])
    wave = np.zeros(count * _SAMPLES, np.float32)
    heard = sound_of_mel(np.asarray(stored.mel[:, first:end])) if end - first > 1 else wave[:0]
    skip = start * _SAMPLES + columns * HOP - first * HOP  # samples of `heard` before the picture begins
    piece = heard[max(skip, 0) : max(skip + len(wave), 0)]
    wave[max(-skip, 0) : max(-skip, 0) + len(piece)] = piece[: len(wave) - max(-skip, 0)]
    return frames_THWC, wave


def _with_material(
    sample: Sample, corpus: Corpus, report: ClipReport | None, versions: Sequence[tuple[str, ManifestRow]]
) -> Sample:
    """The sample with everything that is to be seen and heard."""
    row, found = versions[0][1], report.offset if report else None
    line = report.timeline if report else ()
    start, count = _excerpt(row.num_frames, line)
    return replace(
        sample,
        videos=tuple((label, playable(*section(corpus, one, start, count))) for label, one in versions),
        sheet=_sheet(corpus, row) if row.ok and usable_frames(row)[1] > 0 else b"",
        curve=found.curve if found else (),
        offset=found.frames if found else None,
        timeline=line,
        facts=(*sample.facts, ("shown", f"{start / FPS:.1f} to {(start + count) / FPS:.1f} s")),
    )


def _excerpt(num_frames: int, line: Sequence[Moment]) -> tuple[int, int]:
    """(first, number) of the frames to play: the whole clip, or what surrounds the place that fits worst."""
    count = min(num_frames, round(_SECONDS * FPS))
    worst = max(line, key=lambda moment: (abs(moment.offset), -moment.depth), default=None)
    middle = worst.seconds * FPS if worst else num_frames / 2
    return min(max(round(middle - count / 2), 0), num_frames - count), count


def _sheet(corpus: Corpus, row: ManifestRow) -> bytes:
    """The contact sheet, as WebP: a tenth of a PNG of photographs."""
    from PIL import Image

    shown = choose_samples(corpus, 1, num_frames=_SHEET_FRAMES, clips=[row.clip_id])
    file = io.BytesIO()
    with Image.open(io.BytesIO(draw_sheet(shown, "What the network sees and hears"))) as picture:
        picture.convert("RGB").save(file, "WEBP", quality=_SHEET_QUALITY)
    return file.getvalue()


def _facts(row: ManifestRow, report: ClipReport | None) -> tuple[tuple[str, str], ...]:
    facts = [("speaker", row.speaker), ("split", row.split), ("length", f"{row.duration_s:.1f} s")]
    found = report.offset if report else None
    if found is not None:
        edge = ", the last one tried" if found.at_edge else ""
        facts += [
            ("best offset", frames_text(found.frames) + edge),
            (
                "confidence",
                f"{number_text(found.confidence)} (sound elsewhere: {number_text(found.chance_confidence)})",
            ),
            ("least distance", number_text(found.distance)),
            ("windows that agree", share_text(found.agreement)),
        ]
    return tuple(facts)


def _audit_facts(clip: ClipAudit, row: ManifestRow) -> tuple[tuple[str, str], ...]:
    offsets = frames_text(clip.before_s * FPS)
    if clip.av_offset_s != clip.before_s:
        offsets += f" → {frames_text(clip.av_offset_s * FPS)}"
    return (("A/V offset", offsets), ("sure", share_text(clip.confidence)), *_facts(row, clip.report))
