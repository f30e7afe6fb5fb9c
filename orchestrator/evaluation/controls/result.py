"""What a control says, and by which rule: three-valued, so that "not shown" is never sold as "passed". Pure."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.evaluation.figures import ControlResult as ControlResult
from orchestrator.training.comparison import Estimate

SURE = 0.999
"""Confidence at which a control fails: an evaluation has a handful of them, and none should fail by luck."""
CHANCE = 0.5
"""AUC of a network that cannot know."""
LEFT = 0.5
"""A control at chance may keep less than this share of what the network has over chance with everything as it is."""


class Both(NamedTuple):
    """One figure with two intervals."""

    usual: Estimate
    """At 95%."""
    sure: Estimate
    """At `SURE`."""


def at_chance(found: Both, advantage: float, known: bool) -> tuple[bool | None, str]:
    """Whether an AUC is shown to be at chance.

    It fails where chance lies outside of the wide interval. That 0.5 lies inside shows nothing yet, since few pairs
    leave everything possible; so it passes only where the 95% interval also keeps within a margin around chance.

    Args:
        found: the AUC.
        advantage: what the network's AUC is over chance with everything as it is.
        known: whether that is shown to be above chance.
    """
    (value, low, high), sure = found
    said = f"AUC is {value:.3f} ({low:.3f} to {high:.3f})"
    if not sure.low <= CHANCE <= sure.high:
        return False, f"{said}, and chance, 0.5, lies outside even of the {SURE:.1%} interval"
    if not known:
        return None, f"{said}, which says nothing: with everything as it is, the network is at chance too"
    margin = LEFT * advantage
    if CHANCE - margin < low and high < CHANCE + margin:
        return True, f"{said}, which is chance, give or take less than {margin:.3f}"
    return None, f"{said}: chance is possible, but too few pairs show that it is within {margin:.3f}; give more pairs"


def beats_chance(found: Estimate) -> tuple[bool, str]:
    """Whether an AUC is shown to be above chance."""
    said = f"AUC is {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    if found.low > CHANCE:
        return True, f"{said}: pairs are told apart"
    why = "the network knows nothing, hears the wrong sound, or there are too few pairs"
    return False, f"{said}: nothing shows that pairs are told apart ({why}), so other controls say little"


def falls(gain: Estimate, changed: Both) -> tuple[bool | None, str]:
    """Whether an AUC is shown to be lower than with everything as it is.

    Args:
        gain: what the AUC with everything as it is has over the changed one, on the same pairs.
        changed: the changed one.
    """
    lost = f"AUC falls by {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f}) to {changed.usual.value:.3f}"
    if gain.low > 0:
        return True, lost
    if changed.sure.low > CHANCE:
        return False, f"{lost}: it does not fall, and is not at chance"
    return None, f"{lost}: too little to tell"


def is_zero(found: Both, known: bool) -> tuple[bool | None, str]:
    """Whether an offset is shown to be less than half a frame.

    Args:
        found: the offset in frames.
        known: whether the network tells pairs apart at all.
    """
    (value, low, high), sure = found
    said = f"pairs fit best with the sound {value:+.2f} frames ({low:+.2f} to {high:+.2f}) from where it is paired"
    if sure.low >= 0.5 or sure.high <= -0.5:
        return False, f"{said}: pictures are paired with the sound of another moment"
    if not known:
        return None, f"{said}, which says nothing: the network is at chance"
    if low > -0.5 and high < 0.5:
        return True, said
    return None, f"{said}: too few pairs to tell"


def fits_own(found: Both, who: str, known: bool) -> tuple[bool | None, str]:
    """Whether pictures are shown to fit the sound of their own clip better than that of another.

    Args:
        found: the share of windows that do.
        who: the other clip.
        known: whether the network tells pairs apart at all.
    """
    (value, low, high), sure = found
    said = f"{value:.1%} of windows ({low:.1%} to {high:.1%}) fit their own clip's sound better than the {who}'s"
    if sure.high < CHANCE:
        return False, f"{said}: the sounds of clips are exchanged"
    if not known:
        return None, f"{said}, which says nothing: the network is at chance"
    if low > CHANCE:
        return True, said
    if value < CHANCE:
        return None, f"{said}: too few pairs to tell"
    return None, f"{said}, which may be chance"
