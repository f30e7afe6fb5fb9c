"""What every chart has in common: colours, the empty canvas, lines, and how figures and names are written.

Contract: nothing here knows what a chart shows. The colours of ink, grid and states are constants, so that a page may
replace them with its own for a dark screen. matplotlib is imported when a chart is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

CHANCE_LOSS = math.log(2)
"""The loss of a net that knows nothing: binary cross-entropy of a coin."""
CHANCE = 0.5
"""The accuracy and the AUC of a net that knows nothing, on balanced pairs."""

INK, QUIET, GRID, PAPER = "#111827", "#6b7280", "#e5e7eb", "#ffffff"
CHAMPION = "#15884f"
STATES = {
    "finished": "#2f6db3",
    "stopped early": "#d97f1e",
    "running": "#7a5bc7",
    "stopped": "#64748b",
    "failed": "#c4352b",
    "waiting": "#94a3b8",
}
"""State of a trial -> its colour, in the order of legends; told apart by people who see no red or green, too."""
SHADES = ("#b9c3d0", "#a3b8d2", "#8eadd4", "#77a1d3", "#5e91cb", "#4581c3", "#3480a5", "#28857c", "#1b8a54")
"""From the worst value to the best."""

_DPI = 120
_THIN = 0.8


def canvas(
    width: float, height: float, lines: int = 1, columns: int = 1, *, alike: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches, with its panels row by row, which share their upright axis where they are alike,
    and else the level one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(lines, columns, sharex=not alike, sharey=alike, squeeze=False).flat)
    for axes in panels:
        axes.set_facecolor("none")
        axes.grid(color=GRID, linewidth=_THIN)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(QUIET)
        axes.tick_params(color=QUIET, labelcolor=INK)
    return figure, panels


def headline(figure: Figure, title: str) -> None:
    """The title of a chart, above its left edge."""
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.004, ha="left", color=INK)


def metric_axis(axis: Axis, metric: str) -> None:
    """Label an axis with values of a metric, all with the same number of places."""
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    # an offset in a corner, as matplotlib would write it, is read over
    axis.set_major_formatter(PercentFormatter(1.0) if metric.endswith("accuracy") else ScalarFormatter(useOffset=False))


def level(axes: Axes, value: float, label: str, style: str = "--", color: str = QUIET) -> None:
    """A level line across the whole chart."""
    axes.axhline(value, color=color, linewidth=1.2, linestyle=style, label=label, zorder=1)


def number(value: Any) -> float | None:
    """A finite number, or none; true and false are none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def chance_of(metric: str) -> float:
    """What a net that knows nothing has."""
    return CHANCE_LOSS if metric.endswith("loss") else CHANCE


def title_of(metric: str) -> str:
    """What a metric is called in a sentence: `val/auc` is `AUC`."""
    name = metric.rpartition("/")[2]
    return "AUC" if name == "auc" else name.replace("_", " ")


def shown(metric: str, value: float) -> str:
    """A value of a metric: an accuracy in per cent, anything else with four places."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else minus("-∞" if value < 0 else "∞")
    return f"{value:.2%}" if metric.endswith("accuracy") else minus(f"{value:.4f}")


def shown_gain(metric: str, value: float) -> str:
    """A difference with its sign; of accuracies in percentage points."""
    if not math.isfinite(value):
        return shown(metric, value)
    return minus(f"{100 * value:+.2f} pp" if metric.endswith("accuracy") else f"{value:+.4f}")


def minus(text: str) -> str:
    """A minus sign as wide as the plus."""
    return text.replace("-", "−")


def counted(value: float) -> str:
    """A big count, short: 1,536 is `1.54k`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def plain(text: str, most: int = 1000) -> str:
    """Text that a chart shows as it is: no formulas between dollars, no control characters, its middle cut out."""
    return shortened("".join(letter if letter.isprintable() else " " for letter in text), most).replace("$", r"\$")


def shortened(text: str, most: int) -> str:
    """Text without its middle where it is too long: names often differ at their ends."""
    tail = most // 2 - 1
    return text if len(text) <= most else f"{text[: most - tail - 1]}…{text[-tail:]}"


def window(values: Sequence[float], keep: Sequence[float] = ()) -> tuple[float, float]:
    """The range to show: all of `keep`, and all values but those so far out that the others would shrink to nothing."""
    ordered = sorted(value for value in values if math.isfinite(value)) or [0.0]
    low, high = ordered[len(ordered) // 8], ordered[-1 - len(ordered) // 8]
    reach = 2 * (high - low) or math.inf
    low, high = max(ordered[0], low - reach), min(ordered[-1], high + reach)
    low, high = min([low, *keep]), max([high, *keep])
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin
