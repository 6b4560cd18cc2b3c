"""What options of the avatar's training are worth: the same short training with each; a row each, one JSON line last.

    python -m benchmarks.improvements --results results/901 [--variants none regions ...] [--steps 250] [--seed 0]
    python -m benchmarks.improvements --results results/901 --pretrained FOLDER [--variants paper wide ...]

Trains the demo's avatar on a subject's results at half their size, for fewer steps than the demo, once per variant, and
renders the held-out camera's films: of the held-out sequence (both) and of the others (camera). psnr, ssim and flip
count the head's pixels, eyes and mouth are PSNR in dB of the pixels of these regions (head/model/regions.py), blink is
`eyes` of one picture, `--blink`, at which the eyes are shut in training too. "none" has all options off, the other
variants one or two on, and "demo" is the demo's preset. With --pretrained the variants are of the paper's preset on a
latent diffusion model that halves the sides, such as benchmarks.latent_model makes.
"""

import json
import time
from typing import Any

import numpy as np
import torch

from benchmarks.short_training import HALF, HALF_SIZE, PLAIN, paper, small_pictures, trained_avatar
from benchmarks.short_training import parser as options
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.render import render_views
from pipeline.evaluate.measures.image import figures, psnr
from pipeline.head.model.regions import ELLIPSES, region
from pipeline.planning.presets import Values, laid_over
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.train import TrainSettings

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
    "smooth_planes_1": PLAIN | {"plane_smoothness": 1.0},
    "mask_channel": PLAIN | {"architecture": {"mask_channel": True}},
    "no_average": PLAIN | {"average_decay": 0.0},
    "snr_5": PLAIN | {"snr_limit": 5.0},
    "snr_1e6": PLAIN | {"snr_limit": 1e6},
    "no_expression": PLAIN | {"architecture": {"expression": "none"}},
    "bfloat16": PLAIN | {"precision": "bfloat16"},
    "demo": {},
}
PAPER_VARIANTS: dict[str, Values] = {
    "paper": {},
    "wide": {"architecture": {"condition_widths": (64, 64)}},
    "mask_channel": {"architecture": {"mask_channel": True}},
    "bfloat16": {"precision": "bfloat16"},
    "separate": {"architecture": {"expression": "separate"}},
    "no_expression": {"architecture": {"expression": "none"}},
    "no_features": {"architecture": {"features": "none"}},
    "keep_latents": {"keep_latents": True},
    "snr_5": {"snr_limit": 5.0},
    "no_average": {"average_decay": 0.0},
    "smooth_planes": {"plane_smoothness": 30.0},
}
PREFIX = {"psnr_head": "psnr", "ssim_head": "ssim", "flip_head": "flip"}


def measured(avatar: Avatar, film: Pictures) -> list[dict[str, float]]:
    """Figures of every picture of a film."""
    rows = []
    for index, picture in enumerate(render_views(avatar, film, *avatar.sampling, seed=0)):
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
    """Train, render and print each variant."""
    parser = options(__doc__)
    parser.add_argument("--blink", default="EXP-5-mouth:6", help="a training sequence and time step of closed eyes")
    parser.add_argument("--pretrained", help="folder of a latent diffusion model that halves the sides")
    parser.add_argument("--variants", nargs="+", help="names; all by default")
    parser.add_argument("--texture-steps", type=int, default=100, help="without --pretrained, which has none")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    variants = PAPER_VARIANTS if given.pretrained else VARIANTS
    names = given.variants or list(variants)
    if unknown := set(names) - variants.keys():
        parser.error(f"no variant {' '.join(sorted(unknown))}; expected some of {' '.join(variants)}")
    torch.set_flush_denormal(True)
    budget: dict[str, Any] = {"steps": given.steps, "seed": given.seed}
    common = paper(given.pretrained) if given.pretrained else HALF_SIZE | {"texture_steps": given.texture_steps}
    common = laid_over(common, budget)
    training, both, camera = (
        small_pictures(given, HALF, *new) for new in ((False, False), (True, True), (False, True))
    )
    blink = [f"{view.buffers.sequence}:{view.step}" for view in camera.views].index(given.blink)
    results = {}
    for name in names:
        started = time.monotonic()
        settings = TrainSettings.model_validate(laid_over(common, variants[name]))
        avatar = trained_avatar(settings, training)
        films = [measured(avatar, film) for film in (both, camera)]
        row: dict[str, Any] = {split: mean(film) for split, film in zip(("both", "camera"), films, strict=True)}
        row |= {"blink": films[1][blink]["eyes"], "seconds": time.monotonic() - started}
        results[name] = rounded(row)
        print(name, *(f"{part} {value}" for part, value in results[name].items()), flush=True)
    told = budget | {"pretrained": given.pretrained, "threads": torch.get_num_threads()}
    print(json.dumps(told | {"variants": results}))


def rounded(values: Any) -> Any:
    """Numbers with three decimals, also in nested dicts."""
    return {key: rounded(value) for key, value in values.items()} if isinstance(values, dict) else round(values, 3)


if __name__ == "__main__":
    main()
