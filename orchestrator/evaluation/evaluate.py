"""An evaluation of a checkpoint on a prepared corpus: what is to be done, done clip by clip, and put together.

`plan_evaluation`, `EvaluateUnit.run` and `conclude` are the parts that a cluster distributes; `evaluate_here` runs them
in this process, with the same result. The pairs are those of training's validation (see `training.evaluation`), so that
figures compare with those of a run.
"""

# N pairs, C clips

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.data.corpus import CorpusSplit
from orchestrator.data.work import ClipDone, ClipStarted, Message
from orchestrator.errors import DataError
from orchestrator.evaluation.clips import ClipReport, Pair, judge_clip
from orchestrator.evaluation.elsewhere import sound_of, spread
from orchestrator.evaluation.figures import Figure, curves, offset_figures, pair_figures
from orchestrator.evaluation.material import of_corpus
from orchestrator.evaluation.results import Evaluation
from orchestrator.evaluation.towers import Towers
from orchestrator.training.chance import judge
from orchestrator.training.evaluation import PairList
from orchestrator.training.metrics import pair_metrics, spread_of

GROUPS = ("speaker", "language", "tag")
"""Columns of the manifest by which figures are told apart."""
_LEAST_PAIRS = 8
"""Fewer pairs of a group say nothing."""


@dataclass(frozen=True)
class ClipJudged(ClipDone):
    """A clip that was judged."""

    report: ClipReport | None = None
    """None when it could not be."""


@dataclass(frozen=True)
class Request:
    """What is asked of every clip."""

    stride: int = 1
    """Frames from one window of the picture to the next, for offsets."""
    offsets: bool = True
    """Whether to look for offsets; pairs alone are faster."""
    batch: int = 64
    """Windows that go through a tower at once."""


@dataclass(frozen=True)
class EvaluateUnit:
    """Some clips to judge, in any process that sees the corpus."""

    clips: CorpusSplit
    """The split."""
    places: tuple[int, ...]
    """Which of its clips."""
    pairs: tuple[tuple[Pair, ...], ...]
    """The pairs of each."""
    towers: Callable[[], Towers]
    """Gives the network."""
    request: Request
    """What is asked."""
    given_up: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Clips to leave aside: id -> reason and detail."""
    elsewhere: tuple[int, ...] = ()
    """Clips of the split whose sounds show how well a picture fits any sound; the same in all units."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The clips' ids."""
        return tuple(self.clips.clips[place].clip_id for place in self.places)

    def without(self, source: str, reason: str, detail: str) -> EvaluateUnit:
        """The same unit, which leaves a clip aside."""
        given_up = {**self.given_up, source: (reason, detail)}
        return replace(self, given_up=given_up)

    def run(self) -> Iterator[Message]:
        """Judge the clips.

        Raises:
            OrchestratorError: the network or the storage fails; no clip is to blame.
        """
        towers = self.towers()
        sounds = {
            place: sound_of(towers, self.clips.clips[place].clip_id, partial(of_corpus, self.clips, place))
            for place in self.elsewhere
        }
        for place, pairs in zip(self.places, self.pairs, strict=True):
            row = self.clips.clips[place]
            yield ClipStarted(row.clip_id)
            if row.clip_id in self.given_up:
                yield ClipJudged(row.clip_id, *self.given_up[row.clip_id])
                continue
            asked = self.request
            clip = of_corpus(self.clips, place)
            others = [sound for other, sound in sounds.items() if other != place]
            report = judge_clip(
                towers, clip, place, pairs, stride=asked.stride, offsets=asked.offsets, elsewhere=others
            )
            yield ClipJudged(row.clip_id, seconds=row.duration_s, report=report)


@dataclass(frozen=True)
class Plan:
    """What an evaluation has to do."""

    pair_list: PairList
    """The pairs."""
    of_clip: dict[int, tuple[int, ...]]
    """Clip -> places of its pairs in the list."""

    def units(self, towers: Callable[[], Towers], request: Request, count: int) -> list[EvaluateUnit]:
        """The work in `count` parts, or as many as there are clips."""
        clips, pairs = self.pair_list.clips, self.pair_list.pairs
        places = range(len(clips.clips)) if request.offsets else sorted(self.of_clip)
        elsewhere = spread(range(len(clips.clips))) if request.offsets else ()
        found = []
        for part in np.array_split(np.array(places), max(1, min(count, len(places)))):
            own = tuple(int(place) for place in part)
            asked = tuple(
                tuple(Pair(pairs[n].frame_start, pairs[n].audio_start) for n in self.of_clip.get(place, ()))
                for place in own
            )
            found.append(EvaluateUnit(clips, own, asked, towers, request, elsewhere=elsewhere))
        return found


def plan_evaluation(pairs: PairList) -> Plan:
    """The work behind a pair list."""
    of_clip: dict[int, list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs.pairs):
        of_clip[pair.clip].append(number)
    return Plan(pairs, {clip: tuple(numbers) for clip, numbers in of_clip.items()})


def conclude(
    plan: Plan, reports: Sequence[ClipReport], checkpoint: str, *, step: int = 0, notes: Sequence[str] = ()
) -> Evaluation:
    """Put the clips' reports together.

    Args:
        plan: what was asked.
        reports: of all clips that could be judged, in any order.
        checkpoint: its name.
        step: optimizer steps that it has taken, where that is known.
        notes: what a person should know.

    Raises:
        DataError: `not_judged` when a clip with pairs is missing.
        RunError: as `pair_metrics`.
    """
    reports, clips = sorted(reports, key=lambda report: report.clip), plan.pair_list.clips
    rows = tuple(clips.clips[report.clip] for report in reports)
    cosines, labels = cosines_of(plan, reports), np.array([pair.label for pair in plan.pair_list.pairs], np.int8)
    of_pair = [pair.clip for pair in plan.pair_list.pairs]
    by = "speaker" if len({clips.clips[clip].speaker for clip in of_pair}) > 1 else "clip"
    who = np.array([row.speaker if by == "speaker" else row.clip_id for row in clips.clips])
    metrics = pair_metrics(torch.from_numpy(cosines), torch.from_numpy(labels)) | _spreads(reports)
    threshold = metrics["best_threshold"]
    figures = pair_figures(cosines, labels, who[of_pair], threshold)
    figures += offset_figures(reports, who[[report.clip for report in reports]])
    return Evaluation(
        checkpoint=checkpoint,
        corpus=clips.corpus.name,
        split=clips.name,
        num_frames=plan.pair_list.num_frames,
        pairs_hash=plan.pair_list.hash,
        pairs=len(labels),
        figures=tuple(figures),
        groups=_groups(plan, reports, cosines, labels, threshold),
        clips=tuple(reports),
        rows=rows,
        metrics=metrics,
        verdict=judge([{"step": step, "samples": 0, **{f"val/{name}": value for name, value in metrics.items()}}]),
        curves=curves(cosines, labels),
        cosines=tuple(cosines.tolist()),
        clusters=by,
        notes=tuple(notes),
    )


def evaluate_here(
    plan: Plan,
    towers: Towers,
    checkpoint: str,
    request: Request | None = None,
    on_done: Callable[[ClipDone], None] = lambda _: None,
    *,
    step: int = 0,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Do all of it in this process.

    Raises:
        OrchestratorError: as `EvaluateUnit.run` and `conclude`.
    """
    reports = reports_here(plan, towers, request, on_done)
    return conclude(plan, reports, checkpoint, step=step, notes=notes)


def reports_here(
    plan: Plan,
    towers: Towers,
    request: Request | None = None,
    on_done: Callable[[ClipDone], None] = lambda _: None,
) -> list[ClipReport]:
    """Judge all clips in this process, without putting anything together.

    Raises:
        OrchestratorError: as `EvaluateUnit.run`.
    """
    reports = []
    for unit in plan.units(lambda: towers, request or Request(), 1):
        for message in unit.run():
            if isinstance(message, ClipJudged):
                on_done(message)
                reports += [message.report] if message.report else []
    return reports


def cosines_of(plan: Plan, reports: Sequence[ClipReport]) -> NDArray[np.float32]:
    """(N,) cosines of the pairs, in the order of the list.

    Raises:
        DataError: `not_judged` when a clip with pairs is missing.
    """
    cosines = np.full(len(plan.pair_list.pairs), np.nan, np.float32)
    for report in reports:
        cosines[list(plan.of_clip.get(report.clip, ()))] = report.cosines
    if np.isnan(cosines).any():
        absent = {plan.pair_list.pairs[place].clip for place in np.flatnonzero(np.isnan(cosines)).tolist()}
        what = f"{len(absent)} clips could not be judged, the first is {plan.pair_list.clips.clip_ids[min(absent)]}"
        raise DataError(what, reason="not_judged", hint="prepare the corpus again without them, or see Ray's logs")
    return cosines


def _spreads(reports: Sequence[ClipReport]) -> dict[str, float]:
    sums = torch.tensor([report.directions for report in reports if report.directions], dtype=torch.float64).sum(0)
    return {"spread_vision": spread_of(sums[0]), "spread_audio": spread_of(sums[1])}


def _groups(
    plan: Plan,
    reports: Sequence[ClipReport],
    cosines: NDArray[np.float32],
    labels: NDArray[np.int8],
    threshold: float,
) -> dict[str, dict[str, tuple[Figure, ...]]]:
    """The figures by speaker, language and source tag, wherever there is more than one."""
    clips = plan.pair_list.clips.clips
    found: dict[str, dict[str, tuple[Figure, ...]]] = {}
    of_pair = np.array([pair.clip for pair in plan.pair_list.pairs])
    for column in GROUPS:
        values = np.array([str(getattr(row, column)) for row in clips])
        drawn = np.array([row.clip_id if column == "speaker" else row.speaker for row in clips])
        for value in sorted(set(values.tolist())) if len(set(values)) > 1 else ():
            mine = np.flatnonzero(values[of_pair] == value)
            if len(mine) < _LEAST_PAIRS or len(set(labels[mine].tolist())) < 2:
                continue
            own = [report for report in reports if values[report.clip] == value]
            told = pair_figures(cosines[mine], labels[mine], drawn[of_pair[mine]], threshold)
            told += offset_figures(own, drawn[[report.clip for report in own]])
            found.setdefault(column, {})[value or "(not said)"] = tuple(told)
    return found
