"""What networks should predict, v or the picture: one step against twenty after a short training; JSON lines last.

    python -m benchmarks.prediction --results results/901 [--predicts v] [--steps 200] [--seed 0]

Trains two small avatars alike on a subject's results at a third of their size, one that predicts v and one that
predicts the picture, and renders the held-out camera's film of the held-out sequence: psnr_1 and psnr_20, dB in the
head's pixels, and sharpness_1 and sharpness_20, the spread of the Laplacian against the true picture's.
"""

import json

import cv2
import numpy as np
import torch

from benchmarks.short_training import PLAIN, small_pictures, trained_avatar
from benchmarks.short_training import parser as options
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.render import render_views
from pipeline.evaluate.measures.image import psnr
from pipeline.settings.train import TrainSettings

THIRD = 3
SMALL = {"channels": (24, 48, 72), "groups": 8, "heads": 4, "attention_levels": 1, "token_width": 32} | {
    "plane_size": 96,
    "plane_features": 6,
}
SNR_LIMIT = {"v": 1e6, "picture": 1.0}  # each the plain squared error of what is predicted


def sharpness(picture: np.ndarray, head: np.ndarray) -> float:
    """Spread of the Laplacian of the grey picture (h, w, 3) in the head."""
    return float(cv2.Laplacian(picture.astype(np.float32).mean(-1), -1)[head].std())


def measure(predicts: str, training: Pictures, test: Pictures, steps: int, seed: int) -> dict[str, float]:
    """Train, render, compare."""
    height, width = training.sides(0)
    recipe = {"texture_steps": 60, "steps": steps, "warmup_steps": 20, "crop_height": height, "crop_width": width}
    recipe |= {"snr_limit": SNR_LIMIT[predicts], "seed": seed, "architecture": {"predicts": predicts, **SMALL}}
    avatar = trained_avatar(TrainSettings.model_validate(PLAIN | recipe), training)
    figures = {}
    for count in (1, 20):
        films = zip(
            render_views(avatar, test, count, eta=0.0, seed=0), (test[i][1] for i in range(len(test))), strict=True
        )
        each = [(film.numpy(), target.rgb[0].numpy(), target.head[0].numpy()) for film, target in films]
        figures[f"psnr_{count}"] = np.mean([psnr(*one) for one in each])
        figures[f"sharpness_{count}"] = np.mean([sharpness(a, head) / sharpness(b, head) for a, b, head in each])
    return {name: round(float(value), 2) for name, value in figures.items()}


def main() -> None:
    """Measure both and print."""
    parser = options(__doc__)
    parser.add_argument("--predicts", choices=SNR_LIMIT, help="only one of them")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    training, test = (small_pictures(given, THIRD, new, new) for new in (False, True))
    for predicts in [given.predicts] if given.predicts else SNR_LIMIT:
        figures = measure(predicts, training, test, given.steps, given.seed)
        print(json.dumps({"predicts": predicts, "seed": given.seed, "steps": given.steps, **figures}))


if __name__ == "__main__":
    main()
