"""Revisions of a manifest: what they change, what they refuse, and that nothing is lost, here and in object storage."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.cli import main
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.pairs import clip_names
from orchestrator.data.manifest import ManifestRow, read_manifest, write_manifest
from orchestrator.data.prepare import summarise
from orchestrator.data.revisions import (
    REVISED,
    Revision,
    manifest_versions,
    restore_manifest,
    revise_manifest,
    update_manifest,
)
from orchestrator.errors import DataError
from orchestrator.storage import Folder, open_folder

from .conftest import fill_corpus, invent_clips, manifest_row

MUTE = ManifestRow("mute", "mute.mp4", "f", "rejected", "no_audio", "there is no sound")
AUDIT = [
    Revision("clip 0", audit="in_sync", confidence=7.5),
    Revision("clip 1", av_offset_s=0.12, audit="shifted", confidence=6.0),
    Revision("clip 2", status="rejected", reason="no_sync", detail="no offset fits", audit="unclear"),
]
MARCH = 1_772_323_200.0


def three_rows() -> list[ManifestRow]:
    """Three stored clips, one of them for validation, and one that preparation rejected."""
    clips = invent_clips([50, 60, 70])
    stored = [manifest_row(clip, row, split="train" if row else "val") for row, clip in enumerate(clips)]
    return [*stored, MUTE]


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A manifest on this machine, and one in storage that is not."""
    uri = f"memory://{uuid.uuid4().hex}"
    place = open_folder(tmp_path / "corpus" if request.param == "local" else uri)
    write_manifest(place, three_rows())
    yield place
    if request.param == "memory":
        fsspec.filesystem("memory").rm(uri, recursive=True)


def told(folder: Folder) -> list[tuple[int, str, int, bool]]:
    return [(each.number, each.why, each.changed, each.current) for each in manifest_versions(folder)]


def clip(folder: Folder, clip_id: str) -> ManifestRow:
    return next(row for row in read_manifest(folder) if row.clip_id == clip_id)


def files(folder: Folder) -> dict[str, bytes]:
    return {entry.name: folder.read(entry.name) for entry in folder.entries()}


def test_a_revision_is_a_new_version_and_the_old_one_is_kept_as_it_was(folder: Folder) -> None:
    before = folder.read("manifest.parquet")
    assert told(folder) == [(0, "prepared", 0, True)]
    version = revise_manifest(folder, AUDIT, "audit with\n a net", now=lambda: MARCH)
    assert version == manifest_versions(folder)[-1]
    assert (version.number, version.when, version.why) == (1, "2026-03-01T00:00:00+00:00", "audit with a net")
    assert told(folder) == [(0, "prepared", 0, False), (1, "audit with a net", 3, True)]
    assert files(folder)["manifests/0000.parquet"] == before
    assert abs(_year(manifest_versions(folder)[0].when) - 2026) < 70
    was = {row.clip_id: row for row in three_rows()}
    assert read_manifest(folder) == [
        replace(was["clip 0"], audit="in_sync", confidence=7.5),
        replace(was["clip 1"], av_offset_s=0.12, audit="shifted", confidence=6.0),
        replace(was["clip 2"], status="rejected", reason="no_sync", detail="no offset fits", audit="unclear"),
        MUTE,
    ]


def _year(when: str) -> int:
    return int(when[:4])


def test_what_changes_nothing_is_no_version(folder: Folder) -> None:
    first = revise_manifest(folder, AUDIT, "audit")
    before = files(folder)
    assert revise_manifest(folder, AUDIT, "the same again") == revise_manifest(folder, [], "nothing") == first
    assert files(folder) == before


def test_a_change_without_a_code_is_marked(folder: Folder) -> None:
    revise_manifest(folder, [Revision("clip 1", av_offset_s=np.float32(0.5))], "by hand")
    revise_manifest(folder, [Revision("clip 0", av_offset_s=0.0)], "as it was")
    assert [row.audit for row in read_manifest(folder)] == ["", REVISED, "", ""]
    assert clip(folder, "clip 1").av_offset_s == 0.5


def test_a_rejected_clip_can_come_back(folder: Folder) -> None:
    revise_manifest(folder, AUDIT, "audit")
    gone = clip(folder, "clip 2")
    assert (gone.ok, gone.shard, gone.row, gone.rows, gone.split) == (False, "shards/s.arrow", 2, 1, "train")
    revise_manifest(folder, [Revision("clip 2", status="ok")], "looked at it")
    back = clip(folder, "clip 2")
    assert (back.ok, back.reason, back.detail, back.audit) == (True, "", "", "unclear")


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        (Revision("mute", status="ok"), "mute was rejected by preparation (no_audio): nothing of it is stored"),
        (Revision("mute", reason="other"), "nothing of it is stored"),
        (Revision("clip 0", status="gone"), "clip 0 must be ok or rejected, but would be 'gone'"),
        (Revision("clip 0", status="rejected"), "would be rejected without a reason"),
        (Revision("clip 0", reason="no_sync"), "would be ok, but with a reason: no_sync"),
        (Revision("clip 0", status="ok", detail="why"), "would be ok, but with a reason: why"),
        (Revision("clip 0", av_offset_s=math.nan), "needs an offset of at most 60 s, but nan"),
        (Revision("clip 0", av_offset_s=80.0), "needs an offset of at most 60 s, but 80.0"),
        (Revision("clip 0", confidence=math.inf), "needs a finite confidence"),
        (Revision("clip 1", audit="x"), "clip 1 is revised twice at once"),
        (Revision("clip 7", audit="x"), "1 of 2 revised clips are not in the manifest"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(folder: Folder, revision: Revision, words: str) -> None:
    before = files(folder)
    with pytest.raises(DataError) as caught:
        revise_manifest(folder, [Revision("clip 1", av_offset_s=0.04, audit="shifted"), revision], "audit")
    assert words in caught.value.message
    assert caught.value.reason == ("no_such_clip" if revision.clip_id == "clip 7" else "bad_revision")
    with pytest.raises(DataError, match="need a reason"):
        revise_manifest(folder, AUDIT, " ")
    assert files(folder) == before


def test_undoing_takes_back_and_undoing_again_brings_back(folder: Folder) -> None:
    prepared = read_manifest(folder)
    with pytest.raises(DataError, match="no version of the manifest") as caught:
        restore_manifest(folder)
    assert caught.value.reason == "nothing_to_undo"
    revise_manifest(folder, AUDIT, "audit")
    audited = read_manifest(folder)
    version = restore_manifest(folder, now=lambda: MARCH)
    assert (version.number, version.restores, version.when[:10]) == (2, 0, "2026-03-01")
    assert read_manifest(folder) == prepared
    restore_manifest(folder)
    assert read_manifest(folder) == audited
    restore_manifest(folder)
    assert read_manifest(folder) == prepared
    assert told(folder)[1:] == [
        (1, "audit", 3, False),
        (2, "back to version 0 (prepared)", 3, False),
        (3, "back to version 1 (audit)", 3, False),
        (4, "back to version 2 (prepared)", 3, True),
    ]


def test_any_version_can_be_gone_back_to(folder: Folder) -> None:
    states = [read_manifest(folder)]
    for number in range(1, 4):
        revise_manifest(folder, [Revision("clip 1", av_offset_s=number / 25)], f"audit {number}")
        states.append(read_manifest(folder))
    for number in (1, 3, 0, 2):
        assert restore_manifest(folder, number).why.startswith(f"back to version {number}")
        assert read_manifest(folder) == states[number]
    before = files(folder)
    assert restore_manifest(folder, 2).number == 7
    assert restore_manifest(folder, 7).number == 7
    assert files(folder) == before
    for number in (8, -1):
        with pytest.raises(DataError, match=f"has no version {number}, but 0 to 7") as caught:
            restore_manifest(folder, number)
        assert caught.value.reason == "no_such_version"
    folder.delete("manifests/0001.parquet")
    with pytest.raises(DataError, match="version 1 of the manifest is gone"):
        restore_manifest(folder, 1)
    assert len(manifest_versions(folder)) == 8 and restore_manifest(folder, 3).number == 8


class Breaking:
    """A folder that fails before its n-th file is written: a process that is killed there."""

    def __init__(self, inner: Folder, writes: int) -> None:
        self._inner, self._left = inner, writes

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "writer"):
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        return getattr(self._inner, name)


@pytest.mark.parametrize("revised", [0, 1])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_killed_anywhere_there_is_the_old_version_or_the_new_one(folder: Folder, writes: int, revised: int) -> None:
    if revised:
        revise_manifest(folder, [Revision("clip 0", confidence=1.0)], "first")
    before, history = read_manifest(folder), told(folder)
    with suppress(KeyboardInterrupt):
        revise_manifest(Breaking(folder, writes), AUDIT, "audit")
    done = writes == 2
    assert (told(folder) == history) == (read_manifest(folder) == before) == (not done)
    revise_manifest(folder, AUDIT, "audit")
    assert told(folder) == [*((*each[:3], False) for each in history), (revised + 1, "audit", 3, True)]
    restore_manifest(folder)
    assert read_manifest(folder) == before


def test_preparing_between_a_kill_and_the_next_try_does_not_confuse_the_versions(folder: Folder) -> None:
    with suppress(KeyboardInterrupt):
        revise_manifest(Breaking(folder, 1), AUDIT, "audit")
    update_manifest(folder, three_rows()[:2])
    assert told(folder) == [(0, "prepared", 0, True)]
    revise_manifest(folder, AUDIT[:2], "audit")
    assert [row.clip_id for row in pq_rows(folder, "manifests/0000.parquet")] == ["clip 0", "clip 1"]


def pq_rows(folder: Folder, name: str) -> list[ManifestRow]:
    plain = pq.read_table(pa.BufferReader(folder.read(name))).to_pylist()
    return [ManifestRow(**row) for row in plain]


def test_preparing_again_keeps_revisions_and_makes_no_version(folder: Folder) -> None:
    revise_manifest(folder, AUDIT, "audit")
    audited, before = read_manifest(folder), files(folder)
    assert update_manifest(folder, three_rows()[::-1]) == audited
    assert files(folder) == before
    new = manifest_row(invent_clips([1, 1, 1, 40])[3], 3)
    moved = [replace(row, shard="shards/t.arrow") if row.shard else row for row in three_rows()]
    assert len(update_manifest(folder, [*moved, new])) == 5
    assert [row.shard for row in read_manifest(folder)] == ["shards/t.arrow"] * 3 + ["shards/s.arrow", ""]
    assert [row.audit for row in read_manifest(folder)] == ["in_sync", "shifted", "unclear", "", ""]
    assert [each.number for each in manifest_versions(folder)] == [0, 1]
    restore_manifest(folder)  # takes the audit back, not what was prepared since
    assert read_manifest(folder) == [*moved[:3], new, MUTE]
    assert update_manifest(folder, [*moved, new]) == read_manifest(folder)


def test_what_was_audited_after_it_was_added_becomes_what_it_was_when_it_was_added(folder: Folder) -> None:
    revise_manifest(folder, AUDIT, "first")
    new = manifest_row(invent_clips([1, 1, 1, 40])[3], 3, av_offset_s=0.04)
    update_manifest(folder, [*three_rows(), new])
    revise_manifest(folder, [Revision("clip 3", av_offset_s=0.2, audit="shifted")], "second")
    restore_manifest(folder, 0)
    assert read_manifest(folder) == [*three_rows()[:3], new, MUTE]


def test_revisions_of_clips_that_were_away_come_back_unless_they_were_undone(folder: Folder) -> None:
    rows = three_rows()
    revise_manifest(folder, AUDIT, "audit")
    audited = read_manifest(folder)
    for _ in range(2):
        assert len(update_manifest(folder, [rows[0], MUTE])) == 2
        assert told(folder)[2:] == [(2, "prepared again without 2 of the revised clips", 2, True)]
    assert update_manifest(folder, rows) == audited
    update_manifest(folder, [rows[0], MUTE])
    restore_manifest(folder, 0)
    assert update_manifest(folder, rows) == rows
    restore_manifest(folder, 3)  # in which two were away, but audited
    assert read_manifest(folder) == audited


def test_what_preparation_rejects_now_stays_rejected_by_it(folder: Folder) -> None:
    revise_manifest(folder, AUDIT, "audit")
    hangs = {"status": "rejected", "reason": "hangs", "shard": "", "row": -1, "rows": 0, "split": ""}
    rows = [replace(row, **hangs) if row.clip_id in ("clip 1", "clip 2") else row for row in three_rows()]
    update_manifest(folder, rows)
    assert [row.reason for row in read_manifest(folder)] == ["", "hangs", "hangs", "no_audio"]
    restore_manifest(folder)
    assert [row.reason for row in read_manifest(folder)] == ["", "hangs", "hangs", "no_audio"]


def test_undoing_does_not_undo_what_the_list_of_videos_has_corrected(folder: Folder) -> None:
    revise_manifest(folder, AUDIT[:1], "audit")
    update_manifest(folder, [replace(row, av_offset_s=0.04, tag="site") for row in three_rows()])
    restore_manifest(folder)
    assert [(row.av_offset_s, row.tag) for row in read_manifest(folder)] == [(0.0, "site"), *[(0.04, "site")] * 3]


def test_a_manifest_that_is_lost_is_made_again_with_its_revisions(folder: Folder) -> None:
    revise_manifest(folder, AUDIT, "audit")
    revise_manifest(folder, [Revision("clip 0", confidence=9.0)], "another")
    folder.write("manifest.parquet", folder.read("manifest.parquet")[:-40])
    with pytest.raises(DataError, match="cannot be read"):
        manifest_versions(folder)
    rows = update_manifest(folder, three_rows())
    assert [(row.audit, row.confidence) for row in rows[:3]] == [("in_sync", 7.5), ("shifted", 6.0), ("unclear", 0.0)]
    assert told(folder)[1:] == [(1, "audit", 3, False), (2, "prepared again after the manifest was lost", 0, True)]


def test_another_program_s_manifest_does_not_cost_the_history(folder: Folder) -> None:
    revise_manifest(folder, AUDIT, "audit")
    revise_manifest(folder, [Revision("clip 0", confidence=9.0)], "another")
    kept = {name: content for name, content in files(folder).items() if name.startswith("manifests/")}
    write_manifest(folder, three_rows())
    assert [each.number for each in manifest_versions(folder)] == [0, 1, 2]
    assert "keeps no history" in manifest_versions(folder)[2].why
    restore_manifest(folder)
    assert clip(folder, "clip 1").audit == "shifted" and kept.items() <= files(folder).items()
    assert [each.number for each in manifest_versions(folder)] == [0, 1, 2, 3]


def write_version_2(path: Path, rows: list[ManifestRow], version: bytes = b"2") -> None:
    """A manifest as it was written before there were languages, tags and audits."""
    plain = [asdict(row) for row in rows]
    for row in plain:
        for name in ("language", "tag", "audit", "confidence"):
            del row[name]
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bytes: pa.binary()}
    columns = [pa.field(name, kinds[type(value)], nullable=False) for name, value in plain[0].items()]
    schema = pa.schema(columns, {b"syncnet.manifest_version": version})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(plain, schema), path, write_page_checksum=True)


def test_a_manifest_of_version_2_is_read_revised_and_restored(tmp_path: Path) -> None:
    path, folder = tmp_path / "manifest.parquet", open_folder(tmp_path)
    write_version_2(path, three_rows())
    assert len(pq.read_schema(path).names) == 21
    assert read_manifest(folder) == three_rows()
    before = path.read_bytes()
    revise_manifest(folder, AUDIT, "audit")
    assert pq.read_schema(path).names[-4:] == ["language", "tag", "audit", "confidence"]
    assert (tmp_path / "manifests" / "0000.parquet").read_bytes() == before
    restore_manifest(folder)
    assert read_manifest(folder) == three_rows()


@pytest.mark.parametrize("version", [b"1", b"3", b"4"])
def test_other_versions_are_refused(tmp_path: Path, version: bytes) -> None:
    write_version_2(tmp_path / "manifest.parquet", three_rows(), version)
    words = "its columns are" if version == b"3" else f"has version {version.decode()}, but this version reads 3"
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(open_folder(tmp_path))
    assert caught.value.reason == "bad_manifest"


@pytest.mark.parametrize("cached", [False, True])
def test_a_corpus_sees_the_current_version_and_an_open_one_its_own(tmp_path: Path, cached: bool) -> None:
    cache = tmp_path / "cache" if cached else None
    fill_corpus(tmp_path / "corpus", [50, 60, 70], val=1)
    folder = open_folder(tmp_path / "corpus")
    before = Corpus.open(tmp_path / "corpus", cache)
    mel = before.split("all").mel_window(1, 10, 5).copy()
    revise_manifest(folder, AUDIT, "audit")
    after = Corpus.open(tmp_path / "corpus", cache)
    copies = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/**/*.arrow")}
    clips = after.split("all")
    assert clips.clip_ids == ["clip 0", "clip 1"] and len(before.split("all").clips) == 3
    later = before.split("all").mel_window(1, 10, 20)[:, 10 : 10 + mel.shape[1]]  # 0.12 s are 9.6 columns
    assert np.array_equal(clips.mel_window(1, 10, 5), later) and not np.array_equal(later, mel)
    assert clip_names(clips) == ["clip 0", "clip 1@+0.120000s"]
    assert {path: path.stat().st_mtime_ns for path in copies} == copies and bool(copies) == cached
    restore_manifest(folder)
    assert Corpus.open(tmp_path / "corpus").fingerprint == before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("revision", "seen"),
    [
        (Revision("clip 1", av_offset_s=0.04), True),
        (Revision("clip 1", status="rejected", reason="no_sync"), True),
        (Revision("clip 1", audit="in_sync", confidence=3.0), False),
    ],
)
def test_the_fingerprint_changes_with_what_training_sees(tmp_path: Path, revision: Revision, seen: bool) -> None:
    before = fill_corpus(tmp_path, [50, 60, 70]).fingerprint
    revise_manifest(open_folder(tmp_path), [revision], "audit")
    assert (Corpus.open(tmp_path).fingerprint != before) == seen


def test_a_corpus_of_rejected_clips_only_is_refused(tmp_path: Path) -> None:
    fill_corpus(tmp_path, [50])
    revise_manifest(open_folder(tmp_path), [Revision("clip 0", status="rejected", reason="no_sync")], "audit")
    with pytest.raises(DataError, match="no usable clip among its 1"):
        Corpus.open(tmp_path)


def test_the_summary_counts_audits_and_what_they_rejected(folder: Folder) -> None:
    assert summarise(folder, read_manifest(folder)).audits == {}
    revise_manifest(folder, AUDIT, "audit")
    summary = summarise(folder, read_manifest(folder))
    assert summary.audits == {"in_sync": 1, "shifted": 1, "unclear": 1}
    assert (summary.ok, summary.rejected) == (2, {"no_audio": 1, "no_sync": 1})
    assert summary.clips == {"train": 1, "val": 1} and summary.hours == pytest.approx(110 / 25 / 3600)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_corpus(tmp_path, [50, 60, 70])
    where, folder = str(tmp_path), open_folder(tmp_path)
    assert main(["data", "undo", where]) == 2 and "before the current one" in capsys.readouterr().err
    assert main(["data", "summary", where]) == 0 and "audit" not in capsys.readouterr().out
    revise_manifest(folder, AUDIT, "audit with [bold] brackets", now=lambda: MARCH)
    assert main(["data", "summary", where]) == 0
    assert {("audit", "clips"), ("shifted", "1")} <= {tuple(line.split()) for line in printed(capsys)}
    assert main(["data", "history", where]) == 0
    lines = printed(capsys)
    assert lines[0].split() == ["version", "when", "clips", "changed", "why"] and len(lines) == 3
    assert "1 (current)" in lines[2] and "2026-03-01T00:00:00" in lines[2] and "with [bold] brackets" in lines[2]
    assert main(["data", "undo", where]) == 0
    assert "version 2 is current: back to version 0 (prepared); 3 clips changed" in capsys.readouterr().out
    assert main(["data", "undo", where, "--to", "1"]) == 0 and clip(folder, "clip 1").audit == "shifted"
    capsys.readouterr()
    assert main(["data", "history", where, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [(each["number"], each["changed"], each["restores"], each["current"]) for each in plain] == [
        (0, 0, None, False),
        (1, 3, None, False),
        (2, 3, 0, False),
        (3, 3, 1, True),
    ]


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()
