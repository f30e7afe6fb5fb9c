"""Preparation end to end on real files: what is stored, what is rejected and why, and what a second run does."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import ManifestRow, read_manifest
from orchestrator.data.media.decode import decode_clip
from orchestrator.data.media.features import log_mel
from orchestrator.data.media.speech import unpack_bits
from orchestrator.data.prepare import finish, plan_units, prepare_local
from orchestrator.data.prepare.settings import PreparationConfig, fingerprint_of
from orchestrator.data.prepare.unit import PrepareUnit
from orchestrator.data.revisions import Revision, manifest_versions, restore_manifest, revise_manifest
from orchestrator.data.shards import ShardReader
from orchestrator.data.work import ClipDone
from orchestrator.errors import DataError
from orchestrator.storage import open_folder

from ..conftest import Writer

CONFIG = PreparationConfig(resolution=32, clips_per_shard=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_clip: Writer) -> Path:
    """Good and bad clips of several speakers; equal base names and difficult ones among them."""
    root = tmp_path_factory.mktemp("videos")
    write_clip(root / "anna" / "00001.mp4", seed=1)
    write_clip(root / "bert" / "00001.mp4", seed=2, seconds=2.0)
    write_clip(root / "bert" / "deep" / "00001.MKV", seed=3)
    write_clip(root / "çelik 李" / "a clip; $(rm) 'x'.mp4", seed=4)
    write_clip(root / "bad" / "mute.mp4", sound=False)
    write_clip(root / "bad" / "silent.mp4", level=0.0)
    write_clip(root / "bad" / "short.mp4", seconds=0.4)
    (root / "bad" / "empty.mov").touch()
    (root / "bad" / "text.mp4").write_text("no video")
    whole = (root / "anna" / "00001.mp4").read_bytes()
    (root / "bad" / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "notes.txt").write_text("not even named like a video")
    (root / "anna" / "._00001.mp4").write_text("a hidden attribute file")
    return root


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare_local(videos, out, CONFIG)
    return out


def rows_of(out: Path) -> dict[str, ManifestRow]:
    return {row.source: row for row in read_manifest(open_folder(out))}


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "shards").glob("*.arrow")}


def test_every_clip_is_listed_with_what_became_of_it(prepared: Path) -> None:
    rows = rows_of(prepared)
    assert {source: row.reason for source, row in rows.items()} == {
        "anna/00001.mp4": "",
        "bert/00001.mp4": "",
        "bert/deep/00001.MKV": "",
        "çelik 李/a clip; $(rm) 'x'.mp4": "",
        "bad/mute.mp4": "no_audio",
        "bad/silent.mp4": "silent",
        "bad/short.mp4": "too_short",
        "bad/empty.mov": "empty_file",
        "bad/text.mp4": "unreadable",
        "bad/half.mp4": "unreadable",
    }
    assert len({row.clip_id for row in rows.values()}) == len(rows)
    for row in rows.values():
        assert bool(row.detail) == bool(row.reason) == (not row.split)
        assert str(prepared.parent) not in row.detail


def test_stored_clips_are_what_decoding_gives(videos: Path, prepared: Path) -> None:
    for source, row in rows_of(prepared).items():
        if not row.ok:
            continue
        stored = ShardReader(prepared / row.shard).clip(row.row, row.rows)
        decoded = decode_clip(videos / source, 32)
        assert stored.clip_id == row.clip_id
        frames = stored.view(0, stored.num_frames)
        assert np.array_equal(frames, decoded.frames_THWC.transpose(0, 3, 1, 2)[:, :, 16:])
        assert np.array_equal(stored.mel, log_mel(torch.from_numpy(decoded.wave)).numpy())
        assert (row.num_frames, row.height, row.width) == (len(decoded.frames_THWC), 16, 32)
        assert row.duration_s == row.num_frames / 25
        assert unpack_bits(row.speech, row.num_frames).all()


def test_the_summary_counts(videos: Path, prepared: Path) -> None:
    summary = finish(videos, prepared, CONFIG)
    assert (summary.ok, summary.pending, sum(summary.rejected.values())) == (4, 0, 6)
    assert summary.hours == pytest.approx((40 + 50 + 40 + 40) / 25 / 3600)
    assert summary.clips["train"] + summary.clips["val"] == 4
    assert summary.speakers == {"train": 2, "val": 1}
    assert summary.warnings == ()


def test_a_second_preparation_from_scratch_gives_the_same_bytes(videos: Path, prepared: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(videos, moved)
    prepare_local(moved, tmp_path / "out", CONFIG)
    assert shard_bytes(tmp_path / "out") == shard_bytes(prepared)
    assert rows_of(tmp_path / "out") == rows_of(prepared)


@pytest.fixture
def small(tmp_path: Path, videos: Path) -> tuple[Path, Path]:
    """A small copy of the videos, prepared."""
    root, out = tmp_path / "videos", tmp_path / "out"
    for name in ("anna", "bert"):
        shutil.copytree(videos / name, root / name)
    prepare_local(root, out, CONFIG)
    return root, out


def test_running_again_does_nothing(small: tuple[Path, Path]) -> None:
    root, out = small
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    for source in root.rglob("*.mp4"):
        os.utime(source)  # a copy of the same content gets a new time
    calls: list[ClipDone] = []
    assert plan_units(root, out, CONFIG).units == ()
    prepare_local(root, out, CONFIG, calls.append)
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == before


def left(root: Path, out: Path) -> list[tuple[str, ...]]:
    """What a run would do, unit by unit."""
    return [unit.sources for unit in plan_units(root, out, CONFIG).units]


def test_only_new_changed_and_lost_clips_are_prepared(small: tuple[Path, Path], write_clip: Writer) -> None:
    root, out = small
    old = rows_of(out)
    write_clip(root / "new" / "00001.mp4", seed=9)
    write_clip(root / "anna" / "00001.mp4", seed=10, seconds=1.8)
    assert left(root, out) == [("anna/00001.mp4", "new/00001.mp4")]
    prepare_local(root, out, CONFIG)
    rows = rows_of(out)
    assert rows["anna/00001.mp4"].clip_id != old["anna/00001.mp4"].clip_id
    assert rows["bert/00001.mp4"].fingerprint == old["bert/00001.mp4"].fingerprint
    assert rows["bert/00001.mp4"].shard == old["bert/00001.mp4"].shard
    (out / rows["new/00001.mp4"].shard).unlink()
    assert left(root, out) == [("anna/00001.mp4", "new/00001.mp4")]
    (root / "bert" / "00001.mp4").unlink()
    assert "bert/00001.mp4" not in {row.source for row in read_manifest_after(root, out)}


def read_manifest_after(root: Path, out: Path) -> list[ManifestRow]:
    finish(root, out, CONFIG)
    return read_manifest(open_folder(out))


def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(small: tuple[Path, Path]) -> None:
    root, out = small
    whole, rows = shard_bytes(out), rows_of(out)
    shard = next((out / "shards").glob("*.arrow"))
    shard.with_name(f".{shard.name}.0123.tmp").write_bytes(whole[shard.name][:1000])
    shard.with_suffix(".json").unlink()  # killed between the shard and its sidecar
    (out / "shards" / "broken.json").write_text('[{"row": {"clip_id"')
    assert finish(root, out, CONFIG).pending == len(plan_units(root, out, CONFIG).units[0].sources) > 0
    prepare_local(root, out, CONFIG)
    assert (shard_bytes(out), rows_of(out)) == (whole, rows)


def test_a_run_that_stops_half_way_is_continued(videos: Path, prepared: Path, tmp_path: Path) -> None:
    units = plan_units(videos, tmp_path, CONFIG).units
    run(pickle.loads(pickle.dumps(units[1])))
    assert finish(videos, tmp_path, CONFIG).pending == 10 - len(units[1].sources)
    assert plan_units(videos, tmp_path, CONFIG).units == (units[0], *units[2:])
    prepare_local(videos, tmp_path, CONFIG)
    assert shard_bytes(tmp_path) == shard_bytes(prepared)


def run(unit: PrepareUnit) -> list[ClipDone]:
    return [message for message in unit.run() if isinstance(message, ClipDone)]


def test_a_clip_that_vanishes_is_listed_and_tried_again(small: tuple[Path, Path], write_clip: Writer) -> None:
    root, out = small
    path = write_clip(root / "new" / "1.mp4", seed=5)
    (unit,) = plan_units(root, out, CONFIG).units
    content = path.read_bytes()
    path.unlink()
    assert [done.reason for done in run(unit)] == ["missing"]
    path.write_bytes(content)
    assert plan_units(root, out, CONFIG).units == (unit,)
    assert [done.reason for done in run(unit)] == [""]
    assert finish(root, out, CONFIG).rejected == {}


def test_of_two_runs_at_once_the_slower_one_finds_everything_done(videos: Path, prepared: Path, tmp_path: Path) -> None:
    unit = plan_units(videos, tmp_path, CONFIG).units[0]
    slower = unit.run()
    for _ in range(2 * len(unit.clips)):
        next(slower)  # up to the end of its last clip
    run(unit)
    assert next(slower, None) is None
    shards = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert all(
        (tmp_path / "shards" / name).read_bytes() == (prepared / "shards" / name).read_bytes() for name in shards
    )
    assert len(shards) == 2


def test_sources_are_left_alone(small: tuple[Path, Path], videos: Path) -> None:
    root, _ = small
    names = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert names == {path: (videos / path).read_bytes() for path in names}


def test_other_settings_need_another_folder(small: tuple[Path, Path]) -> None:
    root, out = small
    with pytest.raises(DataError, match="resolution is 32 there, but 64 here") as caught:
        prepare_local(root, out, CONFIG.model_copy(update={"resolution": 64}))
    assert (caught.value.reason, bool(caught.value.hint)) == ("other_settings", True)
    resplit = CONFIG.model_copy(update={"val_fraction": 0.5, "clips_per_shard": 8})
    assert plan_units(root, out, resplit).units == ()
    (out / "preparation.json").unlink()
    assert plan_units(root, out, CONFIG.model_copy(update={"resolution": 64})).done == 0


def test_nothing_to_prepare_is_an_error(tmp_path: Path) -> None:
    for root, reason in ((tmp_path, "no_videos"), (tmp_path / "absent", "missing")):
        with pytest.raises(DataError) as caught:
            prepare_local(root, tmp_path / "out", CONFIG)
        assert caught.value.reason == reason
    assert not (tmp_path / "out").exists()


def test_a_link_to_a_parent_folder_does_not_loop(small: tuple[Path, Path]) -> None:
    root, out = small
    (root / "anna" / "up").symlink_to(root)
    assert plan_units(root, out, CONFIG).units == ()


def test_what_a_person_should_know_is_said(tmp_path: Path, videos: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / "in" / "only").mkdir(parents=True, exist_ok=True)
        shutil.copy(videos / "anna" / "00001.mp4", tmp_path / "in" / "only" / name)
    summary = prepare_local(tmp_path / "in", tmp_path / "out", CONFIG)
    assert ["one speaker" in summary.warnings[0], "copies" in summary.warnings[1]] == [True, True]
    assert summary.clips == {"train": 2, "val": 0}


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        ({"resolution": 64}, True),
        ({"lower_half": False}, True),
        ({"min_rms": 0.1}, True),
        ({"storage": "compact"}, True),
        ({"val_fraction": 0.5, "clips_per_shard": 3, "layout": "folder", "speaker": "file"}, False),
    ],
)
def test_the_fingerprint_covers_what_is_stored(change: dict[str, object], stored: bool) -> None:
    other = CONFIG.model_copy(update=change)
    assert (fingerprint_of(other.identity()) != fingerprint_of(CONFIG.identity())) == stored


def test_a_name_that_is_not_unicode_is_prepared(tmp_path: Path, videos: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    try:
        shutil.copy(videos / "anna" / "00001.mp4", os.fsencode(root) + b"/caf\xe9.mp4")
    except OSError:
        pytest.skip("this file system has no such names")
    prepare_local(root, tmp_path / "out", CONFIG)
    (row,) = read_manifest(open_folder(tmp_path / "out"))
    assert (row.ok, row.source) == (True, "caf\\udce9.mp4")
    assert replace(row, split="train") == row


def test_a_corpus_of_other_features_or_of_two_preparations_is_refused(small: tuple[Path, Path]) -> None:
    _, out = small
    Corpus.open(out)
    path = out / "preparation.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "fingerprint": "0123"}))
    with pytest.raises(DataError, match="was prepared as 0123, but anna") as caught:
        Corpus.open(out)
    assert caught.value.reason == "other_preparation"
    path.write_text(json.dumps({**stored, "settings": {**stored["settings"], "features": 1}}))
    with pytest.raises(DataError, match="has features of version 1, but this version computes") as caught:
        Corpus.open(out)
    assert caught.value.reason == "other_features"


def test_a_shard_that_was_cut_short_is_prepared_anew(small: tuple[Path, Path]) -> None:
    root, out = small
    whole = shard_bytes(out)
    shard = next((out / "shards").glob("*.arrow"))
    shard.write_bytes(whole[shard.name][:1000])
    assert left(root, out)
    prepare_local(root, out, CONFIG)
    assert shard_bytes(out) == whole


def audited(out: Path) -> dict[str, ManifestRow]:
    """The rows after an audit that moved one clip and rejected another, so that its speaker has none left."""
    rows = rows_of(out)
    revisions = [
        Revision(rows["bert/00001.mp4"].clip_id, av_offset_s=0.12, audit="shifted", confidence=5.0),
        Revision(rows["anna/00001.mp4"].clip_id, status="rejected", reason="no_sync", audit="unclear"),
    ]
    revise_manifest(open_folder(out), revisions, "audit")
    return rows_of(out)


def test_an_audit_survives_preparing_again(small: tuple[Path, Path], write_clip: Writer) -> None:
    root, out = small
    before = rows_of(out)
    rows = audited(out)
    written = (out / "manifest.parquet").stat().st_mtime_ns
    assert prepare_local(root, out, CONFIG).audits == {"shifted": 1, "unclear": 1}
    assert (out / "manifest.parquet").stat().st_mtime_ns == written
    write_clip(root / "bert" / "new.mp4", seed=9)
    summary = prepare_local(root, out, CONFIG)
    assert (summary.ok, summary.rejected) == (3, {"no_sync": 1})
    assert [warning[:30] for warning in summary.warnings] == ["all clips belong to one speake"]
    now = rows_of(out)
    assert {source: now[source] for source in rows} == rows and not now["bert/new.mp4"].audit
    assert [version.number for version in manifest_versions(open_folder(out))] == [0, 1]
    restore_manifest(open_folder(out))
    prepare_local(root, out, CONFIG)
    assert {source: rows_of(out)[source] for source in before} == before and len(rows_of(out)) == 4


def test_an_audited_clip_whose_shard_was_lost_keeps_its_audit(small: tuple[Path, Path]) -> None:
    root, out = small
    rows = audited(out)
    for shard in {row.shard for row in rows.values()}:
        (out / shard).unlink()
    assert finish(root, out, CONFIG).pending == 3
    prepare_local(root, out, CONFIG)
    assert rows_of(out) == rows
    assert "without 2 of the revised clips" in manifest_versions(open_folder(out))[-1].why


def test_what_a_list_says_counts_until_it_is_revised(small: tuple[Path, Path]) -> None:
    root, out = small
    table = "source,speaker,language,tag,av_offset_s\nanna/00001.mp4,anna,en,site,{}\nbert/00001.mp4,bert,,,{}\n"
    (root / "clips.csv").write_text(table.format(0, 0.04))
    units = plan_units(root, out, CONFIG).units
    assert units == ()  # the clips are prepared, whatever is said of them
    assert finish(root, out, CONFIG).warnings == ()
    rows = rows_of(out)
    assert [(row.language, row.tag, row.av_offset_s) for row in rows.values()] == [("en", "site", 0.0), ("", "", 0.04)]
    revise_manifest(open_folder(out), [Revision(row.clip_id, av_offset_s=0.12) for row in rows.values()], "by hand")
    (root / "clips.csv").write_text(table.format(0, 0.08).replace("en,", "de,"))
    (warning,) = finish(root, out, CONFIG).warnings
    assert "1 clips keep the A/V offset of a revision" in warning and "0.12 s instead of 0.08 s" in warning
    assert [(row.language, row.av_offset_s) for row in rows_of(out).values()] == [("de", 0.12), ("", 0.12)]
    restore_manifest(open_folder(out))
    assert finish(root, out, CONFIG).warnings == ()
    assert [row.av_offset_s for row in rows_of(out).values()] == [0.0, 0.08]


def test_records_of_before_are_still_valid(small: tuple[Path, Path]) -> None:
    root, out = small
    rows = rows_of(out)
    for path in (out / "shards").glob("*.json"):
        records = json.loads(path.read_text())
        for record in records:
            for name in ("language", "tag", "audit", "confidence"):
                del record["row"][name]
        path.write_text(json.dumps(records))
    assert plan_units(root, out, CONFIG).units == ()
    finish(root, out, CONFIG)
    assert rows_of(out) == rows
