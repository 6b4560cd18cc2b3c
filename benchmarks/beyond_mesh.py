"""What places beside the mesh are worth: short trainings on where the head reaches beyond it, with and without them.

    python -m benchmarks.beyond_mesh --results results/901 --steps 300 --batch 4

The results of a subject up to buffers and targets are enough. Windows are cut out of every picture round the pixels of
the head that lie off the mesh, left and right, so that a training takes minutes. Prints a JSON line without and one
with `train.architecture.beyond_mesh`: PSNR in the held-out sequence from the held-out camera of the pixels off the
mesh (as far as the band goes), of those on it, and of the part of the band where the target is head. --picture: real
windows, and below them those of each training; some of them, large.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.short_training import Windows, parser, trained_avatar, windows
from pipeline.avatar.data.pictures import Target, to_bytes
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.schedule import shared_noise
from pipeline.settings.train import TrainSettings

KINDS = {"without": False, "with": True}
HEIGHT, WIDTH = 64, 48
OFF = 2.0  # pixels beside the mesh at least: what a silhouette's own rounding makes is no hair
SHOWN, ENLARGED = 12, 4


def sides_seen(buffers: Buffers, target: Target) -> list[torch.Tensor]:
    """The head's pixels (h, w) bool off the mesh, those in the picture's left half and those in its right."""
    distance = cv2.distanceTransform((~buffers.mask[0]).numpy().astype(np.uint8), cv2.DIST_L2, 5)
    off = target.head[0] & torch.from_numpy(distance > OFF)
    left = torch.arange(off.shape[1]) < off.shape[1] / 2
    return [off & left, off & ~left]


def rendered_by(avatar: Avatar, pictures: Windows) -> tuple[dict[str, float], list[np.ndarray]]:
    """PSNR by part, dB, and the windows (h, w, 3) uint8."""
    noise = shared_noise(avatar.latent_shape(HEIGHT, WIDTH), 1, 0)
    errors: dict[str, list[torch.Tensor]] = {}
    rendered = []
    for index in range(len(pictures)):
        buffers, target = pictures[index]
        shown = to_bytes(avatar.render(buffers, noise, 1, 0.0))[0]
        error = ((shown.float() - target.rgb[0].float()) / 255).square().mean(-1)
        mask = buffers.mask[0]
        beside = buffers.depth[0] < 0
        parts = {"beside_db": beside, "beside_head_db": beside & target.head[0], "on_mesh_db": mask}
        for name, part in parts.items():
            errors.setdefault(name, []).append(error[part])
        rendered.append(shown.numpy())
    pooled = {name: -10 * np.log10(float(torch.cat(found).mean())) for name, found in errors.items()}
    return {name: round(value, 2) for name, value in pooled.items()}, rendered


def main() -> None:
    """Train both, render, print."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    options.add_argument("--picture", type=Path)
    given: argparse.Namespace = options.parse_args()
    learnt, held_out = windows(given, HEIGHT, WIDTH, sides_seen)
    some = np.linspace(0, len(held_out) - 1, min(SHOWN, len(held_out))).round().astype(int)
    rows = [[held_out[index][1].rgb[0].numpy() for index in some]]
    for kind in given.kind:
        settings = TrainSettings(
            texture_steps=given.steps // 4,
            steps=given.steps,
            batch=given.batch,
            crop_height=HEIGHT,
            crop_width=WIDTH,
            architecture={"beyond_mesh": KINDS[kind]},
        )
        figures, rendered = rendered_by(trained_avatar(settings, learnt), held_out)
        print(json.dumps({"beyond_mesh": KINDS[kind], "windows": len(learnt), **figures}), flush=True)
        rows.append([rendered[index] for index in some])
        if given.picture:
            sheet = np.concatenate([np.concatenate(row, 1) for row in rows])
            Image.fromarray(sheet.repeat(ENLARGED, 0).repeat(ENLARGED, 1)).save(given.picture)


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main()
