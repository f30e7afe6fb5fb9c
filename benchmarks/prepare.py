"""What does preparing a long full-HD video cost, against merely decoding it, and how much memory does it take?

Baseline `decode`: PyAV decodes every frame and all of the sound of the same file on one thread, and throws them away.
`raw` and `compact`: the file is prepared into shards of each kind: frames converted, resized and cropped, the sound
resampled, mel, everything written. Each runs in a process of its own; the ratio is its seconds divided by those of the
baseline, and memory is the most that the process ever held, all imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.table import Table

WIDTH, HEIGHT, FPS, RATE = 1920, 1080, 25, 44_100
SECONDS_ENCODED = 4


def main() -> None:
    """Print the table and the line of JSON, or do one measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half a minute of video instead of ten")
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "VIDEO", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return
    seconds = 28 if options.quick else 600
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "videos" / "long.mp4"
        write_video(video, seconds)
        found = {way: in_process(way, video, Path(folder) / way) for way in ("decode", "raw", "compact")}
    report(found, seconds)


def write_video(path: Path, seconds: int) -> None:
    """A few seconds of moving noise and sound, encoded once and repeated with later timestamps."""
    path.parent.mkdir()
    piece = path.with_name("piece.mov")
    encode(piece)
    with av.open(str(piece)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        for repeat in range(seconds // SECONDS_ENCODED):
            source.seek(0)
            for packet in source.demux():
                if packet.dts is None:
                    continue
                shift = round(repeat * SECONDS_ENCODED / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        assert packets
    piece.unlink()


def encode(path: Path) -> None:
    """`SECONDS_ENCODED` of a drifting picture with grain, without reordered frames, and PCM sound."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 40, (HEIGHT + 200, WIDTH + 200, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, :, None]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "bf": "0", "crf": "26"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        for t in range(SECONDS_ENCODED * FPS):
            picture = grain[t : t + HEIGHT, 2 * t % 200 : 2 * t % 200 + WIDTH] + ramp
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, FPS)
            container.mux(video.encode(frame))
            samples = rng.integers(-8000, 8000, (1, 2 * RATE // FPS), dtype=np.int16)
            sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = RATE, t * RATE // FPS, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())


def in_process(way: str, video: Path, out: Path) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", way, str(video), str(out)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(way: str, video: str, out: str) -> None:
    """Do it and print seconds and megabytes."""
    began = time.perf_counter()
    size = 0
    if way == "decode":
        decode_only(video)
    else:
        import torch

        from orchestrator.data.prepare import PreparationConfig, prepare_local

        torch.set_num_threads(1)
        began = time.perf_counter()
        summary = prepare_local(Path(video).parent, out, PreparationConfig(storage=way))
        if summary.ok != 1:
            raise SystemExit(f"the video was not prepared: {summary.rejected}")
        size = sum(file.stat().st_size for file in Path(out).rglob("*.arrow"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": peak, "stored_mb": size / 1e6}))


def decode_only(video: str) -> None:
    """Every frame and all sound, decoded and thrown away."""
    with av.open(video) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for packet in container.demux():
            packet.decode()


def report(found: dict[str, dict[str, float]], seconds: int) -> None:
    """The table for people, the line for machines."""
    title = f"{seconds} s of {WIDTH}x{HEIGHT} at {FPS} per second"
    table = Table(
        "way", "seconds", "against decode", "times real time", "peak MB", "MB per second of video", title=title
    )
    base = found["decode"]["seconds"]
    for way, row in found.items():
        table.add_row(
            way,
            f"{row['seconds']:.1f}",
            f"{row['seconds'] / base:.2f}",
            f"{seconds / row['seconds']:.1f}",
            f"{row['peak_mb']:.0f}",
            f"{row['stored_mb'] / seconds:.3f}",
        )
    Console().print(table)
    ratio = {way: round(found[way]["seconds"] / base, 2) for way in found if way != "decode"}
    peak = {way: round(found[way]["peak_mb"]) for way in found if way != "decode"}
    print(json.dumps({"benchmark": "prepare", "ratio": ratio, "peak_mb": peak}))


if __name__ == "__main__":
    main()
