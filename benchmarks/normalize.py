"""How much does normalizing cost beyond what cannot be avoided?

The file: LatentSync's 16_pixel_attn at full width, weights only (401 M parameters, 1.6 GB), made here. The floor: the
same file read once, its sha256 taken and written once, flushed to disk, in one loop. Measured are `normalize`, the wall
time against the floor and the memory beyond the imported program; `inspect`, against `normalize`; and, for comparison,
the usual way (torch.load, a model built and filled, torch.save). Every measurement is a process of its own, and the
file is dropped from the page cache before each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

CHUNK = 1 << 23
LAYOUTS = {"full": "configs/latentsync_16_pixel_attn.yaml", "quick": "configs/latentsync_25_pixel.yaml"}


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the size, once")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many runs is told")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # what, file, folder: in a process of its own
    options = parser.parse_args()
    if options.measure:
        what, file, folder = options.measure
        print(json.dumps(MEASUREMENTS[what](Path(file), Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights_only.pt"
        run("make_quick" if options.quick else "make", file, Path(folder))
        repeats = 1 if options.quick else options.repeats
        results = [
            {what: run(what, file, Path(folder)) for what in ("floor", "normalize", "inspect", "usual")}
            for _ in range(repeats)
        ]
        report(file.stat().st_size, results)


def run(what: str, file: Path, folder: Path) -> dict[str, float]:
    """One measurement in a process of its own, with a folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, __file__, "--measure", what, str(file), out]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def make(file: Path, _: Path, layout: str = "full") -> dict[str, float]:
    """A weights-only file with random weights."""
    import torch

    from orchestrator.config import load_config
    from orchestrator.models import build_meta

    config = load_config(LAYOUTS[layout]).model
    torch.manual_seed(0)
    weights = {name: torch.randn(tensor.shape) * 0.02 for name, tensor in build_meta(config).state_dict().items()}
    torch.save({"state_dict": weights}, file)
    return {}


def floor(file: Path, out: Path) -> dict[str, float]:
    """Read once, digest once, write once."""
    digest = hashlib.sha256()
    start = time.perf_counter()
    with file.open("rb", buffering=0) as source, (out / "copy").open("wb", buffering=0) as copy:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        os.fsync(copy.fileno())
    return {"seconds": time.perf_counter() - start}


def normalized(file: Path, out: Path) -> dict[str, float]:
    """The verb itself."""
    from orchestrator.checkpoint import normalize

    return timed(lambda: normalize(file, out / "states"))


def inspected(file: Path, _: Path) -> dict[str, float]:
    """What a person does first."""
    from orchestrator.checkpoint import inspect

    return timed(lambda: inspect(file))


def usual(file: Path, out: Path) -> dict[str, float]:
    """Load everything, build the model, fill it, save everything."""
    import torch

    from orchestrator.checkpoint import inspect
    from orchestrator.models import build_model

    config = inspect(file).model

    def load_and_save() -> None:
        model = build_model(config)
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["state_dict"])
        torch.save({"state_dict": model.state_dict(), "global_step": 0}, out / "copy.pt")

    return timed(load_and_save)


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Wall seconds, and the peak of resident memory beyond what the imported program had."""
    before = resident()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "gigabytes": (peak - before) / 1e9}


def resident() -> int:
    """Bytes of this process in memory now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def forget(file: Path) -> None:
    """Drop a file from the page cache."""
    with file.open("rb") as handle:
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(measure: Callable[[Path, Path], dict[str, float]]) -> Callable[[Path, Path], dict[str, float]]:
    """The same, with the file read from disk."""

    def measured(file: Path, out: Path) -> dict[str, float]:
        forget(file)
        return measure(file, out)

    return measured


MEASUREMENTS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "make": make,
    "make_quick": lambda file, out: make(file, out, "quick"),
    "floor": cold(floor),
    "normalize": cold(normalized),
    "inspect": cold(inspected),
    "usual": cold(usual),
}


def report(size: int, results: list[dict[str, dict[str, float]]]) -> None:
    """Medians as a table and as JSON."""
    seconds = {what: statistics.median(result[what]["seconds"] for result in results) for what in results[0]}
    memory = {
        what: max(result[what].get("gigabytes", 0.0) for result in results) for what in results[0] if what != "floor"
    }
    table = Table(title=f"{size / 1e9:.2f} GB of weights, {len(results)} runs, cold")
    for column in ("what", "seconds", "against the floor", "memory beyond the program"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, taken in seconds.items():
        extra = f"{memory[what]:.2f} GB" if what in memory else ""
        table.add_row(what, f"{taken:.2f}", f"{taken / seconds['floor']:.2f}", extra)
    Console(width=110).print(table)
    ratio = {
        "normalize/floor": round(seconds["normalize"] / seconds["floor"], 3),
        "inspect/normalize": round(seconds["inspect"] / seconds["normalize"], 4),
        "usual/normalize": round(seconds["usual"] / seconds["normalize"], 2),
    }
    gigabytes = {what: round(value, 3) for what, value in memory.items()}
    print(json.dumps({"benchmark": "normalize", "ratio": ratio, "gigabytes": gigabytes}))


if __name__ == "__main__":
    main()
