"""What a verdict says in words: the figures that decided it, and the likely causes with what to do.

Promises: causes are chosen by evidence in the history, those with the strongest first; the figures of others' runs are
those whose sources `docs/chance.md` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from orchestrator.models import CHANCE_LOSS

Row = Mapping[str, float]
"""The figures of one validation: `step`, `samples`, `val/*`, and `train/*` of the steps before it."""

KNOWN_SAMPLES = 10_000_000
"""Samples after which Wav2Lip's own SyncNet left ln 2 on LRS2: 150 000 steps of 64."""
BEST_BATCH, OSCILLATING_BATCH = 1024, 256
"""What LatentSync's authors report: the best of their batches, and one at which the loss oscillates."""
SHRUNK = 0.1
"""A tower whose spread is below this share of what it was at the start is taken for one that gives up telling its input
apart. A choice: on the synthetic corpus the share stayed above 0.25 in runs that learned, and fell to 0.01 in one that
was stuck."""
OVERSHOOTS = 1.05 * CHANCE_LOSS
"""A training loss above this is worse than that of a constant answer, which every net can give."""
FALLING = 4
"""Windows in a row with a falling loss that are no luck: their order would come about once in 24 times by itself."""
_TOWERS = {"val/spread_vision": "pictures", "val/spread_audio": "sounds"}


def least_spread(row: Row) -> tuple[float, str]:
    """The smaller of the two towers' embedding spreads, and what it embeds."""
    return min((row.get(name, 1.0), what) for name, what in _TOWERS.items())


def evidence(row: Row) -> str:
    """The gap and the area under the ROC curve with their intervals."""
    gap = f"the mean cosines of both kinds are {_interval(row, 'val/gap', '+.4f')} apart"
    return f"at step {row['step']:.0f} {gap}, AUC {_interval(row, 'val/auc', '.3f')}, accuracy {_get(row, 'accuracy')}"


def collapse_evidence(row: Row) -> str:
    """Which tower gives all its windows one embedding."""
    spread, what = least_spread(row)
    return f"at step {row['step']:.0f} all {what} get the same embedding (spread {spread:.0e})"


def overfitting_evidence(row: Row, best: Row) -> str:
    """Training against validation, and validation against its own best."""
    return (
        f"at step {row['step']:.0f} the gap is {_interval(row, 'train/gap', '+.3f')} in training but "
        f"{_interval(row, 'val/gap', '+.3f')} in validation, whose AUC was {_get(best, 'auc')} at step "
        f"{best['step']:.0f} and is {_get(row, 'auc')}, at a loss of {_get(row, 'loss')}"
    )


def collapse_causes(rows: Sequence[Row]) -> Iterator[str]:
    """Why all windows of a tower look alike to it."""
    row, what = rows[-1], least_spread(rows[-1])[1]
    if row["step"] > rows[0]["step"]:
        yield _rate_too_high(row, f"training drove the {what}' embeddings together")
    else:
        yield "the starting file is damaged or was trained on other windows: `orchestrator inspect` shows what it is"
    yield f"the {what} of the corpus are all alike, black or silent: look at them with `orchestrator data show`"


def chance_causes(rows: Sequence[Row], told: Sequence[bool]) -> Iterator[str]:
    """Why pairs are not told apart.

    Args:
        rows: the validations, oldest first.
        told: of each, whether it showed that pairs are told apart.
    """
    row = rows[-1]
    if row["step"] == rows[0]["step"]:
        if row["samples"] == 0:
            yield "a fresh network knows nothing yet: train it"
        yield (
            "a pretrained file was trained on windows prepared otherwise: compare its resolution, frames and mel "
            "with the corpus's (`orchestrator inspect`, `orchestrator data summary`)"
        )
        return
    if any(told):
        last = max(step["step"] for step, was in zip(rows, told, strict=True) if was)
        yield _rate_too_high(row, f"it told pairs apart until step {last:.0f} and has lost it")
    if memorises(row):
        yield (
            f"training pairs are told apart (gap {_interval(row, 'train/gap', '+.3f')}), validation's are not: too few "
            "speakers or clips, or a val split prepared otherwise; add speakers, turn on `data.augment`"
        )
    shrunk = [what for name, what in _TOWERS.items() if row.get(name, 1.0) < SHRUNK * rows[0].get(name, 0.0)]
    if shrunk:
        name = next(name for name, what in _TOWERS.items() if what == shrunk[0])
        moved = f"{rows[0][name]:.1e} to {row[name]:.1e}"
        yield _rate_too_high(row, f"the spread of the {shrunk[0]}' embeddings fell from {moved}")
    elif len(rows) > 2 and row.get("train/loss", 0.0) > OVERSHOOTS:  # a fresh net begins there
        yield _rate_too_high(row, f"the training loss is {row['train/loss']:.3f}, worse than a constant answer's 0.693")
    elif falling := _falling(rows):
        yield (
            f"it learns, but slowly: the training loss fell from {falling[0]:.4f} to {falling[-1]:.4f} over {FALLING} "
            f"validations; wait, or raise `optim.lr`{_rate(row)} threefold"
        )
    yield from _usual(row, spread=not shrunk)


def overfitting_causes(best: Row) -> Iterator[str]:
    """Why training goes on to improve and validation does not."""
    yield (
        f"too few speakers or clips for this network: go on from step {best['step']:.0f}, the best; add speakers, turn "
        "on `data.augment`, raise `optim.weight_decay`, or let `train.patience` stop the run"
    )
    yield "training negatives that are easier than validation's (`data.negatives`) widen the training gap too"


def memorises(row: Row) -> bool:
    """Whether the gap is clearly wider in training than in validation: the intervals do not touch."""
    return row.get("train/gap_low", -2.0) > row["val/gap_high"]


def _usual(row: Row, *, spread: bool) -> Iterator[str]:
    """What is often the matter when nothing in the figures speaks for anything else."""
    samples, batch = row["samples"], row["samples"] / row["step"]
    few = (
        f"too few samples yet: {samples:,.0f} were seen, and Wav2Lip's own training on LRS2 left ln 2 after about "
        f"{KNOWN_SAMPLES:,} (it then falls suddenly); wait"
    )
    offset = (
        f"sound and picture are offset in the data: after {samples:,.0f} samples the embeddings are spread, but "
        "training and validation are at chance; measure it on a few clips and give it to `prepare` as `av_offset_s`"
    )
    if samples < KNOWN_SAMPLES:
        yield few
    elif spread and not memorises(row):
        yield offset
    if batch < BEST_BATCH:
        effect = "oscillates at 256" if batch >= OSCILLATING_BATCH else "may stay at 0.69 at 128 and fewer"
        yield (
            f"the batch is small: it is {batch:,.0f}, and LatentSync reports that {BEST_BATCH} is best and that the "
            f"loss {effect}; raise `train.global_batch`, which accumulates where memory is short"
        )
    if samples < KNOWN_SAMPLES and spread and not memorises(row):
        yield offset


def _falling(rows: Sequence[Row]) -> list[float]:
    """The latest training losses if each is below the one before."""
    losses = [row["train/loss"] for row in rows if "train/loss" in row][-FALLING:]
    falls = len(losses) == FALLING and all(later < earlier for earlier, later in pairwise(losses))
    return losses if falls else []


def _rate_too_high(row: Row, seen: str) -> str:
    return f"the learning rate is too high: {seen}; lower `optim.lr`{_rate(row)} three to ten times, or warm up longer"


def _rate(row: Row) -> str:
    return f" ({row['train/lr']:.1e})" if "train/lr" in row else ""


def _interval(row: Row, name: str, form: str) -> str:
    """A figure with its interval, as far as the row has them."""
    ends = [format(row[f"{name}_{end}"], form) for end in ("low", "high") if f"{name}_{end}" in row]
    return (format(row[name], form) if name in row else "unknown") + (f" ({' to '.join(ends)})" if ends else "")


def _get(row: Row, name: str) -> str:
    return f"{row[f'val/{name}']:.3f}" if f"val/{name}" in row else "unknown"
