"""Several checkpoints on the same pairs: how good each is, what it has over the others, and which one to use. Pure.

Contract: networks are compared pair by pair and clip by clip, so that what makes a clip hard for all cancels, and whole
speakers are drawn anew for every interval (see `training.comparison`). Gains over the reference, which is named before
anything is known, are tried at 1 - 0.05 / (m - 1) for m checkpoints; the best is the best of what was seen, so that its
gains over the others are tried as if all pairs of checkpoints were (Bonferroni). "Better" means that such an interval
lies above 0; whatever does not is a tie, and of a tie the smallest network is to be used.

Networks that read windows of other lengths look at the same moments: the list is that of the longest window, and a
shorter one reads the middle of it (`paired.centred`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.errors import DataError
from orchestrator.evaluation.paired import OFFSETS, Entry, Told
from orchestrator.training.comparison import Estimate, Metric
from orchestrator.training.evaluation import PairList
from orchestrator.training.intervals import CONFIDENCE
from orchestrator.training.metrics import score

TITLES = {"val/auc": "AUC", "val/accuracy": "accuracy", "val/loss": "loss", OFFSETS: "offset accuracy"}
_CHANCE = 0.5


@dataclass(frozen=True)
class Standing:
    """How a checkpoint stands among the others."""

    name: str
    checkpoint: str
    parameters: int
    num_frames: int
    figures: dict[str, Estimate]
    """Of `METRICS`, and of `OFFSETS` where offsets were looked for, with 95% intervals."""
    over_reference: dict[str, Estimate]
    """What it has over the reference, higher is better for all figures; all 0 for the reference itself."""
    behind_best: Estimate
    """What the best has over it, in the figure that counts; 0 for the best itself."""
    tied: bool
    """Whether it cannot be told apart from the best; so cannot the best from itself."""


@dataclass(frozen=True)
class Comparison:
    """Several checkpoints on the same pairs."""

    corpus: str
    split: str
    pairs: int
    """Balanced pairs judged."""
    pairs_hash: str
    """Comparisons are comparable only where this agrees."""
    metric: Metric
    """The figure that counts."""
    clusters: str
    """What was drawn anew for the intervals: `speaker`, or `clip` where there is but one speaker."""
    reference: str
    """The name of the one that the others are compared with."""
    best: str
    """The name of the one with the best figure."""
    use: str | None
    """The name of the one to use; none where not one tells pairs apart."""
    advice: str
    """Which one to use and why, in a sentence."""
    standings: tuple[Standing, ...]
    """Best first."""
    notes: tuple[str, ...] = ()
    """What a person should know before believing it."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data; intervals are {value, low, high}."""
        plain = asdict(self)
        for standing, into in zip(self.standings, plain["standings"], strict=True):
            for part in ("figures", "over_reference"):
                into[part] = {name: found._asdict() for name, found in getattr(standing, part).items()}
            into["behind_best"] = standing.behind_best._asdict()
        return plain


def compare(
    entries: Sequence[Entry],
    pair_list: PairList,
    *,
    metric: Metric = "val/auc",
    reference: str | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare checkpoints.

    Args:
        entries: at least two, with different names.
        pair_list: the pairs that all of them judged.
        metric: the figure that counts.
        reference: the name of the one to compare with; the first, if none is named.
        notes: what a person should know.

    Raises:
        DataError: `too_few`, `other_pairs` when one judged another list, `no_reference`.
    """
    reference = reference if reference is not None else (entries[0].name if entries else "")
    _check(entries, pair_list, reference)
    told = Told.of(pair_list)
    figures = {entry.name: told.figures(entry) for entry in entries}
    ranked = sorted(entries, key=lambda entry: -score(metric, figures[entry.name][metric].value))
    (base,) = [entry for entry in entries if entry.name == reference]
    count = len(entries)
    over, seen = 1 - (1 - CONFIDENCE) / (count - 1), 1 - (1 - CONFIDENCE) / (count * (count - 1) / 2)
    standings = []
    for entry in ranked:
        behind = told.gain(metric, entry, ranked[0], seen)
        gains = {name: told.gain(name, base, entry, over) for name in figures[entry.name] if name in figures[reference]}
        standings.append(
            Standing(
                entry.name,
                entry.checkpoint,
                entry.parameters,
                entry.num_frames,
                figures[entry.name],
                gains,
                behind,
                behind.low <= 0,
            )
        )
    use, advice = _advice(standings, [entry.name for entry in entries], metric, len(pair_list.pairs))
    lengths = sorted({entry.num_frames for entry in entries})
    mixed = f"windows have {', '.join(map(str, lengths))} frames: shorter ones read the middle of the longest"
    return Comparison(
        corpus=pair_list.clips.corpus.name,
        split=pair_list.clips.name,
        pairs=len(pair_list.pairs),
        pairs_hash=pair_list.hash,
        metric=metric,
        clusters=told.by,
        reference=reference,
        best=ranked[0].name,
        use=use,
        advice=advice,
        standings=tuple(standings),
        notes=(*notes, *([mixed] if len(lengths) > 1 else [])),
    )


def _advice(standings: Sequence[Standing], given: Sequence[str], metric: Metric, pairs: int) -> tuple[str | None, str]:
    """Which one to use, and why."""
    best, title = standings[0], TITLES[metric]
    own = best.figures[metric]
    level = best.figures["val/auc" if metric == "val/loss" else metric]
    if level.low <= _CHANCE:
        return None, f"none of them tells pairs in sync from others: the best, {best.name}, is at chance"
    tied = [standing for standing in standings if standing.tied]
    if len(tied) == 1:
        after = min(standings[1:], key=lambda standing: standing.behind_best.low)
        gain = after.behind_best
        why = f"its {title}, {own.value:.3f}, is better than that of every other"
        return best.name, f"use {best.name}: {why}, by at least {gain.low:.3f} (over {after.name}: {gain.value:.3f})"
    names = " and ".join([", ".join(each.name for each in tied[:-1]), tied[-1].name])
    sizes = {standing.parameters for standing in tied}
    small = min(tied, key=lambda standing: (standing.parameters, given.index(standing.name)))
    which = "the smallest" if len(sizes) > 1 and 0 not in sizes else "the one that was named first"
    if which != "the smallest":
        small = min(tied, key=lambda standing: given.index(standing.name))
    why = f"{names} cannot be told apart on these {pairs} pairs"
    return small.name, f"use {small.name}: {why} ({title} {own.value:.3f} at best), and it is {which}"


def _check(entries: Sequence[Entry], pair_list: PairList, reference: str) -> None:
    if len(entries) < 2:
        raise DataError(
            f"a comparison needs at least two checkpoints, but has {len(entries)}",
            reason="too_few",
            hint="judge one alone with `orchestrator evaluate`",
        )
    for entry in entries:
        if (entry.pairs_hash, len(entry.cosines)) != (pair_list.hash, len(pair_list.pairs)):
            lists = f"the pair list {entry.pairs_hash[:12]}, and the comparison is of {pair_list.hash[:12]}"
            hint = "judge all of them on one list: `orchestrator compare --pair-list`"
            raise DataError(f"{entry.name} judged {lists}", reason="other_pairs", path=entry.checkpoint, hint=hint)
    if reference not in [entry.name for entry in entries]:
        known = ", ".join(entry.name for entry in entries)
        raise DataError(f"there is no {reference!r} among {known}", reason="no_reference", hint="name one of these")
