"""Render one held-out film in few steps of diffusion and in many: how fast, how good, and both side by side."""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.avatar.data.chosen import chosen_cameras, single
from pipeline.avatar.data.pictures import Pictures, Target, sequence_views
from pipeline.avatar.model.checkpoint import require_codes
from pipeline.avatar.model.schedule import Sampling
from pipeline.avatar.render import read_to_render, render_timed
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.evaluate.measures.image import figures
from pipeline.film import titled, write_film
from pipeline.settings.precision import Computing
from pipeline.settings.speed import SpeedSettings
from pipeline.store.chunk import publish
from pipeline.store.made_by import as_text
from pipeline.store.reel import open_reels

MEANS = ("psnr_head", "ssim_head", "flip_head")
COLUMNS = ("steps", "eta", "pictures", "pictures_per_s", *MEANS)


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, SpeedSettings)
    result.add_argument("--trained", type=cli.existing_file, required=True, help="avatar.safetensors, for many steps")
    result.add_argument("--few", type=cli.existing_file, required=True, help="the avatar of the films, for few steps")
    for kind in ("buffers", "targets"):
        result.add_argument(f"--{kind}", type=cli.existing_file, nargs="+", required=True, help="of one sequence")
    result.add_argument("--track", type=cli.existing_file, required=True, help="the sequence's track")
    result.add_argument("--decoder", help="render.decoder, which decodes both; the avatar's own when absent")
    result.add_argument("--compile", default="none", help="render.compile, for both")
    result.add_argument("--precision", default="float32", help="render.precision, for both")
    result.add_argument("--camera", required=True, help="name of the camera that sees the film")
    result.add_argument("--pixels-per-degree", type=float, default=67.0, help="FLIP's viewing condition")
    result.add_argument("--output", type=Path, required=True, help="speed.tsv, a row for few steps and one for many")
    result.add_argument("--film", type=Path, required=True, help="speed.mp4: few steps, many steps, the real video")
    return result.parse_args()


def means(film: np.ndarray, targets: list[Target], pixels_per_degree: float) -> list[float]:
    """MEANS over the pictures of a film (T, h, w, 3)."""
    each = [
        figures(picture, target.rgb[0].numpy(), target.head[0].numpy(), pixels_per_degree)
        for picture, target in zip(film, targets, strict=True)
    ]
    return [float(np.mean([one[name] for one in each])) for name in MEANS]


def main() -> None:
    """Render twice, measure, publish film and table."""
    given = arguments()
    settings = given.settings
    if settings.steps is None:
        raise DataError("speed.steps is null; expected the number of steps of the slow film")
    torch.set_flush_denormal(True)
    device = claim(settings.device)
    computing = Computing(device=settings.device, precision=given.precision, compile=given.compile)
    files = {given.few, given.trained}
    avatars = {path: read_to_render(path, given.decoder, computing, device) for path in files}
    fast, trained = avatars[given.few], avatars[given.trained]
    many = trained.sampling._replace(steps=settings.steps)
    few = fast.sampling if fast.sampling.steps < many.steps else Sampling(1, eta=0.0)
    ways = [(given.few, fast, few), (given.trained, trained, many)]
    with open_reels(given.buffers) as buffer_reels, open_reels(given.targets) as target_reels:
        buffers = single(buffer_reels)
        places = list(chosen_cameras(buffers, given.camera).values())[:1]
        pictures = Pictures(sequence_views(buffers, single(target_reels), given.track, places))
        films, rows = [], []
        first = (pictures[index][1] for index in range(min(len(pictures), settings.frames)))
        shown = [target for target in first if target is not None]
        for path, avatar, (steps, eta) in ways:
            require_codes(path, avatar, given.track, len(pictures.views[0].z_exp))
            film, per_second = render_timed(avatar, pictures, steps, eta, settings.seed, len(shown))
            rows.append((steps, eta, len(film), per_second, *means(film, shown, given.pixels_per_degree)))
            films.append(titled(film, f"{steps} step" + "s" * (steps > 1)))
            cli.log.info("%d steps: %.3g pictures/s", steps, per_second)
        films.append(titled(np.concatenate([target.rgb.numpy() for target in shown]), "real"))
    timing = settings.frames_per_second, settings.film_seconds, settings.film_scale
    write_film(given.film, np.concatenate(films, axis=2), *timing, comment=as_text(cli.record("speed", given)))
    with publish(given.output) as partial:
        lines = [COLUMNS, *((f"{value:.4g}" for value in row) for row in rows)]
        partial.write_text("".join("\t".join(line) + "\n" for line in lines))


if __name__ == "__main__":
    cli.run(main)
