"""How often does the estimate without a checkpoint find a known A/V offset, and does it know how sure to be?

Drawn heads whose sound is shifted by -10 to 10 frames, fractions included, within one frame of the truth. Baseline
`energy`, on the same clips: the correlation of plain motion with plain loudness. `plain` are clips of 4 s as they are,
`hard` ones of 1.6 to 4 s with grain, another's face laid over, another's voice, noise, and in a fifth somebody else's
sound altogether. The weights in `orchestrator/evaluation/estimate.py` were learned as `--fit` does it, from half of the
speakers, to be judged by the others; other speakers give other weights, but hardly other confidences.
Also the time per 100 frames.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.media.decode import SAMPLES_PER_FRAME, decode_clip
from orchestrator.data.media.features import log_mel
from orchestrator.data.synthetic import make_corpus
from orchestrator.evaluation.agreement import agreement
from orchestrator.evaluation.estimate import estimate_offset, evidence
from orchestrator.evaluation.signs import mouth_motion
from orchestrator.evaluation.traces import mouth_blocks, mouth_traces, sound_traces

MAX_OFFSET, LARGEST, SECONDS = 15, 10, 5.2
MARGIN = LARGEST + 1
EDGES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)


@dataclass(frozen=True)
class Source:
    """A clip in sync."""

    frames: NDArray[np.uint8]
    wave: NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A clip out of sync."""

    frames: NDArray[np.uint8]
    mel: NDArray[np.float32]
    offset: float


def main() -> None:
    """Print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="finish within a minute")
    parser.add_argument("--fit", action="store_true", help="print the weights of the confidence, learned anew")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hard = 150 if options.quick else 700
    with tempfile.TemporaryDirectory() as folder:
        paths = make_corpus(folder, speakers=8 if options.quick else 20, clips_per_speaker=3, seconds=SECONDS, size=128)
        sources = [read(path) for path in paths]
    half = len(sources) // 2
    if options.fit:
        print_weights(list(hard_cases(sources[half:], hard, seed=1)))
    sets = {"plain": list(plain_cases(sources[:half])), "hard": list(hard_cases(sources[:half], hard, seed=2))}
    report = {name: judge(cases) for name, cases in sets.items()}
    print_tables(report)
    print(json.dumps({"benchmark": "offset_estimate", **{name: found["json"] for name, found in report.items()}}))


def read(path: Path) -> Source:
    """A drawn clip, as a corpus of low resolution would store it."""
    clip = decode_clip(path, resolution=32, lower_half=True)
    return Source(np.ascontiguousarray(clip.frames_THWC.transpose(0, 3, 1, 2)), clip.wave)


def plain_cases(sources: list[Source]) -> Iterator[Case]:
    """Every clip once, 4 s of it."""
    rng = np.random.default_rng(0)
    for source in sources:
        offset = rng.uniform(-LARGEST, LARGEST)
        yield Case(source.frames[MARGIN : MARGIN + 100], mel(shifted(source.wave, MARGIN, 100, offset)), offset)


def hard_cases(sources: list[Source], count: int, seed: int) -> Iterator[Case]:
    """Clips with all that makes it hard, each in some of them."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        one, other, third = (sources[n] for n in rng.choice(len(sources), 3, replace=False))
        length, offset = int(rng.choice([40, 50, 60, 75, 100])), rng.uniform(-LARGEST, LARGEST)
        first = int(rng.integers(MARGIN, len(one.frames) - length - MARGIN + 1))
        frames = one.frames[first : first + length].astype(np.float32)
        foreign = other.frames[first : first + length].astype(np.float32)
        frames += rng.choice([0, 1], p=[0.4, 0.6]) * rng.uniform(0, 3) * (foreign - foreign.mean(axis=0))
        frames += rng.choice([0, 1], p=[0.4, 0.6]) * rng.normal(0, rng.uniform(0, 50), frames.shape)
        wave, voice = shifted(one.wave, first, length, offset), shifted(third.wave, first, length, 0.0)
        wave = wave + rng.choice([0, 1]) * rng.uniform(0, 1.5) * voice if rng.random() > 0.2 else voice
        wave = wave + rng.choice([0, 1]) * rng.normal(0, 10 ** rng.uniform(-3.5, -1), wave.shape)
        yield Case(frames.clip(0, 255).astype(np.uint8), mel(wave), offset)


def shifted(wave: NDArray, first: int, length: int, offset: float) -> NDArray:
    """The sound of these frames, so many frames later than it should be."""
    start = first * SAMPLES_PER_FRAME - round(offset / FPS * SAMPLE_RATE)
    return wave[start : start + length * SAMPLES_PER_FRAME]


def mel(wave: NDArray) -> NDArray[np.float32]:
    """The log-mel of a wave."""
    return log_mel(torch.from_numpy(wave.astype(np.float32))).numpy()


def judge(cases: list[Case]) -> dict:
    """Hit rates of both ways, how the confidence fits, and the time."""
    began = time.perf_counter()
    estimates = [estimate_offset(case.frames, case.mel, max_offset=MAX_OFFSET) for case in cases]
    seconds = time.perf_counter() - began
    errors = np.array([e.offset_frames - c.offset for e, c in zip(estimates, cases, strict=True)])
    energy = np.array([abs(by_energy(case) - case.offset) <= 1 for case in cases])
    confidence, hits = np.array([e.confidence for e in estimates]), np.abs(errors) <= 1
    bins = [(low, high, (confidence >= low) & (confidence < high)) for low, high in pairwise(EDGES)]
    sure = confidence >= 0.8
    figures = {
        "clips": len(cases),
        "hit_rate": round(float(hits.mean()), 4),
        "energy_hit_rate": round(float(energy.mean()), 4),
        "ratio": round(float(hits.mean() / max(energy.mean(), 1e-9)), 2),
        "sure_share": round(float(sure.mean()), 4),
        "sure_hit_rate": round(float(hits[sure].mean()), 4) if sure.any() else None,
        "median_error_of_hits": round(float(np.median(np.abs(errors[hits]))), 3),
        "ms_per_100_frames": round(1e5 * seconds / sum(len(case.frames) for case in cases), 1),
    }
    table = [(a, b, int(m.sum()), float(confidence[m].mean()), float(hits[m].mean())) for a, b, m in bins if m.any()]
    return {"json": figures, "bins": table}


def by_energy(case: Case) -> int:
    """The baseline: where motion and loudness correlate best."""
    motion, loudness = mouth_motion(case.frames), case.mel.mean(axis=0)
    scores = []
    for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
        columns = (np.arange(len(motion)) + 1 + offset) * 3.2
        inside = (columns >= 0) & (columns <= len(loudness) - 1)
        heard = np.interp(columns[inside], np.arange(len(loudness)), loudness)
        scores.append(np.nan_to_num(np.corrcoef(motion[inside], heard)[0, 1]))
    return int(np.argmax(scores)) - MAX_OFFSET


def print_weights(cases: list[Case]) -> None:
    """The confidence's weights, learned from these cases."""
    from sklearn.linear_model import LogisticRegression

    offsets = np.arange(-MAX_OFFSET, MAX_OFFSET + 1, dtype=np.float64)
    rows, hits = [], []
    for case in cases:
        agreed = agreement(mouth_traces(mouth_blocks(case.frames)), sound_traces(case.mel), offsets)
        found = estimate_offset(case.frames, case.mel, max_offset=MAX_OFFSET)
        if found.reason in ("", "ambiguous"):
            rows.append(evidence(agreed, len(case.frames)))
            hits.append(abs(found.offset_frames - case.offset) <= 1)
    fit = LogisticRegression(C=1e3, max_iter=2000).fit(rows, hits)
    print("weights", fit.coef_[0].round(3), "bias", fit.intercept_.round(3), "from", len(rows), "clips")


def print_tables(report: dict[str, dict]) -> None:
    """Hit rate by confidence."""
    for name, found in report.items():
        table = Table("confidence", "clips", "mean confidence", "hit rate", title=name)
        for low, high, count, mean, rate in found["bins"]:
            table.add_row(f"{low:.2f} to {min(high, 1):.2f}", str(count), f"{mean:.2f}", f"{rate:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
