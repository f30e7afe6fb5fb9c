"""The A/V offset of one clip without any checkpoint: where do mouth and sound explain each other best?

How: traces of the mouth region and of the mel (`traces.py`) are compared at every whole-frame offset by how well each
predicts the other on stretches that were held out (`agreement.py`); a parabola through the peak gives fractions.
Contract: the same arrays give the same estimate; nothing raises on a bad clip, which has confidence 0 and a reason.
How sure: the confidence is calibrated on drawn heads (`benchmarks/offset_estimate.py` fits and shows it), made harder
by grain, foreign movement, foreign voices and noise, a fifth of them with somebody else's sound. On other material it
is an order, not a chance: a few real sentences of 3 s that were looked at fitted it, but they are few. What is found
in one clip is weak evidence; the same offset in many clips of a source is strong.
"""

# T frames, C channels, H W pixels, M mel bins, L mel columns, O offsets, R rows (ways to measure)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import N_MELS
from orchestrator.errors import DataError
from orchestrator.evaluation.agreement import BLOCKS, agreement
from orchestrator.evaluation.signs import blocks_are_static, is_silent, is_steady
from orchestrator.evaluation.traces import COLUMNS_PER_FRAME, Floats, mouth_blocks, mouth_traces, sound_traces

_LEAST_OFFSET = 5
_NEAR = 2
"""Whole frames around the peak that belong to it."""
_SPEECH_FRAMES = 12
_LEAD = 25
"""Frames before the first and after the last word that are looked at."""
_WEIGHTS = (0.52, 1.51, 1.92)
_BIAS = -5.21
_UNSURE = 0.5


@dataclass(frozen=True, eq=False)
class Estimate:
    """What one clip says about its A/V offset."""

    offset_frames: float
    """How many frames the sound comes later than the picture: picture time t is heard at t + offset. 0 if unknown."""
    confidence: float
    """Chance that this is within one frame of the truth, 0 to 1; calibrated on drawn heads, elsewhere an order."""
    curve: Floats
    """`(2 * max_offset + 1,)`: agreement at whole frames from -max_offset on, about a correlation; 0 if unknown."""
    reason: str
    """Why the confidence is low: `too_short`, `static_mouth`, `silent`, `steady_sound` (noise or hum), `little_speech`,
    `at_edge` (the best offset is the last one looked at), `ambiguous` (no offset stands out), or empty."""


def estimate_offset(
    frames_TCHW: NDArray[np.generic],
    mel_ML: NDArray[np.floating],
    *,
    max_offset: int = 15,
    speech_T: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Estimate how many frames later the sound of a clip comes than its picture.

    Args:
        frames_TCHW: as a prepared corpus stores them: uint8 pictures, aligned, lower halves or whole faces; latents
            work, with less confidence. At least `max_offset + 24` frames; 3 s and more are better.
        mel_ML: `log_mel` of the sound of these frames, `(80, >= 3.2 * T)`.
        max_offset: the largest offset looked for, in frames.
        speech_T: in which frames somebody speaks, if it is known: long pauses at both ends are then left out.

    Raises:
        DataError: `bad_frames` or `bad_mel`: arrays of another shape, or with values that are no numbers.
        ValueError: `max_offset` is below 5.
    """
    _check(frames_TCHW, mel_ML, max_offset)
    first, end = _spoken(len(frames_TCHW), speech_T)
    if end - first < max_offset + BLOCKS:
        return _unknown("too_short" if len(frames_TCHW) < max_offset + BLOCKS else "little_speech", max_offset)
    blocks_TD = mouth_blocks(frames_TCHW[first:end])
    reason = _hopeless(blocks_TD, mel_ML)
    if reason:
        return _unknown(reason, max_offset)
    offsets = np.arange(-max_offset, max_offset + 1, dtype=np.float64)
    return _judge(agreement(mouth_traces(blocks_TD), sound_traces(mel_ML), offsets, first=first), end - first)


def evidence(rows_RO: Floats, frames: int) -> Floats:
    """What speaks for the peak of the mean curve, `(3,)`.

    Its lead over the best of the other offsets, in standard deviations of these; its height, in those of a correlation
    of so many independent frames; and the share of the rows whose own peak is at the same place.
    """
    curve_O = rows_RO.mean(axis=0)
    best = int(curve_O.argmax())
    others = curve_O[np.abs(np.arange(len(curve_O)) - best) > _NEAR]
    lead = (curve_O[best] - others.max()) / max(float(others.std()), 1e-6)
    agreeing = (np.abs(rows_RO.argmax(axis=1) - best) <= 1).mean()
    return np.array([lead, curve_O[best] * np.sqrt(frames), agreeing])


def _check(frames_TCHW: NDArray[np.generic], mel_ML: NDArray[np.floating], max_offset: int) -> None:
    if max_offset < _LEAST_OFFSET:
        raise ValueError(f"`max_offset` must be at least {_LEAST_OFFSET}, but is {max_offset}")
    if frames_TCHW.ndim != 4 or 0 in frames_TCHW.shape[1:]:
        raise DataError(f"frames must be (T, C, H, W), but are {frames_TCHW.shape}", reason="bad_frames")
    needed = int(COLUMNS_PER_FRAME * len(frames_TCHW))
    if mel_ML.ndim != 2 or len(mel_ML) != N_MELS or mel_ML.shape[1] < needed:
        message = f"the mel of {len(frames_TCHW)} frames must be ({N_MELS}, >= {needed}), but is {mel_ML.shape}"
        raise DataError(message, reason="bad_mel")
    if not np.isfinite(mel_ML).all():
        raise DataError("the mel holds values that are not finite numbers", reason="bad_mel")


def _spoken(frames: int, speech_T: NDArray[np.bool_] | None) -> tuple[int, int]:
    """The frames to look at, [first, end): all, or from a second before the first word to a second after the last."""
    if speech_T is None:
        return 0, frames
    spoken = np.flatnonzero(speech_T[:frames])
    if len(spoken) < _SPEECH_FRAMES:
        return 0, 0
    return max(int(spoken[0]) - _LEAD, 0), min(int(spoken[-1]) + 1 + _LEAD, frames)


def _hopeless(blocks_TD: Floats, mel_ML: NDArray[np.floating]) -> str:
    """Why no offset can be found at all, or empty."""
    if blocks_are_static(blocks_TD):
        return "static_mouth"
    if is_silent(mel_ML):
        return "silent"
    return "steady_sound" if is_steady(mel_ML) else ""


def _unknown(reason: str, max_offset: int) -> Estimate:
    return Estimate(0.0, 0.0, np.zeros(2 * max_offset + 1), reason)


def _judge(rows_RO: Floats, frames: int) -> Estimate:
    """The peak of the mean curve, and how sure it is."""
    curve_O = rows_RO.mean(axis=0)
    best = int(curve_O.argmax())
    whole = best - len(curve_O) // 2
    if best in (0, len(curve_O) - 1):
        return Estimate(float(whole), 0.0, curve_O, "at_edge")
    confidence = float(1 / (1 + np.exp(-(evidence(rows_RO, frames) @ _WEIGHTS + _BIAS))))
    reason = "ambiguous" if confidence < _UNSURE else ""
    return Estimate(whole + _vertex(*curve_O[best - 1 : best + 2]), confidence, curve_O, reason)


def _vertex(before: float, peak: float, after: float) -> float:
    """Where a parabola through three values, one apart, has its top: -0.5 to 0.5."""
    bend = before - 2 * peak + after
    return float((before - after) / (2 * bend)) if bend < 0 else 0.0
