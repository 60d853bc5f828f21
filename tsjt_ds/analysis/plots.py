"""The plots of a comparison, as SVG that takes its ink from the page around it."""

import colorsys
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tsjt_ds.analysis.comparison import Comparison
from tsjt_ds.analysis.reach import COSTS
from tsjt_ds.analysis.records import RunRecord
from tsjt_ds.analysis.tables import compact

WIDTH = 12.0
"""Inches."""
INK = "#010203"
"""Stands for the page's text colour, which a figure cannot know."""
AXES = {"steps": "steps", "target_tokens": "target tokens", "flops": "FLOPs"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tsjt",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "grid.color"), INK
    ),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}
SHOWN_QUANTILE = 0.9
"""The steepest losses, above this quantile, are cut off, so that the ends can be told apart."""


def run_colours(labels: Sequence[str]) -> dict[str, str]:
    """One colour a run, as ``#rrggbb``, legible on light and on dark."""
    colours = {}
    for number, label in enumerate(labels):
        lightness = (0.46, 0.6)[number % 2] if len(labels) > 8 else 0.5
        channels = colorsys.hls_to_rgb(number / len(labels), lightness, 0.7)
        colours[label] = "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
    return colours


def dev_loss_plot(comparison: Comparison, capacity: str) -> str | None:
    """SVG of a capacity's dev loss against steps, tokens and FLOPs; None: nothing to show."""
    runs = [run for run in comparison.runs if run.curves.get(capacity)]
    if not runs:
        return None
    labels = [run.label for run in comparison.runs]
    colours = run_colours(labels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        panels = figure.subplots(1, len(COSTS), sharey=True)
        for axes, name in zip(panels, COSTS, strict=True):
            for run in runs:
                points = _points(run, capacity, name)
                style = "--" if run.label in comparison.baselines else "-"
                number = labels.index(run.label) + 1
                _draw_curve(axes, points, style, colours[run.label], str(number))
            axes.set_xlabel(AXES[name])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        panels[0].set_ylabel(f"dev loss of {capacity} (nats a token)")
        panels[0].set_ylim(*_loss_range(runs, capacity))
        return _svg(figure)


def bleu_plot(comparison: Comparison, capacity: str) -> str | None:
    """SVG of a capacity's BLEU by direction, a bar a run; None: nothing to show."""
    runs = [run for run in comparison.runs if run.scores.get(capacity)]
    if not runs:
        return None
    colours = run_colours([run.label for run in comparison.runs])
    directions = comparison.directions
    per_line = max(2, 100 // len(runs))
    lines = [directions[i : i + per_line] for i in range(0, len(directions), per_line)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.4 + 2.4 * len(lines)), layout="constrained")
        panels = figure.subplots(len(lines), 1, squeeze=False, sharey=True)[:, 0]
        for axes, line in zip(panels, lines, strict=True):
            for number, run in enumerate(runs):
                _draw_bars(axes, run, capacity, line, colours[run.label], number, len(runs))
            axes.set_xticks(range(len(line)), line)
            # A short last line has bars as wide as the others'.
            axes.set_xlim(-0.5, len(lines[0]) - 0.5)
            axes.grid(visible=False, axis="x")
            axes.set_ylabel(f"BLEU of {capacity}")
        return _svg(figure)


def compute_plot(comparison: Comparison) -> str | None:
    """SVG of each run's FLOPs, and what its capacities took apart; None: nothing was recorded."""
    apart = comparison.apart_flops
    runs = [run for run in comparison.runs if run.total and run.total.flops is not None]
    if not runs:
        return None
    colours = run_colours([run.label for run in comparison.runs])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.3 * len(runs)), layout="constrained")
        axes = figure.subplots()
        for place, run in enumerate(runs):
            taught = comparison.taught_flops.get(run.label, 0.0)
            _draw_compute(axes, place, run, taught, colours[run.label])
            if run.label in apart:
                axes.plot([apart[run.label]] * 2, [place - 0.45, place + 0.45], color=INK)
        axes.set_yticks(range(len(runs)), [run.label for run in runs])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("training FLOPs")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        return _svg(figure)


def _points(run: RunRecord, capacity: str, cost: str) -> list[tuple[float, float]]:
    """(spent, dev loss) where the cost was recorded."""
    return [
        (spent, point.nll)
        for point in run.curves[capacity]
        if (spent := COSTS[cost](point)) is not None
    ]


def _draw_curve(
    axes: Axes, points: list[tuple[float, float]], style: str, colour: str, name: str
) -> None:
    """A line with its name at the end."""
    if points:
        axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.4, marker=".", ms=3)
        axes.annotate(
            name, points[-1], (4, -3), textcoords="offset points", color=colour, fontsize=8
        )


def _loss_range(runs: list[RunRecord], capacity: str) -> tuple[float, float]:
    values = sorted(point.nll for run in runs for point in run.curves[capacity])
    low, high = values[0], values[int(SHOWN_QUANTILE * (len(values) - 1))]
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _draw_bars(
    axes: Axes,
    run: RunRecord,
    capacity: str,
    directions: list[str],
    colour: str,
    number: int,
    runs: int,
) -> None:
    width = 0.85 / runs
    places = [place + (number - (runs - 1) / 2) * width for place in range(len(directions))]
    heights = [run.scores[capacity][direction].scores.bleu for direction in directions]
    axes.bar(places, heights, width=0.92 * width, color=colour)


def _draw_compute(axes: Axes, place: int, run: RunRecord, taught: float, colour: str) -> None:
    """The joint line's bar, then paler ones of the separate lines and of the run's teachers."""
    lines = [line.flops or 0.0 for line in filter(None, [run.joint, *run.separate.values()])]
    shades = [1.0, *[0.5] * (len(lines) - 1), 0.2]
    left = 0.0
    for flops, alpha in zip([*lines, taught], shades, strict=True):
        axes.barh(place, flops, left=left, height=0.7, color=colour, alpha=alpha)
        left += flops


def _svg(figure: Figure) -> str:
    """The figure without background, for use inside an HTML page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # A size in points would keep it from shrinking with the page.
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
