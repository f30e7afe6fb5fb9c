"""Small real video files, written by PyAV: H.264 and AAC, with a flash and a click where a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import ManifestRow, write_manifest
from orchestrator.data.shards import ShardKind, ShardWriter
from orchestrator.storage import open_folder

Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def write_clip() -> Writer:
    """The writer of test clips; see `make_clip`."""
    return make_clip


def make_clip(
    path: Path,
    *,
    seconds: float = 1.6,
    fps: int = 25,
    rate: int = 16_000,
    stereo: bool = False,
    size: int = 64,
    event_s: float | None = None,
    audio_start_s: float = 0.0,
    level: float = 0.3,
    sound: bool = True,
    seed: int = 0,
    frame_times: list[float] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of noise and a moving gradient. At `event_s` one moment is white and one click is heard.

    `frame_times` gives the presentation times of a variable frame rate; `audio_start_s` delays the soundtrack;
    `options` go to the container.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = frame_times or [k / fps for k in range(round(seconds * fps))]
    with av.open(str(path), "w", options=options or {}) as container:
        # AVI has no timestamps, only numbered frames, from which reordered or primed codecs can only be guessed.
        numbered = path.suffix == ".avi"
        base = Fraction(1, fps if numbered else 12_800)
        codec, settings = ("mpeg4", {"qscale": "2"}) if numbered else ("libx264", {"crf": "10", "preset": "ultrafast"})
        video = container.add_stream(codec, rate=fps, options=settings)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = base
        audio_codec = "pcm_s16le" if numbered else "aac"
        audio = container.add_stream(audio_codec, rate=rate, layout="stereo" if stereo else "mono") if sound else None
        for time in times:
            frame = av.VideoFrame.from_ndarray(_picture(time, size, fps, event_s), format="rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            wave = _wave(seconds, rate, event_s, audio_start_s, level, seed)
            for first in range(0, len(wave), 1024):
                chunk = np.repeat(wave[None, first : first + 1024], 2 if stereo else 1, axis=0)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk), "fltp", "stereo" if stereo else "mono")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = first + round(audio_start_s * rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def _picture(time: float, size: int, fps: int, event_s: float | None) -> NDArray[np.uint8]:
    if event_s is not None and abs(time - event_s) < 0.4 / fps:
        return np.full((size, size, 3), 255, dtype=np.uint8)
    ramp = np.linspace(0, 80, size) + 20 * np.sin(6 * time)
    return np.broadcast_to(ramp[:, None, None].clip(0, 120), (size, size, 3)).astype(np.uint8)


def _wave(seconds: float, rate: int, event_s: float | None, start_s: float, level: float, seed: int) -> NDArray:
    length = round((seconds - start_s) * rate)
    wave = np.random.default_rng(seed).uniform(-level, level, length).astype(np.float32)
    if event_s is not None:
        wave *= 0.02
        middle = round((event_s - start_s) * rate)
        wave[middle : middle + rate // 500] = 0.9
    return wave


@dataclass(frozen=True)
class ClipArrays:
    """An invented clip: frames `(T, C, H, W)` and mel `(80, L)`."""

    clip_id: str
    frames: NDArray
    mel: NDArray[np.float32]


def invent_clips(lengths: list[int], missing_columns: int = 0, shape: tuple[int, ...] = (3, 4, 8)) -> list[ClipArrays]:
    """Clips of noise."""
    rng = np.random.default_rng(1)
    return [
        ClipArrays(
            f"clip {number}",
            rng.integers(0, 256, (length, *shape), dtype=np.uint8),
            rng.normal(size=(80, length * 16 // 5 + 1 - missing_columns)).astype(np.float32),
        )
        for number, length in enumerate(lengths)
    ]


def write_shard(path: Path, clips: list[ClipArrays], kind: ShardKind = ShardKind.RAW, preparation: str = "prep") -> int:
    """Write clips to a new shard and return how many rows it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, ShardWriter(file, kind, preparation) as shard:
        for clip in clips:
            with shard.add_clip(clip.clip_id) as writer:
                writer.frames(clip.frames)
                writer.mel(clip.mel)
    return shard.rows


def manifest_row(clip: ClipArrays, row: int, **changes: Any) -> ManifestRow:
    """The manifest's row of a clip that takes one row of `shards/s.arrow`."""
    num_frames, channels, height, width = clip.frames.shape
    values = {
        "source": f"{clip.clip_id}.mp4",
        "fingerprint": clip.clip_id,
        "status": "ok",
        "split": "train",
        "num_frames": num_frames,
        "channels": channels,
        "height": height,
        "width": width,
        "shard": "shards/s.arrow",
        "row": row,
        "rows": 1,
        "preparation": "prep",
    }
    return ManifestRow(clip.clip_id, **{**values, **changes})


def fill_corpus(folder: Path, lengths: list[int], val: int = 0, missing_columns: int = 0) -> Corpus:
    """A corpus of invented 4x8 clips without any video; the first `val` of them validate."""
    clips = invent_clips(lengths, missing_columns)
    write_shard(folder / "shards" / "s.arrow", clips)
    write_manifest(
        open_folder(folder),
        [manifest_row(clip, row, split="val" if row < val else "train") for row, clip in enumerate(clips)],
    )
    return Corpus.open(folder)
