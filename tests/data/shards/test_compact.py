"""Compact shards: pictures of any size and colour come back nearly as they were, out of little space."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from orchestrator.data.shards import ShardKind, ShardReader, ShardWriter
from orchestrator.data.shards.h264 import GOP, PictureEncoder, decode_window, to_yuv
from orchestrator.data.shards.raw import raw_size, write_raw
from orchestrator.errors import DataError

from ..conftest import ClipArrays, write_shard


def moving(count: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A soft coloured pattern that moves: `(count, 3, H, W)`."""
    time, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    colours = [np.sin((x + 2 * time) / 27 + k) + np.cos((y - time) / 21 - k) for k in range(3)]
    return (np.stack(colours, axis=1) * 60 + 128).astype(np.uint8)


def clip_of(frames: NDArray[np.uint8], clip_id: str = "a") -> ClipArrays:
    mel = np.random.default_rng(len(frames)).normal(size=(80, len(frames) * 16 // 5 + 1)).astype(np.float32)
    return ClipArrays(clip_id, frames, mel)


def decibel(one: NDArray, other: NDArray) -> float:
    """Peak signal to noise ratio."""
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


def stored(folder: Path, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames after a compact shard."""
    rows = write_shard(folder / "a", [clip_of(frames)], ShardKind.COMPACT)
    return ShardReader(folder / "a").clip(0, rows).view(0, len(frames))


def test_pictures_survive_and_take_less(tmp_path: Path) -> None:
    frames = moving(100)
    found = stored(tmp_path, frames)
    assert (found.shape, found.dtype) == (frames.shape, np.uint8)
    assert decibel(found, frames) > 40
    assert (tmp_path / "a").stat().st_size - clip_of(frames).mel.nbytes < frames.nbytes / 20


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (17, 33), (47, 64), (48, 63), (96, 96), (128, 256)])
def test_any_size_is_stored(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving(9, *size)
    assert decibel(stored(tmp_path, frames), frames) > 35


@pytest.mark.parametrize(
    "colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0), (255, 255, 255), (128, 128, 128)]
)
def test_no_level_and_no_colour_shifts(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frames = np.empty((9, 3, 32, 48), dtype=np.uint8)
    frames[:] = np.array(colour)[:, None, None]
    assert np.abs(stored(tmp_path, frames).astype(int) - frames).max() <= 3


def test_what_is_read_is_exactly_the_formula_of_what_was_decoded() -> None:
    """Colours come from a library whose quick paths differ between processors; this one may not."""
    encoder = PictureEncoder(48, 64)
    rng = np.random.default_rng(0)
    packets = encoder.encode(rng.integers(0, 256, (3, 3, 48, 64), dtype=np.uint8)) + encoder.finish()
    out = np.empty((3, 3, 48, 64), dtype=np.uint8)
    decode_window(b"".join(packets), np.cumsum([len(packet) for packet in packets], dtype=np.int32), GOP, 0, out)
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))] + decoder.decode(None)
    for frame, found in zip(frames, out, strict=True):
        exact = exact_rgb(*(plane_of(plane) for plane in frame.planes))
        assert np.abs(found - exact).max() < 0.51


def plane_of(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def exact_rgb(luma: NDArray, chroma_u: NDArray, chroma_v: NDArray) -> NDArray[np.float64]:
    """BT.601 in full range, every chroma value for 2x2 pixels."""
    u, v = (np.kron(chroma.astype(float) - 128, np.ones((2, 2))) for chroma in (chroma_u, chroma_v))
    return np.stack([luma + 1.402 * v, luma - 0.344136 * u - 0.714136 * v, luma + 1.772 * u]).clip(0, 255)


def test_colours_are_written_by_the_same_formula() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 6, 8), dtype=np.uint8)
    weights = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    exact = np.einsum("kc,chw->khw", weights, rgb.astype(float))
    luma, *chroma = to_yuv(rgb)
    assert np.abs(luma - exact[0]).max() <= 0.51
    for found, wanted in zip(chroma, exact[1:], strict=True):
        assert np.abs(found - (wanted.reshape(3, 2, 4, 2).mean((1, 3)) + 128)).max() <= 0.51


def test_every_window_is_what_the_whole_clip_shows(tmp_path: Path) -> None:
    frames = moving(40, 32, 32)
    whole = stored(tmp_path, frames)
    clip = ShardReader(tmp_path / "a").clip(0)
    for start in range(25):
        assert np.array_equal(clip.view(start, 16), whole[start : start + 16])
    assert np.array_equal(clip.view(39, 1), whole[39:])


def test_windows_cross_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.data.shards.writer.PART_FRAMES", 15)
    frames = moving(40, 32, 32)
    whole = stored(tmp_path, frames)
    reader = ShardReader(tmp_path / "a")
    assert len(reader) == 3 and decibel(whole, frames) > 40
    for start in (0, 5, 14, 15, 24):
        assert np.array_equal(reader.clip(0, 3).view(start, 16), whole[start : start + 16])


def test_threads_decode_side_by_side(tmp_path: Path) -> None:
    whole = stored(tmp_path, moving(60, 32, 32))
    clip = ShardReader(tmp_path / "a").clip(0)
    with ThreadPoolExecutor(4) as pool:
        windows = list(pool.map(lambda start: clip.view(start, 16), [*range(44)] * 3))
    assert all(np.array_equal(window, whole[k % 44 : k % 44 + 16]) for k, window in enumerate(windows))


@pytest.mark.parametrize(("size", "most"), [((128, 256), 100_000), ((96, 96), 65_000)])
def test_noise_takes_no_more_than_it_may(tmp_path: Path, size: tuple[int, int], most: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (100, 3, *size), dtype=np.uint8)
    write_shard(tmp_path / "a", [clip_of(frames)], ShardKind.COMPACT)
    assert (tmp_path / "a").stat().st_size / 4 < most


def test_the_chunks_leave_no_trace_and_copying_gives_the_same_bytes(tmp_path: Path) -> None:
    clips = [clip_of(moving(30, 32, 32), "a"), clip_of(moving(20, 32, 32), "b")]
    write_shard(tmp_path / "whole", clips, ShardKind.COMPACT)
    with (tmp_path / "chunks").open("wb") as file, ShardWriter(file, ShardKind.COMPACT, "prep") as shard:
        for clip in clips:
            with shard.add_clip(clip.clip_id) as writer:
                writer.mel(clip.mel)
                for start in range(0, len(clip.frames), 7):
                    writer.frames(clip.frames[start : start + 7])
    with (tmp_path / "copied").open("wb") as file, ShardWriter(file, ShardKind.COMPACT, "prep") as shard:
        for number, clip in enumerate(clips):
            write_shard(tmp_path / f"{number}", [clip], ShardKind.COMPACT)
            shard.copy_clip(ShardReader(tmp_path / f"{number}"), 0, 1)
    whole = (tmp_path / "whole").read_bytes()
    assert (tmp_path / "chunks").read_bytes() == whole and (tmp_path / "copied").read_bytes() == whole


def test_a_raw_shard_is_made_of_a_compact_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.data.shards.writer.PART_FRAMES", 25)
    clips = [clip_of(moving(60, 32, 32), "a"), clip_of(moving(20, 32, 32), "b")]
    write_shard(tmp_path / "compact", clips, ShardKind.COMPACT)
    compact = ShardReader(tmp_path / "compact")
    with (tmp_path / "raw").open("wb") as file:
        write_raw(compact, file)
    raw = ShardReader(tmp_path / "raw")
    assert (raw.kind, raw.preparation, list(raw.clips())) == (ShardKind.RAW, "prep", [(0, 3), (3, 1)])
    for row, rows in compact.clips():
        one, other = compact.clip(row, rows), raw.clip(row, rows)
        assert one.clip_id == other.clip_id and np.array_equal(one.mel, other.mel)
        assert np.array_equal(one.view(0, one.num_frames), other.view(0, other.num_frames))
    assert 0 <= raw_size(compact) - (tmp_path / "raw").stat().st_size < 20_000


def test_damaged_packets_are_noticed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", [clip_of(moving(30, 32, 32))], ShardKind.COMPACT)
    content = (tmp_path / "a").read_bytes()
    packets = ShardReader(tmp_path / "a").part(0, 0).frames.to_pybytes()
    (tmp_path / "a").write_bytes(content.replace(packets, bytes(len(packets))))
    clip = ShardReader(tmp_path / "a").clip(0)
    with pytest.raises(DataError, match="a is damaged"):
        clip.view(8, 16)
    (tmp_path / "a").write_bytes(content)  # the thread's decoder is as good as new
    assert decibel(ShardReader(tmp_path / "a").clip(0).view(8, 16), moving(30, 32, 32)[8:24]) > 40


def test_the_packets_are_readable_with_plain_tools(tmp_path: Path) -> None:
    whole = stored(tmp_path, moving(20, 32, 32))
    content = pa.ipc.open_file(pa.memory_map(str(tmp_path / "a"))).get_batch(0).column("frames").to_pylist()[0]
    with av.open(io.BytesIO(content), format="h264") as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 20 and {frame.color_range for frame in frames} == {2}
    assert decibel(frames[7].to_ndarray(format="rgb24").transpose(2, 0, 1), whole[7]) > 35
