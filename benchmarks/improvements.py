"""What options of the avatar's training are worth: the same short training with each; a row each, one JSON line last.

    python -m benchmarks.improvements --results results/901 [--variants none regions ...] [--steps 250] [--seed 0]

Trains the demo's avatar on a subject's results at half their size, for fewer steps than the demo, once per variant, and
draws the held-out camera's films: of the held-out sequence (both) and of the others (camera). psnr, ssim and flip count
the head's pixels, eyes and mouth are PSNR in dB of the pixels of these regions (pipeline/head/regions.py), blink is
`eyes` of one picture, `--blink`, at which the eyes are shut in training too. "none" has all options off, the other
variants one or two on, and "demo" is the demo's preset.
"""

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.short_training import PLAIN, SmallPictures, trained_avatar, views_of
from pipeline.avatar.data import Pictures
from pipeline.avatar.drawing import draw
from pipeline.avatar.model import Avatar
from pipeline.head.regions import ELLIPSES, region
from pipeline.metrics.image import figures, psnr
from pipeline.presets import Values, laid_over
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.render import RenderSettings
from pipeline.settings.train import TrainSettings

HALF = 2
REGIONS: Values = {"eye_weight": 8.0, "mouth_weight": 4.0}
RARE: Values = {"rare_share": 0.5}
VARIANTS: dict[str, Values] = {
    "none": PLAIN,
    "regions": PLAIN | REGIONS,
    "rare": PLAIN | RARE,
    "regions_rare": PLAIN | REGIONS | RARE,
    "little_rare": PLAIN | {"eye_weight": 2.0, "mouth_weight": 2.0} | RARE,
    "mouth_rare": PLAIN | {"mouth_weight": 2.0} | RARE,
    "smooth_planes": PLAIN | {"plane_smoothness": 30.0},
    "mask_channel": PLAIN | {"architecture": {"mask_channel": True}},
    "no_average": PLAIN | {"average_decay": 0.0},
    "snr_5": PLAIN | {"snr_limit": 5.0},
    "snr_1e6": PLAIN | {"snr_limit": 1e6},
    "no_expression": PLAIN | {"architecture": {"expression": "none"}},
    "demo": {},
}
PREFIX = {"psnr_head": "psnr", "ssim_head": "ssim", "flip_head": "flip"}


def measured(avatar: Avatar, film: Pictures) -> list[dict[str, float]]:
    """Figures of every picture of a film."""
    how = RenderSettings()
    rows = []
    for index, picture in enumerate(draw(avatar, film, how.steps, how.eta, how.seed)):
        buffers, target = film[index]
        pair, head = (picture.numpy(), target.rgb[0].numpy()), target.head[0].numpy()
        found = figures(*pair, head, EvaluateSettings().pixels_per_degree)
        row = {short: found[name] for name, short in PREFIX.items()}
        rows.append(row | {name: psnr(*pair, region(buffers.x_can[0], name).numpy()) for name in ELLIPSES})
    return rows


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the pictures."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def main() -> None:
    """Train, draw and print each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of a subject with buffers and targets")
    parser.add_argument("--held-out-sequence", default="EXP-2-eyes")
    parser.add_argument("--held-out-camera", default="222200037")
    parser.add_argument("--blink", default="EXP-5-mouth:6", help="a training sequence and time step of closed eyes")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--texture-steps", type=int, default=100)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    demo = TrainSettings()
    budget: dict[str, Any] = {"texture_steps": given.texture_steps, "steps": given.steps, "seed": given.seed}
    size = {"crop_height": demo.crop_height // HALF, "crop_width": demo.crop_width // HALF}
    size |= {"architecture": {"plane_size": demo.architecture.plane_size // HALF}}
    sequences = sorted(path.name for path in (given.results / "targets").iterdir())
    seen = [sequence for sequence in sequences if sequence != given.held_out_sequence]
    results = {}
    with ExitStack() as stack:
        training, both, camera = (
            SmallPictures(views_of(stack, given.results, some, given.held_out_camera, held_out), HALF)
            for some, held_out in ((seen, False), ([given.held_out_sequence], True), (seen, True))
        )
        blink = [f"{view.buffers.sequence}:{view.step}" for view in camera.views].index(given.blink)
        for name in given.variants:
            started = time.monotonic()
            settings = laid_over(laid_over(budget, size), VARIANTS[name])
            avatar = trained_avatar(TrainSettings.model_validate(settings), training)
            films = [measured(avatar, film) for film in (both, camera)]
            row: dict[str, Any] = {split: mean(film) for split, film in zip(("both", "camera"), films, strict=True)}
            row |= {"blink": films[1][blink]["eyes"], "seconds": time.monotonic() - started}
            results[name] = rounded(row)
            print(name, *(f"{part} {value}" for part, value in results[name].items()), flush=True)
    print(json.dumps({**budget, "threads": torch.get_num_threads(), "variants": results}))


def rounded(values: Any) -> Any:
    """Numbers with three decimals, also in nested dicts."""
    return {key: rounded(value) for key, value in values.items()} if isinstance(values, dict) else round(values, 3)


if __name__ == "__main__":
    main()
