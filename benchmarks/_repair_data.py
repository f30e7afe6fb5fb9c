"""A corpus whose sound is shifted in some of its clips, and what the truth is: made for `benchmarks/repair.py`.

The shift is real: the sound of a clip is decoded, moved by whole samples (fractions of a frame included), with silence
where nothing is left, encoded again and put beside the untouched picture. Held-out speakers stay as they are.
"""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.manifest import read_manifest
from orchestrator.data.media.decode import decode_clip
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.storage import open_folder

BLOCK = 640
"""Samples that are encoded at a time."""


def break_corpus(
    videos: Path, clean: Path, out: Path, settings: PreparationConfig, *, share: float, reach: float, seed: int
) -> dict[str, float]:
    """Prepare a copy of the videos in which a share of the training clips is out of sync.

    Args:
        videos: clips in sync.
        clean: the same, prepared: says which speakers are held out.
        out: gets `videos`, `corpus`.
        settings: how to prepare.
        share: of the clips of the training speakers.
        reach: frames of 1/25 s to either side.
        seed: which clips, and by how much.

    Returns:
        Source -> by how many seconds its sound comes later than its picture; of all training clips.
    """
    rng = np.random.default_rng(seed)
    training = sorted(row.source for row in read_manifest(open_folder(clean)) if row.split == "train")
    chosen = rng.permutation(len(training))[: round(share * len(training))]
    shifts = {training[place]: float(rng.uniform(-reach, reach)) / FPS for place in sorted(chosen)}
    shutil.copytree(videos, out / "videos", dirs_exist_ok=True)
    for source, seconds in shifts.items():
        shift_sound(videos / source, out / "videos" / source, round(seconds * SAMPLE_RATE))
    prepare_local(out / "videos", out / "corpus", settings)
    return {source: shifts.get(source, 0.0) for source in training}


def copy_corpus(source: Path, target: Path) -> Path:
    """A copy of a prepared corpus, whose manifest may be revised: the shards are the same files."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=_link_or_copy)
    return target


def shift_sound(source: Path, target: Path, samples: int) -> None:
    """Write a clip with its sound later by so many samples."""
    wave = moved(decode_clip(source).wave, samples)
    part = target.with_suffix(".part")
    with av.open(str(source)) as given, av.open(str(part), "w", format="mp4") as made:
        picture = made.add_stream_from_template(given.streams.video[0])
        sound = made.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000)
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = picture
                made.mux(packet)
        for first in range(0, len(wave), BLOCK):
            made.mux(sound.encode(_sound(wave, first)))
        made.mux(sound.encode())
    part.replace(target)


def moved(wave: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """The wave later by so many samples, as long as it was."""
    found = np.zeros_like(wave)
    if samples >= 0:
        found[samples:] = wave[: len(wave) - samples]
    else:
        found[:samples] = wave[-samples:]
    return found


def _sound(wave: NDArray[np.float32], first: int) -> av.AudioFrame:
    block = np.ascontiguousarray(wave[None, first : first + BLOCK])
    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first, Fraction(1, SAMPLE_RATE)
    return frame


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith(".arrow"):
        Path(target).hardlink_to(source)
    else:
        shutil.copy(source, target)
