"""A few seconds of picture and sound as bytes that every browser of today plays, inside of a page.

WebM with VP9 and Opus: free codecs, which browsers without licensed ones play as well. Contract: frame k is shown from
k / 25 s on, and sample n is heard at n / 16000 s, though Opus puts a few milliseconds in front of what it is given (the
container says how many, and players take them away). The same input gives the same bytes on the same machine.
"""

# T frames, H W pixels

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE

_LEAST_SIDE = 128
"""Pixels: smaller pictures are enlarged by a whole factor, so that codec and eye have something to hold on to."""
_PICTURE_BITS, _SOUND_BITS = 200_000, 32_000
"""A second; four seconds take 120 kB at most."""
_PACKET = SAMPLE_RATE // 50
"""Samples of sound in a packet."""
_OPTIONS = {"crf": "34", "deadline": "good", "cpu-used": "4", "lag-in-frames": "0", "auto-alt-ref": "0", "row-mt": "0"}


def playable(frames_THWC: NDArray[np.uint8], wave: NDArray[np.float32], fps: int = FPS) -> bytes:
    """Picture and sound as a WebM file.

    Args:
        frames_THWC: RGB.
        wave: mono at 16 kHz, from the beginning of the first frame on; what is longer than the picture is cut.
        fps: frames a second.
    """
    frames = enlarged(frames_THWC)
    file = io.BytesIO()
    # without the flag the file would hold a random number and the versions of libraries
    with av.open(file, "w", format="webm", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libvpx-vp9", rate=fps, options=_OPTIONS)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.bit_rate = "yuv420p", _PICTURE_BITS
        context: Any = video.codec_context
        context.thread_count, context.flags = 1, context.flags | av.codec.context.Flags.bitexact
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU601
        audio = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono", options={"application": "audio"})
        audio.bit_rate = _SOUND_BITS
        audio.codec_context.flags |= av.codec.context.Flags.bitexact
        for picture in _pictures(frames, fps):
            container.mux(video.encode(picture))
        container.mux(video.encode())
        for sound in _sounds(wave[: len(frames) * SAMPLE_RATE // fps]):
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return file.getvalue()


def enlarged(frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames of even sides, small ones enlarged by a whole factor."""
    height, width = frames_THWC.shape[1:3]
    factor = max(1, -(-_LEAST_SIDE // max(height, width)))
    frames = frames_THWC.repeat(factor, axis=1).repeat(factor, axis=2)
    odd = ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0))
    return np.ascontiguousarray(np.pad(frames, odd, mode="edge"))


def _pictures(frames_THWC: NDArray[np.uint8], fps: int) -> list[av.VideoFrame]:
    pictures = []
    for number, frame in enumerate(frames_THWC):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG)
        picture.pts, picture.time_base = number, Fraction(1, fps)
        pictures.append(picture)
    return pictures


def _sounds(wave: NDArray[np.float32]) -> list[av.AudioFrame]:
    sounds = []
    for first in range(0, len(wave), _PACKET):
        piece = np.ascontiguousarray(wave[None, first : first + _PACKET], np.float32)
        sound = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, first, Fraction(1, SAMPLE_RATE)
        sounds.append(sound)
    return sounds
