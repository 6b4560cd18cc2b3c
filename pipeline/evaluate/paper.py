"""The figures as DiffusionAvatars' release defines them, beside the project's own.

Over the whole frame; PSNR of the squared error pooled over 16 pictures at a time, which is below the mean of their
PSNRs; means over these sixteens, then over films. Pictures in which no face is found are left out of AKD and CSIM,
and nothing says how many they were. Its JOD is FovVideoVDP's, which nothing here computes.
"""

import numpy as np

from pipeline.evaluate.measures.image import pooled_psnr
from pipeline.evaluate.pictures import Picture, films_of

BATCH = 16  # pictures
FIGURES = ("psnr", "ssim", "ms_ssim", "lpips", "akd", "csim")


def paper_means(pictures: list[Picture]) -> dict[str, float]:
    """`..._paper` of each of FIGURES that any of the pictures has, all of them of one split and method."""
    films = films_of(pictures)
    result = {}
    for name in FIGURES:
        means = [mean for film in films if (mean := _film_mean(film, name)) is not None]
        if means:
            result[f"{name}_paper"] = float(np.mean(means))
    return result


def _film_mean(film: list[Picture], name: str) -> float | None:
    batches = [film[start : start + BATCH] for start in range(0, len(film), BATCH)]
    values = [[picture.figures[name] for picture in batch if name in picture.figures] for batch in batches]
    means = [pooled_psnr(batch) if name == "psnr" else float(np.mean(batch)) for batch in values if batch]
    return float(np.mean(means)) if means else None
