"""What gaze and lids are worth to an avatar: short trainings on what lies round the eyes, with and without them.

    python -m benchmarks.eye_pose --results results/904 --held-out-sequence SEN-09-look_and_talk

The results of a subject up to buffers and targets are enough. Only a window round the eyes is cut out of every
picture, so that a training takes a minute or two. Prints a JSON line per kind of `train.architecture.eyes`: PSNR of
the pixels round the eyes in the held-out sequence from the held-out camera, of all time steps, and of those in which
an eye is shut (lids under 4 mm in the track). --film: the real eyes and below them those of each kind; --picture: the
same as one picture, step beside step.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.short_training import Windows, parser, trained_avatar, windows
from pipeline.avatar.data.pictures import Target, to_bytes
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.schedule import shared_noise
from pipeline.film import titled, write_film
from pipeline.head.model.regions import region
from pipeline.settings.train import TrainSettings

KINDS = ("none", "tokens", "turned")
HEIGHT, WIDTH = 32, 64
SHUT_MM = 4.0
ENLARGED, FRAMES_PER_SECOND = 8, 4


def eyes_seen(buffers: Buffers, target: Target) -> list[torch.Tensor]:
    """The pixels (h, w) bool round the eyes."""
    return [(region(buffers.x_can, "eyes") & buffers.mask)[0]]


def psnr_round_eyes(avatar: Avatar, pictures: Windows) -> tuple[np.ndarray, list[np.ndarray]]:
    """PSNR (N,) of the pixels round the eyes of each view, and the pictures (h, w, 3) uint8."""
    noise = shared_noise(avatar.latent_shape(HEIGHT, WIDTH), 1, 0)
    values, rendered = [], []
    for index in range(len(pictures)):
        buffers, target = pictures[index]
        shown = to_bytes(avatar.render(buffers, noise, 1, 0.0))[0]
        counts = region(buffers.x_can[0], "eyes") & buffers.mask[0]
        error = (shown.float() - target.rgb[0].float())[counts] / 255
        values.append(-10 * np.log10(float(error.square().mean())))
        rendered.append(shown.numpy())
    return np.array(values), rendered


def main() -> None:
    """Train each kind, render, print."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--kind", choices=KINDS, nargs="+", default=KINDS)
    options.add_argument("--film", type=Path, help=".mp4")
    options.add_argument("--picture", type=Path)
    given: argparse.Namespace = options.parse_args()
    learnt, held_out = windows(given, HEIGHT, WIDTH, eyes_seen)
    shut = np.array([view.eyes[4:].min() < SHUT_MM for view in held_out.views])
    films = {"real": np.stack([held_out[index][1].rgb[0].numpy() for index in range(len(held_out))])}
    for kind in given.kind:
        settings = TrainSettings(
            texture_steps=given.steps // 4,
            steps=given.steps,
            batch=given.batch,
            crop_height=HEIGHT,
            crop_width=WIDTH,
            crop_share=1.0,
            architecture={"eyes": kind},
        )
        avatar = trained_avatar(settings, learnt)
        values, rendered = psnr_round_eyes(avatar, held_out)
        films[kind] = np.stack(rendered)
        figures = {"eyes": kind, "pictures": len(learnt), "psnr_db": round(float(values.mean()), 2)}
        if shut.any():
            figures["psnr_shut_db"] = round(float(values[shut].mean()), 2)
        print(json.dumps(figures), flush=True)
        if given.picture:
            rows = np.concatenate([np.concatenate(film, 1) for film in films.values()])
            Image.fromarray(rows.repeat(3, 0).repeat(3, 1)).save(given.picture)
    if given.film:
        large = {name: film.repeat(ENLARGED, 1).repeat(ENLARGED, 2) for name, film in films.items()}
        parts = [titled(film, f"eyes: {name}") for name, film in large.items()]
        write_film(given.film, np.concatenate(parts, 1), FRAMES_PER_SECOND, 12, 1)


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main()
