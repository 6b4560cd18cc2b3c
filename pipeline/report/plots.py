"""Line plots as inline SVG that takes its colours from the page's style sheet."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 720, 240
COLOURS = 6  # of the style sheet; further lines begin again
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 30
POINTS = 240  # of a curve at most: three pixels each


@dataclass(frozen=True)
class Line:
    """One named curve: `values` (n,), drawn at x = 0 ... n - 1."""

    name: str
    values: np.ndarray


def nice_ticks(low: float, high: float, count: int = 5) -> np.ndarray:
    """About `count` round numbers (steps of 1, 2, 2.5 or 5 times a power of ten) that enclose [low, high]."""
    rough = max(high - low, 1e-9) / count
    power = 10 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step


def worst(lines: list[Line], count: int = COLOURS) -> list[Line]:
    """The `count` curves with the largest means, in their own order: more cannot be told apart by their colours."""
    largest = sorted(lines, key=lambda line: -float(np.nanmean(line.values)))[:count]
    return [line for line in lines if any(line is kept for kept in largest)]


def _thinned(values: np.ndarray) -> list[tuple[float, float]]:
    """(step, value) of a curve, means of runs of equal length where it has more than POINTS values."""
    runs = np.array_split(np.arange(len(values)), min(POINTS, len(values)))
    return [(float(run.mean()), float(values[run].mean())) for run in runs]


def line_plot(lines: list[Line], x_title: str, y_title: str, from_zero: bool) -> Markup:
    """SVG of some curves with grid and axis titles; line i has CSS class `series s(i mod COLOURS)`.

    Short curves have a dot per value; long ones are thinned, so that a page stays light whatever a capture's length.
    """
    values = np.concatenate([line.values for line in lines])
    ticks = nice_ticks(0.0 if from_zero else float(values.min()), float(values.max()))
    last = max(max(len(line.values) for line in lines) - 1, 1)

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / last, 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_title)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:.4g}</text>')
    for step in range(0, last + 1, max(round(nice_ticks(0, last, 8)[1]), 1)):
        parts.append(f'<text x="{x(step)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{step}</text>')
    for index, line in enumerate(lines):
        known = _thinned(line.values)
        path = " ".join(f"{x(step)},{y(value)}" for step, value in known)
        parts.append(f'<g class="series s{index % COLOURS}"><polyline points="{path}"/>')
        if len(known) == len(line.values):
            named = [(x(step), y(value), f"{escape(line.name)}, {step:g}: {value:.3g}") for step, value in known]
            parts += [f'<circle cx="{a}" cy="{b}" r="3"><title>{title}</title></circle>' for a, b, title in named]
        parts.append("</g>")
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(x_title)}</text></svg>')
    return Markup("".join(parts))
