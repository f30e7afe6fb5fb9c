"""`align` on Ray gives what one process gives."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.run import align_local
from orchestrator.runtime.align import align
from tests.data.align.face_video import Scene, still, write_face_video

CONFIG = AlignConfig(min_seconds=0.4, max_seconds=2)


@pytest.mark.usefixtures("ray_session")
def test_it_tells_how_it_goes_and_gives_what_one_process_gives(tmp_path: Path) -> None:
    raw, text = tmp_path / "raw", io.StringIO()
    write_face_video(raw / "ann/one.mp4", [Scene(12)])
    write_face_video(raw / "bob/two.mp4", [Scene(12, (still(x=200),))])
    write_face_video(raw / "cid/none.mp4", [Scene(12, ())])
    console = Console(file=text, width=200, force_terminal=False)
    summary = align(raw, tmp_path / "out", CONFIG, console=console)
    assert (summary.clips, summary.rejected, summary.pending) == (2, {"no_face": 1}, 0)
    assert "rejected cid/none.mp4: no_face" in text.getvalue()
    align_local(raw, tmp_path / "expected", CONFIG)
    assert files(tmp_path / "out") == files(tmp_path / "expected")


def files(out: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
