"""A clip that is stored as numbered pictures beside a sound file, as Wav2Lip's preprocessing leaves it.

Contract: the pictures are 25 per second in the order of their numbers, 0 to N - 1 without a gap; sample 0 of the sound
is at the time of picture 0; the wave has exactly 640 samples per picture. Nothing says at which rate the pictures
were taken and whether pictures without a face were skipped (Wav2Lip skips them and counts on), so picture and sound
must be of one length: otherwise they are not in step, and the clip is refused. Pictures may differ in size, because
every one is a crop of its own: a sink with a resolution scales them all to one.
"""

# T pictures

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.media.frames import FrameSink, damage_named
from orchestrator.data.media.soundtrack import Soundtrack
from orchestrator.errors import DataError

_PICTURE = re.compile(r"(\d+)\.(?:jpg|jpeg|png)", re.IGNORECASE)
_TOLERANCE = Fraction(3, FPS)
"""Seconds by which sound and picture may differ in length: a block of AAC (64 ms) and a frame."""
_PNG = b"\x89PNG"
_HINT = "prepare the clip from its video instead"


def decode_frame_folder(folder: Path, audio: Path, sink: FrameSink) -> NDArray[np.float32]:
    """Decode the pictures of a folder into `sink`, and the sound beside them as the result.

    Args:
        folder: holds `0.jpg`, `1.jpg`, ... (or png); other files are left aside.
        audio: the sound file.
        sink: takes the pictures in order.

    Returns:
        The wave, float32 `(T * 640,)` mono at 16 kHz in [-1, 1].

    Raises:
        DataError: `missing`, `no_video` without pictures, `missing_frame` for a gap, `double_frame`, `unreadable`,
            `empty_file`, `no_audio`, `length_differs`; what the sink raises, with the picture's name.
    """
    names = numbered_pictures(folder)
    # The sound first: it is the cheaper half, and refusing a clip must not cost all its pictures.
    wave = _sound(audio, len(names))
    decoders: dict[str, VideoCodecContext] = {}
    for name in names:
        path = folder / name
        try:
            sink.add(_picture(path, decoders), 1)
        except DataError as error:
            raise DataError(f"{path}: {error.message}", reason=error.reason, path=str(path), hint=error.hint) from error
    return wave


def numbered_pictures(folder: Path) -> list[str]:
    """The pictures of a folder by their numbers, which must be 0 to N - 1.

    Raises:
        DataError: `missing`, `no_video`, `missing_frame`, `double_frame`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder", reason="missing", path=str(folder))
    matches = [match for path in folder.iterdir() if (match := _PICTURE.fullmatch(path.name))]
    numbered = sorted((int(match[1]), match[0]) for match in matches)
    if not numbered:
        message = f"{folder}: there is no numbered picture (0.jpg, 1.jpg, ...) in it"
        raise DataError(message, reason="no_video", path=str(folder))
    for expected, (number, name) in enumerate(numbered):
        if number < expected:
            raise _bad_number(folder, "double_frame", f"{name} has the same number as {numbered[expected - 1][1]}")
        if number > expected:
            missing = str(expected) + Path(name).suffix
            raise _bad_number(folder, "missing_frame", f"{missing} is missing, the next picture is {name}")
    return [name for _, name in numbered]


def frame_folder_fingerprint(folder: Path, audio: Path) -> str:
    """The hex SHA-256 of a clip's pictures and sound: their names and contents, and nothing else in the folder.

    Raises:
        DataError: as `numbered_pictures`; OSError when a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (audio, *(folder / name for name in numbered_pictures(folder))):
        content = path.read_bytes()
        # The length keeps the end of one file from being taken for the beginning of the next.
        digest.update(f"{path.name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def _sound(path: Path, pictures: int) -> NDArray[np.float32]:
    """The wave for this many pictures."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file", reason="no_audio", path=str(path))
    try:
        _refuse_empty(path)
        soundtrack = _decoded(path)
        wave = soundtrack.render(Fraction(0), pictures * SAMPLE_RATE // FPS)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", reason=error.reason, path=str(path), hint=error.hint) from error
    shown = Fraction(pictures, FPS)
    if abs(soundtrack.end - shown) > _TOLERANCE:
        message = (
            f"{path}: the sound lasts {float(soundtrack.end):.2f} s, but {pictures} pictures at {FPS} per second last "
            f"{float(shown):.2f} s: they have another rate, or some were left out"
        )
        raise DataError(message, reason="length_differs", path=str(path), hint=_HINT)
    return wave


def _decoded(path: Path) -> Soundtrack:
    soundtrack = Soundtrack()
    with damage_named(), path.open("rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise DataError("has no audio stream", reason="no_audio")
        for frame in container.decode(audio=0):
            soundtrack.push(frame)
    return soundtrack


def _picture(path: Path, decoders: dict[str, VideoCodecContext]) -> VideoFrame:
    """One picture. A decoder is kept for all pictures of a kind: opening one costs more than using it."""
    _refuse_empty(path)
    with damage_named():
        content = path.read_bytes()
        kind = "png" if content.startswith(_PNG) else "mjpeg"  # what it is, whatever it is called
        if kind not in decoders:
            decoders[kind] = _decoder(kind)
        packet = av.Packet(content)
        packet.is_keyframe = True  # the decoder of PNG would add the picture before to this one otherwise
        frames = decoders[kind].decode(packet)
    if len(frames) != 1:
        raise DataError(f"holds {len(frames)} pictures instead of one", reason="unreadable")
    return frames[0]


def _decoder(kind: str) -> VideoCodecContext:
    decoder = av.CodecContext.create(kind, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1  # with more, a picture comes out only after the next ones went in
    decoder.options = {"err_detect": "explode"}  # half a picture is no picture
    return decoder


def _refuse_empty(path: Path) -> None:
    if path.is_file() and path.stat().st_size == 0:
        raise DataError("the file is empty (0 bytes)", reason="empty_file")


def _bad_number(folder: Path, reason: str, found: str) -> DataError:
    return DataError(f"{folder}: {found}", reason=reason, path=str(folder), hint=_HINT)
