"""Pictures as H.264 in a shard: every packet is one frame, every few frames one that needs no other.

Promises: the same pictures give the same packets; a window is decoded from the key frame before it, into given memory;
pictures of noise are stored worse, not larger. Colours are BT.601 in full range with one chroma value for 2x2
pixels, their mean: written and read by exactly these rules, rounded once, so that no level shifts and a picture that
was such a video before loses little. Odd sizes are padded to even ones by repeating the last row and column.
"""

# n T frames, H W pixels

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from orchestrator.config.media import FPS

GOP = 6
"""Frames from one key frame to the next."""
MOST_BITS_PER_PIXEL = 0.70
"""Where pictures need more, they get worse. A second of 128x256 pixels takes at most 0.072 MB; with mel, below 0.1."""
SETTINGS: dict[str, Any] = {"codec": "h264", "gop": GOP, "crf": 13, "preset": "medium"}
"""What the encoder is told, as a shard's header has it; change it and shards have other bytes."""
_LEAST_KBIT = 256  # small pictures have more detail in a pixel, and take little all the same
_PLANES = ((0, 2), (1, 0), (2, 1))  # colour channel, plane of "gbrp"
# chroma sample location 1 is the middle of the 2x2 pixels
_X264 = (
    f"keyint={GOP}:min-keyint={GOP}:scenecut=0:open-gop=0:bframes=0:force-cfr=1:cpu-independent=1:"
    "chromaloc=1:chroma-qp-offset=-2"
)
# With these flags the result is the formula's, rounded once, on every processor; without them it is darker by half a
# level and differs between processors.
_EXACT = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class PictureEncoder:
    """Turns pictures of one size into packets.

    Args:
        height: of the pictures.
        width: of the pictures.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = height + height % 2, width + width % 2
        self._count = 0
        context = CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.height, context.width = self._size
        context.pix_fmt = "yuv420p"
        context.framerate, context.time_base = Fraction(FPS), Fraction(1, FPS)
        context.color_range, context.colorspace = ColorRange.JPEG, Colorspace.ITU601
        context.thread_count = 1  # more would make other bytes
        rate = max(int(MOST_BITS_PER_PIXEL * height * width * FPS / 1000), _LEAST_KBIT)
        limit = f":vbv-maxrate={rate}:vbv-bufsize={rate // 2}:vbv-init=0.5"
        options = {key: str(SETTINGS[key]) for key in ("crf", "preset")}
        context.options = {**options, "tune": "fastdecode", "x264-params": _X264 + limit}
        self._context = context

    def encode(self, frames: NDArray[np.uint8]) -> list[bytes]:
        """Take frames `(n, 3, H, W)` RGB; packets come later than their frames, in order."""
        return [packet for frame in frames for packet in self._packets(self._picture(frame))]

    def finish(self) -> list[bytes]:
        """The packets that have not come yet."""
        return list(self._packets(None))

    def _packets(self, frame: VideoFrame | None) -> Iterator[bytes]:
        return (bytes(packet) for packet in self._context.encode(frame))

    def _picture(self, rgb: NDArray[np.uint8]) -> VideoFrame:
        height, width = self._size
        picture = VideoFrame(width, height, "yuv420p")
        for plane, values in zip(picture.planes, to_yuv(rgb), strict=True):
            target = _rows(plane)
            target[: values.shape[0], : values.shape[1]] = values
        picture.color_range, picture.colorspace = ColorRange.JPEG, Colorspace.ITU601
        picture.pts, picture.time_base = self._count, Fraction(1, FPS)
        self._count += 1
        return picture


def decode_window(content: Any, ends: NDArray[np.int32], gop: int, start: int, out: NDArray[np.uint8]) -> None:
    """Decode frames [start, start + n) of a part into `out` `(n, 3, H, W)`.

    Args:
        content: buffer of all packets of the part.
        ends: the end of every packet.
        gop: frames from one key frame to the next.
        start: the first frame.
        out: as large as the pictures.

    Raises:
        ValueError: the packets are damaged.
    """
    key, stop = start - start % gop, start + len(out)
    bounds = [0 if key == 0 else int(ends[key - 1]), *ends[key:stop].tolist()]
    packets = [content[first:last] for first, last in pairwise(bounds)]
    frames = _decoder().decode(packets)
    if len(frames) != stop - key:
        raise ValueError(f"{len(frames)} of {stop - key} frames can be decoded")
    for frame, target in zip(frames[start - key :], out, strict=True):
        _decoder().to_rgb(frame, target)


class _Decoder:
    """One thread's decoder: making a new one for every window would cost more than the window."""

    def __init__(self) -> None:
        context = CodecContext.create("h264", "r")
        assert isinstance(context, VideoCodecContext)
        context.thread_count = 1  # windows are decoded in parallel, one per core
        self._context = context
        self._reformatter = VideoReformatter()

    def decode(self, packets: Sequence[Any]) -> list[VideoFrame]:
        """The frames of packets that begin with a key frame. Raises ValueError for damage."""
        try:
            frames = [frame for packet in packets for frame in self._context.decode(av.Packet(packet))]
            frames += self._context.decode(None)
        except av.FFmpegError as error:
            raise ValueError(f"packets cannot be decoded: {error.strerror}") from error
        finally:
            self._context.flush_buffers()
        return frames

    def to_rgb(self, frame: VideoFrame, target: NDArray[np.uint8]) -> None:
        """Write a frame as RGB into `(3, H, W)`, which may be smaller by a row or a column."""
        height, width = target.shape[1:]
        if (frame.height - height, frame.width - width) != (height % 2, width % 2):
            raise ValueError(f"a frame has {frame.height}x{frame.width} pixels instead of {height}x{width}")
        picture = self._reformatter.reformat(
            frame,
            format="gbrp",
            src_colorspace=Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
            threads=1,
        )
        planes = picture.planes
        for channel, number in _PLANES:
            target[channel] = _rows(planes[number])[:height, :width]


class _Local(threading.local):
    decoder: _Decoder | None = None


_LOCAL = _Local()


def _decoder() -> _Decoder:
    if _LOCAL.decoder is None:
        _LOCAL.decoder = _Decoder()
    return _LOCAL.decoder


def _rows(plane: Any) -> NDArray[np.uint8]:
    """A plane's own memory, `(rows, bytes in a row)`, which may be wider than the picture."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def to_yuv(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """A picture `(3, H, W)` as Y `(H', W')`, U and V `(H'/2, W'/2)`, H' and W' even; integers, rounded once."""
    height, width = rgb.shape[1:]
    if height % 2 or width % 2:
        rgb = np.pad(rgb, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    red, green, blue = rgb.astype(np.int32)
    luma = (19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16
    red, green, blue = (_sums(channel) for channel in (red, green, blue))
    chroma_u = ((-11059 * red - 21709 * green + 32768 * blue + (1 << 17)) >> 18) + 128
    chroma_v = ((32768 * red - 27439 * green - 5329 * blue + (1 << 17)) >> 18) + 128
    return luma.astype(np.uint8), *(chroma.clip(0, 255).astype(np.uint8) for chroma in (chroma_u, chroma_v))


def _sums(channel: NDArray[np.int32]) -> NDArray[np.int32]:
    """The sums of 2x2 pixels."""
    rows = channel[0::2] + channel[1::2]
    return rows[:, 0::2] + rows[:, 1::2]
