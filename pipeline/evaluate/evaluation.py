"""The table: every split, method and figure, as means over pictures; and the pictures that the report shows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.cli import Progress
from pipeline.errors import DataError
from pipeline.evaluate.flicker import flicker
from pipeline.evaluate.footage import SPLITS, Footage
from pipeline.evaluate.image import figures
from pipeline.store.chunk import Array, publish, write_chunk

Method = Callable[[str, int, str], np.ndarray]  # (sequence, step, camera) to a picture (h, w, 3) uint8
Metrics = dict[str, dict[str, dict[str, float]]]
HEADLINE = "heldout_both"


def evaluate(footage: Footage, methods: dict[str, Method], pixels_per_degree: float) -> Metrics:
    """{split: {method: {figure: mean over the split's pictures}}}, with the number of `pictures` behind the mean.

    Flicker is the mean over successive pairs of one camera's pictures, left out where no film has two. A split without
    a rendered picture is an empty dict. Raises DataError when no split has one, or a picture's head mask is empty.
    """
    films = {split: footage.split(split) for split in SPLITS}
    if not any(films.values()):
        raise DataError("the renders show no held-out camera and no held-out sequence: nothing to evaluate")
    total = sum(footage.targets[sequence].steps for split in films.values() for sequence, _ in split)
    progress = Progress(total, "pictures")
    done = 0
    result: Metrics = {}
    for split, pairs in films.items():
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
        for sequence, camera in pairs:
            for name, method in methods.items():
                measured[name] += film_figures(footage, method, sequence, camera, pixels_per_degree)
            done += footage.targets[sequence].steps
            progress.update(done, f", {split}")
        result[split] = {name: means(pictures) for name, pictures in measured.items() if pictures}
    return result


def film_figures(
    footage: Footage, method: Method, sequence: str, camera: str, pixels_per_degree: float
) -> list[dict[str, float]]:
    """Figures of every step of one camera's film; `flicker` from the second step on."""
    result = []
    before = None
    for step in range(footage.targets[sequence].steps):
        head = footage.head(sequence, step, camera)
        if not head.any():
            raise DataError(f"sequence {sequence}, step {step}, camera {camera}: the target's head mask is empty")
        now = method(sequence, step, camera), footage.target(sequence, step, camera), head
        result.append(figures(*now, pixels_per_degree))
        if before is not None and (before[2] & head).any():
            result[-1]["flicker"] = flicker(before[0], now[0], before[1], now[1], before[2] & head)
        before = now
    return result


def means(pictures: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the pictures that have it, and the number of pictures."""
    names = {name for picture in pictures for name in picture}
    result = {name: float(np.mean([picture[name] for picture in pictures if name in picture])) for name in names}
    return {**result, "pictures": len(pictures)}


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write the table as canonical JSON: sorted keys, four decimals."""
    rounded = {
        split: {method: {name: round(value, 4) for name, value in row.items()} for method, row in rows.items()}
        for split, rows in metrics.items()
    }
    with publish(path) as partial:
        partial.write_text(json.dumps(rounded, indent=1, sort_keys=True) + "\n")


def write_comparison(path: Path, footage: Footage, methods: dict[str, Method], limit: int, attributes: dict) -> None:
    """Write up to `limit` evenly spread headline pictures of each method, so that the report need not remake them.

    One array (P, h, w, 3) uint8 per method; attribute `pictures` lists (sequence, step, camera) of each.
    """
    every = [
        (sequence, step, camera)
        for sequence, camera in footage.split(HEADLINE)
        for step in range(footage.targets[sequence].steps)
    ]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(limit, len(every))).round().astype(int))
    pictures = [every[index] for index in chosen]
    size = (footage.rig.cameras[0].height, footage.rig.cameras[0].width, 3)
    arrays = {
        name: Array(
            np.stack([method(*picture) for picture in pictures]) if pictures else np.zeros((0, *size), np.uint8),
            ("picture", "row", "column", "channel"),
            "sRGB",
            "head over white; picture i shows attribute pictures[i]",
        )
        for name, method in methods.items()
    }
    write_chunk(path, arrays, {**attributes, "pictures": pictures})
