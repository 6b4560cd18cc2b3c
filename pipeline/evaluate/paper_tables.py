"""The paper's tables 1 and 3 beside our figures of the same methods, and where their order holds."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

from pipeline.evaluate.evaluation import Metrics
from pipeline.evaluate.pictures import HEADLINE
from pipeline.evaluate.tables import latex, markdown, tsv

WHOLE, DEFERRED = "whole", "deferred"
FIGURES = {"psnr": 2, "psnr_paper": 2, "psnr_head": 2, "ssim_head": 3, "flip_head": 3, "lpips": 3, "jod": 2}
FIGURES |= {"akd": 2, "face_found": 2, "csim": 3, "flicker": 2}  # and their decimals
# The paper's columns: decimals, the figure of ours that is defined likeliest, whether more is better
PAPER_FIGURES = {
    "paper_psnr": (1, "psnr_paper", True),
    "paper_lpips": (3, "lpips_paper", False),
    "paper_jod": (2, "jod", True),
    "paper_akd": (2, "akd_paper", False),
    "paper_csim": (3, "csim_paper", True),
}
Columns = tuple[float | None, ...]
TITLES = {
    WHOLE: "the whole method",
    "no_diffusion": "one pass, no diffusion",
    "no_expression": "no attention to z_exp",
    "no_prior": "plain U-Net, no pretrained model, no ControlNet",
    "no_features": "no spatial features",
    "spherical_uv": "a sphere in place of the TriPlanes",
    DEFERRED: "deferred neural rendering: one pass, L1, plain U-Net",
    "mesh_colour": "the mesh in mean colours",
    "nearest_frame": "the nearest training picture",
}
# DiffusionAvatars (Kirschstein et al., CVPR 2024): table 1, means over eight people, AKD and CSIM of the whole method
# not known here; table 3, means over three
SELF_REENACTMENT: dict[str, Columns] = {
    WHOLE: (24.9, 0.081, 7.55, None, None),
    DEFERRED: (24.5, 0.226, 7.32, 2.06, 0.903),
}
ABLATED: dict[str, Columns] = {
    WHOLE: (25.3, 0.074, 7.85, 1.91, 0.918),
    "no_diffusion": (25.1, 0.133, 7.69, 1.96, 0.892),
    "no_expression": (24.5, 0.081, 7.65, 1.98, 0.911),
    "no_prior": (24.5, 0.078, 7.67, 1.89, 0.913),
    "no_features": (24.9, 0.078, 7.77, 1.87, 0.918),
    "spherical_uv": (24.9, 0.075, 7.77, 1.95, 0.920),
}
NOTE = (
    "Columns without `paper_`: our figures on held-out cameras of held-out sequences (docs/stages/evaluate.md). The "
    "paper's are of other people, pictures and trainings: compare the order of rows, not the columns."
)


@dataclass(frozen=True)
class Row:
    """A method: its name, our figures of it, what the paper says of it, None where it does not."""

    name: str
    measured: Mapping[str, float]
    paper: Columns | None


def ablation_rows(metrics: dict[str, Metrics]) -> list[Row]:
    """Of the whole and its variants, by the metrics of each by name."""
    return [Row(name, each[HEADLINE].get("avatar", {}), ABLATED.get(name)) for name, each in metrics.items()]


def baseline_rows(whole: Metrics, deferred: Metrics) -> list[Row]:
    """Of the whole, deferred neural rendering and the two baselines that learn nothing."""
    methods = {WHOLE: whole[HEADLINE].get("avatar", {}), DEFERRED: deferred[HEADLINE].get("avatar", {})}
    methods |= {name: whole[HEADLINE].get(name, {}) for name in ("mesh_colour", "nearest_frame")}
    return [Row(name, measured, SELF_REENACTMENT.get(name)) for name, measured in methods.items()]


def order(rows: list[Row]) -> list[str]:
    """A line per column of the paper: in how many pairs of methods ours differ the same way, and which do not."""
    lines = []
    for place, (column, (_, ours, more)) in enumerate(PAPER_FIGURES.items()):
        known = [(row, value) for row in rows if row.paper and (value := row.paper[place]) is not None]
        pairs = [(a, b) for a, b in combinations(known, 2) if a[1] != b[1]]
        if not pairs:
            continue
        name = column.removeprefix("paper_").upper()
        if any(ours not in row.measured for row, _ in known):
            lines.append(f"{name}: not measured here")
            continue
        turned = []
        for (a, of_a), (b, of_b) in pairs:
            better, worse = (a, b) if (of_a > of_b) == more else (b, a)
            gain = better.measured[ours] - worse.measured[ours]
            if (gain if more else -gain) <= 0:
                turned.append(f"{worse.name} over {better.name}")
        held = f"{name}: {len(pairs) - len(turned)} of {len(pairs)} pairs as in the paper"
        lines.append(held + (f"; here {', '.join(turned)}" if turned else ""))
    return lines


def table(rows: list[Row]) -> list[list[str]]:
    """Header and a line per row; columns that no row has are left out, a figure that a row lacks is empty."""
    ours = [name for name in FIGURES if any(name in row.measured for row in rows)]
    lines = [["variant", *ours, *PAPER_FIGURES]]
    for row in rows:
        own = [f"{row.measured[name]:.{FIGURES[name]}f}" if name in row.measured else "" for name in ours]
        said = zip(row.paper or (None,) * len(PAPER_FIGURES), PAPER_FIGURES.values(), strict=True)
        lines.append([row.name, *own, *(f"{value:.{how[0]}f}" if value is not None else "" for value, how in said)])
    return lines


def worded(lines: list[list[str]]) -> list[list[str]]:
    """The table with what its methods are in place of their names."""
    head, *body = lines
    return [head, *([TITLES.get(name, name), *figures] for name, *figures in body)]


def as_page(rows: list[Row]) -> str:
    """The table in words, with what may be compared and where the paper's order holds below it."""
    held = "".join(f"- {line}\n" for line in order(rows))
    return f"{markdown(worded(table(rows)))}\n{NOTE}\n\nThe paper's order:\n\n{held}"


def as_json(rows: list[Row]) -> str:
    """All our figures of every method, unrounded, what the paper says of it, and where its order holds."""
    said = [dict(zip(PAPER_FIGURES, row.paper, strict=True)) if row.paper else {} for row in rows]
    methods = {row.name: {**row.measured, **paper} for row, paper in zip(rows, said, strict=True)}
    return json.dumps({"methods": methods, "order": order(rows)}, indent=1) + "\n"


WRITERS: dict[str, Callable[[list[Row]], str]] = {
    ".tsv": lambda rows: tsv(table(rows)),
    ".json": as_json,
    ".md": as_page,
    ".tex": lambda rows: latex(worded(table(rows))),
}
