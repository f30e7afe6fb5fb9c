"""A corpus of invented talking heads: real H.264/AAC files whose mouths follow the speech that is heard.

Why: everything (demo, tests, benchmarks) works without a network and without anybody's face, and a SyncNet can learn
from it within a minute, because sound and mouth come from one plan (`synthetic_voice`, `synthetic_face`).
Contract: `<out>/spk03/clip_02.mp4`, 25 fps and 16 kHz mono. Every speaker has a look and a voice of their own, every
clip its own speech; a clip depends only on the seed, its speaker, its number, `seconds` and `size`, so a larger corpus
contains the smaller one. Files appear whole or not at all, and running again continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.synthetic.face import draw_frames, invent_look
from orchestrator.data.synthetic.voice import invent_voice, speak
from orchestrator.errors import ConfigError, DataError

Progress = Callable[[int, int], None]
"""Called with (clips ready, clips in all)."""

VERSION = 1
"""Changes whenever the same seed gives another clip."""


def make_corpus(
    out_dir: str | Path,
    *,
    speakers: int = 12,
    clips_per_speaker: int = 6,
    seconds: float = 4.0,
    size: int = 256,
    seed: int = 0,
    workers: int = 1,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Write the clips that are not there yet and return all of them, in order of speaker and number.

    Args:
        out_dir: the folder of the corpus; made if missing.
        speakers: how many people.
        clips_per_speaker: clips of each.
        seconds: length of a clip, rounded to whole video frames.
        size: pixels per side, a multiple of 16.
        seed: the same seed gives the same clips.
        workers: processes that draw; more than 1 starts that many, so call it under `if __name__ == "__main__"`.
        on_progress: called with (clips ready, clips in all) after every clip, the ones found ready included.

    Raises:
        ConfigError: a setting that makes no corpus.
        DataError: (`exists`) the folder holds clips of another recipe under the same names.
    """
    _check(
        speakers=speakers, clips_per_speaker=clips_per_speaker, seconds=seconds, size=size, seed=seed, workers=workers
    )
    seconds = round(seconds * FPS) / FPS
    recipes = [
        _Recipe(str(Path(out_dir) / f"spk{speaker:02d}" / f"clip_{clip:02d}.mp4"), seed, speaker, clip, seconds, size)
        for speaker in range(speakers)
        for clip in range(clips_per_speaker)
    ]
    missing = [recipe for recipe in recipes if not _is_ready(recipe)]
    done = len(recipes) - len(missing)
    if on_progress:
        on_progress(done, len(recipes))
    for _ in _made(missing, workers):
        done += 1
        if on_progress:
            on_progress(done, len(recipes))
    return [Path(recipe.path) for recipe in recipes]


@dataclass(frozen=True)
class _Recipe:
    """All that a clip depends on, and where it goes."""

    path: str
    seed: int
    speaker: int
    clip: int
    seconds: float
    size: int

    @property
    def label(self) -> str:
        """Stored in the file, so that a clip of another recipe is never taken for this one."""
        return (
            f"synthetic talking head v{VERSION} seed={self.seed} speaker={self.speaker} clip={self.clip} "
            f"seconds={self.seconds:g} size={self.size}"
        )


def _check(*, speakers: int, clips_per_speaker: int, seconds: float, size: int, seed: int, workers: int) -> None:
    counts = {"speakers": speakers, "clips_per_speaker": clips_per_speaker, "workers": workers}
    problems = [f"`{name}` must be at least 1, but is {count}" for name, count in counts.items() if count < 1]
    if not 0.2 <= seconds <= 3600:
        problems.append(f"`seconds` must be between 0.2 and 3600, but is {seconds}")
    if size < 32 or size % 16:
        problems.append(f"`size` must be a multiple of 16 and at least 32, but is {size}")
    if seed < 0:
        problems.append(f"`seed` must be at least 0, but is {seed}")
    if problems:
        raise ConfigError(problems, source="the synthetic corpus")


def _is_ready(recipe: _Recipe) -> bool:
    """Whether the clip is there; one that cannot be opened is made again.

    Raises:
        DataError: there is a good file that this recipe does not describe.
    """
    if not Path(recipe.path).exists():
        return False
    try:
        with av.open(recipe.path) as container:
            label = container.metadata.get("comment", "")
    except (av.FFmpegError, OSError):
        return False
    if label == recipe.label:
        return True
    raise DataError(
        f"{recipe.path} exists, but is not the clip that was asked for (found `{label}`, expected `{recipe.label}`)",
        reason="exists",
        path=recipe.path,
        hint="use another folder, or delete this one",
    )


def _made(recipes: list[_Recipe], workers: int) -> Iterator[None]:
    """Make the clips, yielding after each."""
    if workers == 1 or len(recipes) < 2:
        for recipe in recipes:
            _make_clip(recipe)
            yield
        return
    # spawn: a forked copy of a process that holds torch's or FFmpeg's threads may hang
    with ProcessPoolExecutor(min(workers, len(recipes)), mp_context=get_context("spawn")) as pool:
        for made in as_completed([pool.submit(_make_clip, recipe) for recipe in recipes]):
            made.result()
            yield


def _make_clip(recipe: _Recipe) -> None:
    """Invent and write one clip."""
    person = np.random.default_rng([recipe.seed, recipe.speaker])
    # steps of the golden section: however few speakers there are, their skin covers the range evenly
    tone = (np.random.default_rng(recipe.seed).random() + 0.618034 * recipe.speaker) % 1
    voice, look = invent_voice(person), invent_look(person, tone)
    rng = np.random.default_rng([recipe.seed, recipe.speaker, recipe.clip + 1])
    speech = speak(voice, recipe.seconds, rng)
    path = Path(recipe.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(part, draw_frames(look, speech.mouth, recipe.size, rng), speech.wave, recipe)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write(path: Path, frames: Iterator[NDArray[np.uint8]], wave: NDArray[np.float32], recipe: _Recipe) -> None:
    """Encode and mux; the sound of a frame is written next to it."""
    # bitexact: no encoder version in the file, the same seed gives the same bytes
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = recipe.label
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "18", "threads": "1"})
        video.width = video.height = recipe.size
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000)
        for t, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = t, Fraction(1, FPS)
            container.mux(video.encode(picture))
            container.mux(audio.encode(_sound(wave, t)))
        container.mux(video.encode())
        container.mux(audio.encode())


def _sound(wave: NDArray[np.float32], t: int) -> av.AudioFrame:
    """The samples during video frame `t`."""
    count = SAMPLE_RATE // FPS
    part = wave[t * count : (t + 1) * count]
    sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None]), format="fltp", layout="mono")
    sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, t * count, Fraction(1, SAMPLE_RATE)
    return sound
