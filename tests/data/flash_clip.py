"""Real video files of every kind that people have, with a flash and a click at the same moment.

`write_flash_clip` says exactly where the moment lies on the clip's own clock; `times_of` finds it again in what was
stored, by brightness and by the loudest mel column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

CLOCK = 90_000
"""Ticks per second of the pictures' timestamps, in containers that can have them."""


@dataclass(frozen=True)
class FlashClip:
    """How a clip is made."""

    seconds: float = 1.6
    """Length of the picture."""
    event_s: float = 1.0
    """When it flashes and clicks, after the first picture."""
    click_after_s: float = 0.0
    """By how much the click comes later than the flash, for a clip that is out of sync."""
    fps: float | Fraction = 25
    """Pictures per second."""
    times: tuple[float, ...] = ()
    """When each picture is shown, instead of a fixed rate."""
    size: tuple[int, int] = (64, 64)
    """Width and height."""
    video: str = "libx264"
    """Encoder of the pictures; empty for none."""
    pix_fmt: str = "yuv420p"
    """Pixel format of the encoder."""
    options: dict[str, str] = field(default_factory=lambda: {"crf": "15", "preset": "ultrafast"})
    """Settings of the encoder."""
    picture_start_s: float = 0.0
    """When the first picture is shown, on the clock of the file."""
    sound_start_s: float = 0.0
    """When the first sample is heard, on the clock of the file."""
    sound_end_s: float | None = None
    """When the sound ends; none ends it with the picture."""
    hole_s: tuple[float, float] | None = None
    """From when to when, on the clock of the file, the soundtrack has nothing at all."""
    audio: str = "aac"
    """Encoder of the sound; empty for none."""
    rate: int = 16_000
    """Samples per second."""
    layout: str = "mono"
    """Channels."""
    voice: int | None = None
    """The only channel that is not silent."""
    level: float = 0.01
    """Of the noise; 0 makes the whole soundtrack silent."""
    more_tracks: int = 0
    """Further soundtracks, with a click at another time."""
    cover: bool = False
    """Whether there is a cover picture."""
    container: dict[str, str] = field(default_factory=dict)
    """Options of the container."""
    afterwards: Callable[[Path], None] | None = None
    """What is done to the file at last."""


def write_flash_clip(path: Path, clip: FlashClip) -> Path:
    """Write the clip; the container is told by the extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=clip.container) as container:
        video = _video(container, clip) if clip.video else None
        tracks = [_audio(container, clip) for _ in range(1 + clip.more_tracks)] if clip.audio else []
        if clip.cover:
            _mux_cover(container, _cover(container))
        if video is not None:
            _mux_pictures(container, video, clip)
        for number, track in enumerate(tracks):
            _mux_sound(container, track, clip, clip.event_s + clip.click_after_s - 0.3 * number)
    if clip.afterwards is not None:
        clip.afterwards(path)
    return path


def times_of(frames_TCHW: NDArray[np.uint8], mel: NDArray[np.float32]) -> tuple[float, float]:
    """When a stored clip flashes and clicks, in seconds: the middle of the bright frames, the loudest column."""
    brightness = frames_TCHW.mean(axis=(1, 2, 3))
    bright = np.flatnonzero(brightness > (np.median(brightness) + brightness.max()) / 2)
    assert brightness.max() > 200 and len(bright) == bright[-1] - bright[0] + 1, "there is not one flash"
    loudness = mel.mean(axis=0)
    return float(bright.mean()) / 25, float(loudness.argmax()) / 80


def cut_in_half(path: Path) -> None:
    """Keep the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def copied_from(seconds: float) -> Callable[[Path], None]:
    """Cut the beginning off without encoding again: the pictures since the last key frame stay in the file, and an
    edit list says that they are not shown."""

    def cut(path: Path) -> None:
        whole = path.with_name("whole" + path.suffix)
        path.rename(whole)
        with (
            av.open(str(whole)) as source,
            av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target,
        ):
            streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                shift = round(Fraction(seconds) / packet.time_base)
                if packet.dts is None or (packet.stream.type == "audio" and packet.pts < shift):
                    continue
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        whole.unlink()

    return cut


def _video(container: av.container.OutputContainer, clip: FlashClip) -> av.VideoStream:
    stream = container.add_stream(clip.video, rate=Fraction(clip.fps).limit_denominator(1001), options=clip.options)
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.pix_fmt
    if _has_timestamps(clip):
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
    return stream


def _has_timestamps(clip: FlashClip) -> bool:
    """Old encoders only count pictures."""
    return clip.video not in ("mpeg1video", "mpeg2video", "mpeg4")


def _audio(container: av.container.OutputContainer, clip: FlashClip) -> av.AudioStream:
    return container.add_stream(clip.audio, rate=clip.rate, layout=clip.layout)


def _cover(container: av.container.OutputContainer) -> av.VideoStream:
    stream = container.add_stream("mjpeg", rate=1)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuvj420p"
    stream.disposition = Disposition.attached_pic
    return stream


def _mux_cover(container: av.container.OutputContainer, stream: av.VideoStream) -> None:
    picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, dtype=np.uint8), format="rgb24")
    for packet in [*stream.encode(picture), *stream.encode(None)]:
        container.mux(packet)


def _mux_pictures(container: av.container.OutputContainer, stream: av.VideoStream, clip: FlashClip) -> None:
    fps = Fraction(clip.fps).limit_denominator(1001)
    times = clip.times or tuple(float(k / fps) for k in range(round(clip.seconds * fps)))
    nearest = min(range(len(times)), key=lambda k: abs(times[k] - clip.event_s))
    base = Fraction(1, CLOCK) if _has_timestamps(clip) else 1 / fps
    for number, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(_picture(time, clip.size, number == nearest), format="rgb24")
        frame.pts, frame.time_base = round((time + clip.picture_start_s) / base), base
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _picture(time: float, size: tuple[int, int], flash: bool) -> NDArray[np.uint8]:
    width, height = size
    if flash:
        return np.full((height, width, 3), 255, dtype=np.uint8)
    ramp = np.linspace(0, 80, height) + 20 * np.sin(6 * time)
    return np.broadcast_to(ramp[:, None, None].clip(0, 120), (height, width, 3)).astype(np.uint8)


def _mux_sound(
    container: av.container.OutputContainer, stream: av.AudioStream, clip: FlashClip, event_s: float
) -> None:
    end = clip.sound_end_s if clip.sound_end_s is not None else clip.picture_start_s + clip.seconds
    sound = np.random.default_rng(1).uniform(-clip.level, clip.level, round((end - clip.sound_start_s) * clip.rate))
    middle = round((event_s + clip.picture_start_s - clip.sound_start_s) * clip.rate)
    if clip.level and 0 <= middle < len(sound):
        sound[middle - clip.rate // 1000 : middle + clip.rate // 1000] = 0.9
    channels = av.AudioLayout(clip.layout).nb_channels
    samples = np.repeat(sound[None].astype(np.float32), channels, axis=0)
    if clip.voice is not None:
        samples[[channel for channel in range(channels) if channel != clip.voice]] = 0
    for first in range(0, samples.shape[1], 1000):
        chunk = np.ascontiguousarray(samples[:, first : first + 1000])
        frame = av.AudioFrame.from_ndarray(chunk, "fltp", clip.layout)
        frame.sample_rate, frame.time_base = clip.rate, Fraction(1, clip.rate)
        frame.pts = first + round(clip.sound_start_s * clip.rate)
        if clip.hole_s is not None and clip.hole_s[0] <= frame.pts / clip.rate < clip.hole_s[1]:
            continue
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
