"""Raw videos with a real face in known motion, aligned for real: what is kept, where the face stands, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.run import AlignSummary, align_local
from orchestrator.data.importers import find_clips
from orchestrator.data.media.decode import decode_clip
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.storage import open_folder

from ..media.test_decode import turn_by
from .face_video import Placement, Scene, read_frames, registered, still, write_face_video

CONFIG = AlignConfig(min_seconds=0.8, max_seconds=4)
TEMPLATE = np.array([[74.8, 66.7], [180.2, 66.7], [127.5, 111.5]])
"""Eyes and nose in a picture aligned by LatentSync's rule."""
HALF_A_FRAME = 0.02 + 1e-6


@dataclass(frozen=True)
class Aligned:
    """An aligned folder."""

    out: Path
    summary: AlignSummary
    rows: list[dict]

    def of(self, origin: str) -> list[dict]:
        """The pieces of a video."""
        return [row for row in self.rows if row["origin"] == origin]

    def frames(self, row: dict) -> np.ndarray:
        """The pictures of a clip."""
        return read_frames(self.out / row["source"])


def moving(frame: int) -> Placement:
    """Comes nearer, turns and drifts; every few frames it shakes."""
    return Placement(190 + 2.5 * frame, 190 + 0.5 * frame, 0.55 + 0.004 * frame, 10 * np.sin(frame / 12))


def leaving(frame: int) -> Placement:
    """Stays a second, then goes out to the right."""
    return Placement(300 + 8 * max(frame - 26, 0), 200, 0.55)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    """Everything of this file in one run."""
    folder = tmp_path_factory.mktemp("align")
    pair = (still(x=120, scale=0.45), still(x=360, scale=0.42))
    write_face_video(folder / "raw/ann/moving.mp4", [Scene(44, (moving,))])
    write_face_video(
        folder / "raw/ann/shots.mp4",
        [
            Scene(24, (still(x=200),), background=1),
            Scene(26, (still(x=215, y=190, scale=0.65),), background=2),
            Scene(22, (), background=3),
            Scene(22, pair, background=4),
            Scene(22, (still(scale=0.27),), background=5),
            Scene(24, (still(scale=0.7),), background=6, blur=5),
        ],
    )
    write_face_video(folder / "raw/bob/leaving.mp4", [Scene(50, (leaving,))])
    (folder / "raw/bob/broken.mp4").write_bytes(b"no video at all")
    summary = align_local(folder / "raw", folder / "out", CONFIG)
    return Aligned(folder / "out", summary, pq.read_table(folder / "out/clips.parquet").to_pylist())


def test_a_moving_face_stands_still_at_the_template(aligned: Aligned) -> None:
    (row,) = aligned.of("ann/moving.mp4")
    frames = aligned.frames(row)
    assert row["status"] == "ok" and frames.shape == (44, 256, 256, 3)
    places = np.stack([registered(frame) for frame in frames[::4]])
    # Within what faces differ in; and far less from frame to frame, though the face moves by 100 pixels and 20 degrees.
    assert np.abs(places.mean(axis=0) - TEMPLATE).max() < 6
    assert np.abs(places - places.mean(axis=0)).max() < 2.5


def test_every_scene_gets_its_verdict(aligned: Aligned) -> None:
    rows = aligned.of("ann/shots.mp4")
    found = [(round(row["start_s"] * 25), round(row["end_s"] * 25), row["reason"]) for row in rows]
    assert found == [
        (0, 24, ""),
        (24, 50, ""),
        (50, 72, "no_face"),
        (72, 94, "several_faces"),
        (94, 116, "small_face"),
        (116, 140, "blurred"),
    ]
    assert [row["status"] for row in rows] == ["ok", "ok", *["rejected"] * 4]
    assert all(bool(row["detail"]) == (row["status"] == "rejected") for row in rows)


def test_both_shots_are_at_the_template(aligned: Aligned) -> None:
    for row in aligned.of("ann/shots.mp4")[:2]:
        frames = aligned.frames(row)
        assert len(frames) == round((row["end_s"] - row["start_s"]) * 25)
        for frame in (frames[0], frames[-1]):  # also right at the cut
            assert np.abs(registered(frame) - TEMPLATE).max() < 6


def test_figures_say_how_well_the_face_is_seen(aligned: Aligned) -> None:
    first, second = aligned.of("ann/shots.mp4")[:2]
    assert first["face_px"] == pytest.approx(0.6 * 178, rel=0.12)
    assert second["face_px"] / first["face_px"] == pytest.approx(0.65 / 0.6, rel=0.05)
    assert first["confidence"] > 0.95 and first["sharpness"] > 100 and first["outside"] == 0 and first["bridged"] == 0
    blurred = aligned.of("ann/shots.mp4")[5]
    assert blurred["sharpness"] < CONFIG.min_sharpness


def test_a_face_that_leaves_ends_its_segment(aligned: Aligned) -> None:
    rows = aligned.of("bob/leaving.mp4")
    assert rows[0]["status"] == "ok" and 41 <= round(rows[0]["end_s"] * 25) <= 45  # by then a tenth is outside
    assert {row["reason"] for row in rows[1:]} <= {"outside", "no_face", "low_confidence", "turned"} and len(rows) > 1
    assert rows[-1]["end_s"] == 2.0


def test_a_broken_video_is_a_row(aligned: Aligned) -> None:
    (row,) = aligned.of("bob/broken.mp4")
    assert (row["status"], row["reason"]) == ("rejected", "unreadable")
    assert not (aligned.out / row["source"]).exists()


def test_the_summary_counts_everything(aligned: Aligned) -> None:
    summary = aligned.summary
    assert (summary.videos, summary.clips, summary.pending, summary.videos_without_clip) == (4, 4, 0, 1)
    assert summary.speakers == 2 and summary.rejected["unreadable"] == 1
    seconds = sum(row["end_s"] - row["start_s"] for row in aligned.rows)
    assert 3600 * (summary.hours + sum(summary.hours_rejected.values())) == pytest.approx(seconds)


def test_prepare_takes_the_table(aligned: Aligned, tmp_path: Path) -> None:
    listing = find_clips(open_folder(aligned.out))
    assert listing.layout == "table" and len(listing.clips) == len(aligned.rows)
    assert {clip.origin for clip in listing.clips if clip.status == "ok"} >= {"ann/moving.mp4", "bob/leaving.mp4"}
    config = PreparationConfig(resolution=64, min_frames=24, clips_per_shard=64)
    summary = prepare_local(aligned.out, tmp_path / "prepared", config)
    assert summary.ok == 4 and summary.rejected["several_faces"] == 1


def test_the_largest_face_is_followed_if_asked(tmp_path: Path) -> None:
    pair = (still(x=150, scale=0.55), still(x=390, y=210, scale=0.33))
    write_face_video(tmp_path / "raw/pair.mp4", [Scene(24, pair)])
    align_local(tmp_path / "raw", tmp_path / "out", CONFIG.model_copy(update={"faces": "largest"}))
    (row,) = pq.read_table(tmp_path / "out/clips.parquet").to_pylist()
    assert row["status"] == "ok" and row["face_px"] == pytest.approx(0.55 * 178, rel=0.12)


def test_pictures_that_are_stored_on_their_side_or_shown_twice(tmp_path: Path) -> None:
    def drifting(frame: int) -> Placement:
        return Placement(220 + 2 * frame)

    turned = write_face_video(tmp_path / "raw/turned.mp4", [Scene(20, (drifting,))], turns=1)
    turn_by(turned, 90)
    write_face_video(tmp_path / "raw/slow.mp4", [Scene(11, (drifting,), 1), Scene(12, (drifting,), 2)], ticks=2)
    align_local(tmp_path / "raw", tmp_path / "out", CONFIG)
    rows = pq.read_table(tmp_path / "out/clips.parquet").to_pylist()
    found = [(row["origin"], row["status"], round(row["start_s"] * 25), round(row["end_s"] * 25)) for row in rows]
    assert found == [("slow.mp4", "ok", 0, 22), ("slow.mp4", "ok", 22, 46), ("turned.mp4", "ok", 0, 20)]
    for row in rows:
        frames = read_frames(tmp_path / "out" / row["source"])
        assert np.abs(registered(frames[len(frames) // 2]) - TEMPLATE).max() < 6


def test_sound_and_picture_stay_together_to_the_sample(tmp_path: Path) -> None:
    """A patch of the cheek flashes while it clicks, in both of two shots."""
    scenes = [Scene(31, (still(),), 1, flash=20), Scene(33, (still(x=220, scale=0.66),), 2, flash=11)]
    raw = write_face_video(tmp_path / "raw/a.mp4", scenes, clicks=(20, 31 + 11), rate=44_100)
    align_local(tmp_path / "raw", tmp_path / "out", CONFIG)
    rows = pq.read_table(tmp_path / "out/clips.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok"]
    source = decode_clip(raw)
    for row, frame in zip(rows, (20, 11), strict=True):
        clip = decode_clip(tmp_path / "out" / row["source"])
        first, last = (round(row[name] * 16_000) for name in ("start_s", "end_s"))
        assert clip.wave.shape == (640 * len(clip.frames_THWC),)
        assert np.abs(clip.wave - source.wave[first:last]).max() <= 2.0**-23
        cheek = clip.frames_THWC[:, 90:150, 40:110].astype(np.float64).mean(axis=(1, 2, 3))
        assert cheek.argmax() == frame and cheek[frame] > np.median(cheek) + 10
        clicked = np.abs(clip.wave).argmax() / 16_000
        assert abs(clicked - (frame + 0.5) / 25) <= HALF_A_FRAME
