"""Line plots as inline SVG that takes its colours from the page's style sheet."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 720, 240
COLOURS = 6  # of the style sheet; further lines begin again
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 30


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


def line_plot(lines: list[Line], x_title: str, y_title: str, from_zero: bool) -> Markup:
    """SVG of some curves with grid, axis titles and a dot per value; line i has CSS class `series s(i mod COLOURS)`."""
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
        points = [(x(step), y(float(value))) for step, value in enumerate(line.values)]
        path = " ".join(f"{left},{top}" for left, top in points)
        parts.append(f'<g class="series s{index % COLOURS}"><polyline points="{path}"/>')
        parts += [
            f'<circle cx="{left}" cy="{top}" r="3"><title>{escape(line.name)}, {step}: {value:.3g}</title></circle>'
            for step, ((left, top), value) in enumerate(zip(points, line.values, strict=True))
        ]
        parts.append("</g>")
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(x_title)}</text></svg>')
    return Markup("".join(parts))
