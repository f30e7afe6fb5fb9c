"""Does auditing a broken corpus and training again get back what the broken corpus cost?

The corpus: the demo's drawn heads, with the sound of 40% of the training clips really shifted by up to 10 frames,
fractions included; held-out speakers stay in sync. Four trainings from scratch, alike but for the corpus: broken,
repaired by an audit with the network that was trained on the broken one, repaired by the estimate that needs no
network, and never broken. All are judged on the held-out speakers. What the audits found is compared with the truth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from _repair_data import break_corpus, copy_corpus
from rich.console import Console
from rich.table import Table

from orchestrator.config import load_config
from orchestrator.config.media import FPS
from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.synthetic import make_corpus
from orchestrator.evaluation.audit import Audit, AuditStatus
from orchestrator.runtime.audit import Record, audit
from orchestrator.runtime.evaluate import evaluate
from orchestrator.runtime.train import train

SHARE, REACH = 0.4, 10.0
QUICK = {"speakers": 4, "clips_per_speaker": 2, "seconds": 3.0, "size": 64}


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small corpus and 10 steps: it runs, and shows nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of the shifts and of the trainings")
    parser.add_argument("--folder", type=Path, help="keep everything here; what is there is not made again")
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        results = [measure(folder, seed, quick=options.quick) for seed in options.seeds]
    report(results)


def measure(folder: Path, seed: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """The figures of one seed: what -> figure -> value."""
    recipe = yaml.safe_load(files("orchestrator").joinpath("demo.yaml").read_text(encoding="utf-8"))
    settings = PreparationConfig(**recipe["prepare"])
    drawn = QUICK if quick else {key: value for key, value in recipe["corpus"].items() if key != "workers"}
    make_corpus(folder / "videos", **drawn)
    clean, broken = folder / "clean", folder / f"broken-{seed}"
    prepare_local(folder / "videos", clean, settings)
    truth = break_corpus(folder / "videos", clean, broken, settings, share=SHARE, reach=REACH, seed=seed)

    def trained(corpus: Path, name: str) -> tuple[str, dict[str, float]]:
        return fit(recipe, corpus, clean, folder / "runs", f"{name}-{seed}", seed, quick=quick)

    checkpoint, before = trained(broken / "corpus", "broken")
    found = {"broken": before}
    for name, judge in (("repaired by its network", checkpoint), ("repaired by the estimate", None)):
        corpus = copy_corpus(broken / "corpus", folder / f"{name.split()[-1]}-{seed}")
        told = audit(corpus, judge, write=True, record=Record(storage=str(folder / "runs"))).audit
        found[name] = hits(told, truth) | trained(corpus, name.split()[-1])[1]
    return {**found, "never broken": trained(clean, "clean")[1]}


def fit(
    recipe: Mapping[str, Any], corpus: Path, clean: Path, runs: Path, name: str, seed: int, *, quick: bool
) -> tuple[str, dict[str, float]]:
    """Train from scratch in this process; the best checkpoint, and its figures on the held-out speakers."""
    section = recipe["train"]
    steps = {"steps": 10, "log_every": 5} if quick else {}
    pairs = {"eval": {"every": 5, "pairs": 32}, "optim": {"lr": 3.0e-4}} if quick else {}
    changes = pairs | {
        "train": {**section["train"], **steps, "seed": seed},
        "scale": {"num_workers": 0, "use_gpu": False},
    }
    base = {"model": recipe["model"], "data": {"path": str(corpus)}, "storage": str(runs)}
    result = train(load_config({**base, **section, **changes}), name)
    figures = evaluate(result.best_checkpoint, clean, offsets=False).metrics
    return str(result.best_checkpoint), {name: figures[name] for name in ("accuracy", "auc")}


def hits(found: Audit, truth: Mapping[str, float]) -> dict[str, float]:
    """What an audit found of the training clips, against the truth."""
    clips = [clip for clip in found.clips if clip.source in truth]
    shifted = [clip for clip in clips if truth[clip.source]]
    moved = [clip for clip in clips if clip.av_offset_s != clip.before_s]
    errors = {clip.clip_id: abs(clip.av_offset_s - truth[clip.source]) * FPS for clip in clips}
    good = [clip for clip in shifted if errors[clip.clip_id] <= 1]
    false = [clip for clip in moved if errors[clip.clip_id] > 1]
    rejected = [clip for clip in clips if clip.status in (AuditStatus.WRONG_AUDIO, AuditStatus.AT_EDGE)]
    return {
        "put right": len(good) / max(len(shifted), 1),
        "moved wrongly": len(false) / max(len(clips), 1),
        "rejected": len(rejected) / max(len(clips), 1),
    }


def report(results: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    """Means over the seeds as a table, all of it as JSON."""
    names = ("accuracy", "auc", "put right", "moved wrongly", "rejected")
    table = Table("training corpus", *names, title=f"held-out speakers, {len(results)} seeds", box=None)
    for what in results[0]:
        means = [[result[what][name] for result in results if name in result[what]] for name in names]
        table.add_row(what, *(f"{sum(values) / len(values):.3f}" if values else "" for values in means))
    Console(width=110).print(table)
    plain = [{what: {k: round(v, 4) for k, v in told.items()} for what, told in result.items()} for result in results]
    print(json.dumps({"benchmark": "repair", "share": SHARE, "reach_frames": REACH, "results": plain}))


if __name__ == "__main__":
    main()
