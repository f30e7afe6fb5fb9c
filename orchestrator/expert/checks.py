"""What is checked beyond shapes: an expert's arguments, and a look at the values that somebody's training hands over.

Contract: one wait for the device per look. What is no number is an error; what probably has another range is a doubt.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from orchestrator.config.model import AnyModelConfig, training_problem
from orchestrator.errors import CheckpointError, ConfigError, DataError, RefusalReason

Check = Literal["first", "always", "never"]
"""How often values are looked at, for which a GPU is waited for."""

_SHARE = 0.01
"""More than this share of values outside is no overshoot of a decoder."""
_MARGIN = 0.05
"""How far beyond the range, in widths of it, a value counts as outside."""


def check_arguments(
    config: AnyModelConfig, dtype: torch.dtype | None, pixel_range: tuple[float, float], check: str
) -> None:
    """Refuse what no expert can be made of.

    Raises:
        CheckpointError: `unsupported`, the network reads other features than mel.
        ConfigError: an argument is wrong.
    """
    problem = training_problem(config)
    if problem:
        hint = "docs/models.md lists the networks that read mel"
        message = f"an expert must read 80-bin mel, but {problem}"
        raise CheckpointError(message, reason=RefusalReason.UNSUPPORTED, hint=hint)
    problems = []
    if dtype is not None and not dtype.is_floating_point:
        problems.append(f"`dtype` must be a floating-point type, but is {dtype}")
    if len(pixel_range) != 2 or not float("-inf") < pixel_range[0] < pixel_range[1] < float("inf"):
        problems.append(f"`pixel_range` must be the values of black and white, such as (-1, 1), but is {pixel_range}")
    if check not in get_args(Check):
        problems.append(f"`check` must be first, always or never, but is {check!r}")
    if problems:
        raise ConfigError(problems, source="the expert")


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuse a value that is none of a `Literal`'s.

    Raises:
        ConfigError: it is none.
    """
    allowed = get_args(choices)
    if value not in allowed:
        problem = f"`{name}` must be one of {', '.join(allowed)}, but is {value!r}"
        raise ConfigError([problem], source="a call of the expert")


class Looks:
    """The looks of one expert: of each kind of input in the first call, in every one, or never; a doubt is said once.

    Each look raises DataError `not_finite` for NaN and infinity.
    """

    def __init__(self, check: Check) -> None:
        self._check = check
        self._seen: set[str] = set()
        self._doubted: set[str] = set()

    def at_pixels(self, frames: Tensor, pixel_range: tuple[float, float]) -> None:
        """Float frames, and whether they probably have another range than is said."""
        if self._due("frames"):
            self._say("frames", _doubt_about_pixels(frames, pixel_range))

    def at_latents(self, frames: Tensor) -> None:
        """Latents, which may have any range."""
        if self._due("latents"):
            _figures("latents", frames, 0.0, 0.0)

    def at_mel(self, mel: Tensor) -> None:
        """Mel windows, and whether they are probably other ones than training's."""
        if self._due("mel windows"):
            self._say("mel windows", _doubt_about_mel(mel))

    def _due(self, what: str) -> bool:
        first = what not in self._seen
        self._seen.add(what)
        return self._check == "always" or (self._check == "first" and first)

    def _say(self, what: str, doubt: str) -> None:
        if doubt and what not in self._doubted:
            self._doubted.add(what)
            warnings.warn(f"{what}: {doubt}", stacklevel=4)


def _doubt_about_pixels(frames: Tensor, pixel_range: tuple[float, float]) -> str:
    low, high = pixel_range
    outside, least, most = _figures("frames", frames, low, high)
    if outside > _SHARE:
        found = f"{outside:.0%} of the values lie outside of it, from {least:.3g} to {most:.3g}, and are clamped to it"
    elif least >= (low + high) / 2 or most <= low + _MARGIN * (high - low):
        found = f"all values lie between {least:.3g} and {most:.3g}, in a small part of it"
    else:
        return ""
    return f"`pixel_range` is {pixel_range}, but {found}; give the values of black and white as `pixel_range`"


def _doubt_about_mel(mel: Tensor) -> str:
    outside, least, most = _figures("mel windows", mel, -4.0, 4.0)
    if outside <= _SHARE:
        return ""
    return f"the values go from {least:.3g} to {most:.3g}, but training's lie in [-4, 4]; see `audio_windows`"


def _figures(what: str, values: Tensor, low: float, high: float) -> tuple[float, float, float]:
    """The share outside; the least and the greatest value."""
    values, margin = values.detach(), _MARGIN * (high - low)
    outside = ((values < low - margin) | (values > high + margin)).float().mean()
    least, most = values.aminmax()
    finite, share, first, last = torch.stack(
        [values.isfinite().all().float(), outside, least.float(), most.float()]
    ).tolist()
    if not finite:
        hint = 'look where they come from; check="never" hands them on, and gives a loss that is no number'
        raise DataError(f"the {what} hold NaN or infinity", reason="not_finite", hint=hint)
    return share, first, last
