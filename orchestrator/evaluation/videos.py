"""Any video as what a network can be asked about: found, decoded as preparation does it, cut into pieces.

Contract: the windows of a video are those that training would see if the video were prepared for this network; the
picture goes to a temporary file, so that memory holds no whole video; sources are only read.
"""

# T frames, C channels, H W pixels, L columns of audio features

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE, mel_start
from orchestrator.config.model import AnyModelConfig, JoonsonSyncNetConfig, training_problem
from orchestrator.data.files import VIDEO_EXTENSIONS
from orchestrator.data.importers import SourceClip, open_clips
from orchestrator.data.media.features import log_mel
from orchestrator.data.media.frames import FrameChunks
from orchestrator.data.media.speech import speech_frames
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.data.sources import LocalClip, Sources
from orchestrator.errors import ConfigError, StorageError
from orchestrator.evaluation.material import Material
from orchestrator.evaluation.mfcc import MFCC_PER_FRAME, MfccMaterial, mfcc_of
from orchestrator.storage import Folder, open_folder, redacted

PIECE_FRAMES = 60 * FPS
"""A longer stretch is judged piece by piece: what is compared grows with the square of its length."""
_LISTS = (".txt", ".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Video:
    """A video that was found."""

    root: Folder
    """Where it lies."""
    clip: SourceClip
    """Which one there."""

    @property
    def name(self) -> str:
        """Its path or URI, without credentials."""
        elsewhere = self.clip.source.startswith("/") or "://" in self.clip.source
        path = self.clip.source if elsewhere else posixpath.join(self.root.name, self.clip.source)
        return redacted(path).removeprefix("./")

    @contextmanager
    def local(self) -> Iterator[LocalClip]:
        """Its content on this machine.

        Raises:
            DataError: `missing` when it is not there.
            StorageError: the storage does not answer.
        """
        with Sources(self.root).local(self.clip) as content:
            yield content


@dataclass(frozen=True)
class Decoded:
    """A video's picture and sound as a network reads them."""

    clip: Material
    """The whole of it."""
    speech_T: NDArray[np.bool_]
    """In which frames something is heard."""
    cut: bool
    """Whether the video goes on behind what was read."""

    def pieces(self) -> Iterator[tuple[int, Material, float]]:
        """First frame, material and seconds with sound of each stretch of at most a minute, in order."""
        whole = self.clip
        for first, last in _bounds(whole.num_frames):
            columns = first * MFCC_PER_FRAME if isinstance(whole, MfccMaterial) else mel_start(first)
            part = replace(whole, frames_TCHW=whole.frames_TCHW[first:last], offset_columns=columns)
            yield first, part, float(self.speech_T[first:last].sum()) / FPS


def find_videos(where: Sequence[str | Path]) -> list[Video]:
    """The videos that a person names: files, folders with their subfolders, lists and tables; each once, in order.

    A file that is named and not there is found out when it is read.

    Raises:
        DataError: a folder or list without a video, see `open_clips`.
    """
    found: dict[str, Video] = {}
    for each in where:
        for video in _videos(each):
            found.setdefault(video.name, video)
    return list(found.values())


def check_readable(config: AnyModelConfig) -> None:
    """See that a network can be asked about a video at all.

    Raises:
        ConfigError: it reads latents, or sound in a form that is not made here.
    """
    hint = "take a network that reads pixels and mel, or joonson's syncnet_v2"
    if config.latent_space:
        what = f"{config.name} here reads latents, and the encoder that makes them of pictures is no part of its file"
        raise ConfigError([what], source="scoring a video", hint=f"{hint}; or `prepare --latents` and `evaluate`")
    problem = training_problem(config)
    if problem and not isinstance(config, JoonsonSyncNetConfig):
        raise ConfigError([f"{problem}, which are not made of a video here"], source="scoring a video", hint=hint)


def read_video(content: LocalClip, config: AnyModelConfig, max_frames: int | None = None) -> Decoded:
    """Decode a video whose picture is the aligned face, as `prepare` would do it for this network.

    Args:
        content: the video.
        config: the network's, which `check_readable` has passed.
        max_frames: read no more than this.

    Raises:
        DataError: as `LocalClip.decode`.
        StorageError: the disk for temporary files is full.
    """
    with _temporary() as file:
        chunks = _Spool(file)
        sink = FrameChunks(chunks.add, resolution=config.resolution, lower_half=config.lower_half)
        head = _Head(sink, max_frames)
        wave = content.decode(head)
        sink.finish()
        frames_TCHW = chunks.mapped()
    wave = wave[: len(frames_TCHW) * SAMPLE_RATE // FPS]
    speech = speech_frames(wave, PreparationConfig().min_rms)
    if isinstance(config, JoonsonSyncNetConfig):
        return Decoded(MfccMaterial(frames_TCHW, mfcc_of(wave)), speech, head.cut)
    return Decoded(Material(frames_TCHW, log_mel(torch.from_numpy(wave)).numpy()), speech, head.cut)


def _videos(where: str | Path) -> list[Video]:
    text = str(where)
    kind = posixpath.splitext(text.rstrip("/"))[1].lower()
    # what is named and not there counts as a file: reading it says so
    is_file = kind in VIDEO_EXTENSIONS if "://" in text else not Path(text).is_dir()
    if is_file and kind not in _LISTS:
        head, _, name = text.rpartition("/")
        return [Video(open_folder(head or ("/" if text.startswith("/") else ".")), SourceClip(name or head, ""))]
    root, listing = open_clips(where)
    return [Video(root, clip) for clip in listing.clips]


def _bounds(frames: int) -> list[tuple[int, int]]:
    """Stretches of about equal length; each begins where a mel column does."""
    parts = max(1, -(-frames // PIECE_FRAMES))
    edges = [frames * part // parts // 5 * 5 for part in range(parts)]
    return list(zip(edges, [*edges[1:], frames], strict=True))


class _Head:
    """A sink that passes only the first frames on; the rest is decoded for the sound's sake, and costs no memory."""

    def __init__(self, sink: FrameChunks, most: int | None) -> None:
        self._sink, self._most = sink, most
        self.cut = False

    def add(self, frame: VideoFrame, times: int) -> None:
        if self._most is not None and self._sink.count + times > self._most:
            self.cut, times = True, self._most - self._sink.count
        if times:
            self._sink.add(frame, times)


class _Spool:
    """Frames on their way into a file without a name."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._shape, self._count = file, (0, 0, 0), 0

    def add(self, frames_TCHW: NDArray[np.uint8]) -> None:
        self._file.write(frames_TCHW.tobytes())
        self._shape, self._count = frames_TCHW.shape[1:], self._count + len(frames_TCHW)

    def mapped(self) -> NDArray[np.uint8]:
        """All of them; the file lives as long as the array."""
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=(self._count, *self._shape))  # type: ignore[call-overload, no-any-return]


@contextmanager
def _temporary() -> Iterator[BinaryIO]:
    try:
        with tempfile.TemporaryFile(prefix="syncnet-frames-") as file:
            yield file
    except OSError as error:
        message = f"frames cannot be put into a temporary file: {error.strerror or error}"
        raise StorageError(message, hint="make room, set TMPDIR to a larger disk, or read fewer seconds") from error
