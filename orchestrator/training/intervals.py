"""How sure a figure is: 95% intervals of the gap between two means and of the area under a ROC curve. Pure arithmetic.

Promises: an interval lies within what the figure can be, is whole where nothing is known, and never has no width only
because every pair happened to be ranked right.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
"""Of an interval, unless another is asked for."""
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""Half the width of such an interval in standard errors, for a normal distribution."""


def welch_half_width(count: tuple[float, float], variance: tuple[float, float]) -> float:
    """Half the width of the interval of the difference of two means (Welch 1947), infinite below two values a side.

    Args:
        count: values on each side.
        variance: unbiased variance of each side.
    """
    if min(count) < 2:
        return math.inf
    parts = [spread / number for spread, number in zip(variance, count, strict=True)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (number - 1) for part, number in zip(parts, count, strict=True))
    return error * _student(freedom)


def auc_interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """The areas that an observed one is compatible with.

    The variance is that of Hanley and McNeil (1982) as Newcombe evens it out (2006, method 5), taken at the area that
    is asked about and not at the observed one: the interval leaves out 0.5 exactly where the test of Mann and Whitney
    finds the two kinds different, and an area of 1 from four pairs does not pretend to be certain.
    """

    def compatible(area: float) -> bool:
        mean = (positives + negatives) / 2 - 1
        bracket = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 <= Z**2 * area * (1 - area) * bracket / (positives * negatives)

    def edge(outside: float) -> float:
        inside = auc
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if compatible(middle) else (inside, middle)
        return inside

    return edge(0.0), edge(1.0)


@lru_cache(maxsize=16)
def student_quantile(confidence: float, freedom: float) -> float:
    """Half the width of an interval in standard errors, for Student's distribution; infinite without any freedom.

    In the angle whose tangent is t / sqrt(freedom) the density is cosine^(freedom - 1), which is added up on a grid:
    the quantile is exact to 1e-4 for any confidence up to 0.9999 and any freedom from 1 to 1e5, whole or not.

    Args:
        confidence: chance to lie inside, in (0, 1).
        freedom: degrees of freedom.
    """
    if freedom <= 0:
        return math.inf
    edges = np.linspace(0, math.pi / 2, 100_001)
    inside = np.cumsum(np.cos((edges[1:] + edges[:-1]) / 2) ** (freedom - 1))
    angle = np.interp(confidence, np.concatenate([[0.0], inside / inside[-1]]), edges)
    return math.sqrt(freedom) * math.tan(angle)


def _student(freedom: float) -> float:
    """Student's quantile by the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5); 3% low at freedom 2."""
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return Z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
