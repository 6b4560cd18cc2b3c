"""The table: every split, method and figure, as means over pictures; and the pictures behind it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cli import Progress
from pipeline.errors import DataError
from pipeline.evaluate.footage import SPLITS, Footage
from pipeline.evaluate.measures.flicker import flicker
from pipeline.evaluate.measures.image import figures, pooled_psnr
from pipeline.evaluate.measures.jod import jod
from pipeline.evaluate.paper import paper_means
from pipeline.evaluate.pictures import Picture
from pipeline.evenly import evenly
from pipeline.store.chunk import Array, publish, write_chunk

Method = Callable[[str, int, str], np.ndarray]  # (sequence, step, camera) to a picture (h, w, 3) uint8
Metrics = dict[str, dict[str, dict[str, float]]]
# (prediction, truth (h, w, 3) uint8, head (h, w) bool) to figures: of networks that are there or not
Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]
REGIONS = ("eyes", "mouth")


@dataclass(frozen=True)
class Viewing:
    """How pictures are looked at: `pixels_per_degree` of visual angle, and films at `frames_per_second`; 0: no JOD."""

    pixels_per_degree: float
    frames_per_second: float


def measure(
    footage: Footage, methods: dict[str, Method], viewing: Viewing, judges: Sequence[Judge] = ()
) -> list[Picture]:
    """Every picture of every split by every method, with the figures of all `judges` too.

    Raises DataError when no split has a rendered picture, or a picture's head mask is empty.
    """
    films = {split: footage.split(split) for split in SPLITS}
    if not any(films.values()):
        raise DataError("the renders show no held-out camera and no held-out sequence: nothing to evaluate")
    total = sum(footage.targets[sequence].steps for split in films.values() for sequence, _ in split)
    progress = Progress(total, "pictures")
    result: list[Picture] = []
    done = 0
    for split, pairs in films.items():
        for sequence, camera in pairs:
            for name, method in methods.items():
                film = film_figures(footage, method, sequence, camera, viewing, judges)
                result += [Picture(split, name, sequence, camera, step, row) for step, row in enumerate(film)]
            done += footage.targets[sequence].steps
            progress.update(done, f", {split}")
    return result


def film_figures(
    footage: Footage, method: Method, sequence: str, camera: str, viewing: Viewing, judges: Sequence[Judge] = ()
) -> list[dict[str, float]]:
    """Figures of every step of one camera's film; `flicker` from the second step on, the film's `jod` at the first.

    Those round eyes and mouth are left out where the mesh shows none.
    """
    result, film, real = [], [], []
    before = None
    for step in range(footage.targets[sequence].steps):
        head = footage.head(sequence, step, camera)
        if not head.any():
            raise DataError(
                f"sequence {sequence}, step {step}, camera {camera}: the target's head mask is empty; expected a head"
            )
        now = method(sequence, step, camera), footage.target(sequence, step, camera), head
        regions = {name: footage.region(sequence, step, camera, name) & head for name in REGIONS}
        result.append(figures(*now, viewing.pixels_per_degree, regions))
        for judge in judges:
            result[-1] |= judge(*now)
        if before is not None and (before[2] & head).any():
            result[-1]["flicker"] = flicker(before[0], now[0], before[1], now[1], before[2] & head)
        film.append(now[0])
        real.append(now[1])
        before = now
    if viewing.frames_per_second:
        result[0]["jod"] = jod(np.stack(film), np.stack(real), viewing.frames_per_second, viewing.pixels_per_degree)
    return result


def table(pictures: list[Picture]) -> Metrics:
    """{split: {method: {figure: mean over the split's pictures}}}, with the number of `pictures` behind the mean.

    A split without a picture is an empty dict.
    """
    rows: dict[str, dict[str, list[Picture]]] = {split: {} for split in SPLITS}
    for picture in pictures:
        rows[picture.split].setdefault(picture.method, []).append(picture)
    return {split: {name: means(each) for name, each in methods.items()} for split, methods in rows.items()}


def means(pictures: list[Picture]) -> dict[str, float]:
    """Mean of each figure over the pictures that have it, and the number of pictures.

    `psnr_pooled` and `psnr_head_pooled` are of the squared error averaged over all pictures; `..._paper` are by the
    paper's own definitions.
    """
    names = {name for picture in pictures for name in picture.figures}
    every = {name: [picture.figures[name] for picture in pictures if name in picture.figures] for name in names}
    result = {name: float(np.mean(values)) for name, values in every.items()}
    for name in ("psnr", "psnr_head"):
        result[f"{name}_pooled"] = pooled_psnr(every[name])
    return {**result, **paper_means(pictures), "pictures": len(pictures)}


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write the table as canonical JSON: sorted keys, four decimals."""
    rounded = {
        split: {method: {name: round(value, 4) for name, value in row.items()} for method, row in rows.items()}
        for split, rows in metrics.items()
    }
    with publish(path) as partial:
        partial.write_text(json.dumps(rounded, indent=1, sort_keys=True) + "\n")


def write_comparison(path: Path, footage: Footage, methods: dict[str, Method], limit: int, attributes: dict) -> None:
    """Write up to `limit` evenly spread pictures of each method, of the first split that has any: the report need not
    remake them.

    One array (P, h, w, 3) uint8 per method; attribute `pictures` lists (sequence, step, camera) of each.
    """
    every = [
        (sequence, step, camera)
        for sequence, camera in next(filter(None, map(footage.split, SPLITS)), [])
        for step in range(footage.targets[sequence].steps)
    ]
    pictures = [every[index] for index in evenly(len(every), limit)]
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
