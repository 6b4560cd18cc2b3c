"""Render one sequence, or a span of it, from one rig with an avatar: the pictures, and a film of a whole sequence."""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.avatar.data.chosen import camera_places, chosen_cameras, single
from pipeline.avatar.data.pictures import Pictures, sequence_views
from pipeline.avatar.model.checkpoint import require_codes
from pipeline.avatar.render import read_to_render, render_views
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.film import write_film
from pipeline.settings.render import RenderSettings
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.reel import Reel, open_reels


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, RenderSettings)
    result.add_argument("--avatar", type=cli.existing_file, required=True, help="avatar.safetensors")
    result.add_argument("--buffers", type=cli.existing_file, nargs="+", required=True, help="all spans of one sequence")
    result.add_argument("--part", action="store_true", help="the buffers are some spans of the sequence, not all")
    result.add_argument("--track", type=cli.existing_file, required=True, help="the sequence's track")
    result.add_argument(
        "--targets", type=cli.existing_file, nargs="*", default=[], help="the real pictures, for the film"
    )
    result.add_argument("--cameras", default="", help="names, separated by commas; all when empty")
    result.add_argument("--output", type=Path, required=True, help="renders/{sequence}/{rig}.zarr.zip")
    result.add_argument("--film", type=Path, help="renders/{sequence}/{rig}.mp4, the first camera, beside the real one")
    return result.parse_args()


def real_pictures(targets: Reel, camera: str, like: np.ndarray) -> np.ndarray:
    """What the camera of that name saw, or the first one where a driver's rig has none: (T, h, w, 3) as `like`."""
    place = camera_places(targets, "rgb").get(camera, 0)
    found = (targets.steps, *targets.shape("rgb")[1:])
    if found != like.shape:
        raise DataError(f"{targets.paths[0]}: pictures of shape {found}; expected {like.shape} as rendered")
    return np.stack([targets.picture("rgb", step, place) for step in range(targets.steps)])


def main() -> None:
    """Read, render every view, publish pictures and film."""
    given = arguments()
    settings = given.settings
    torch.set_flush_denormal(True)
    avatar = read_to_render(given.avatar, settings.decoder, settings, claim(settings.device))
    with open_reels(given.buffers, given.part) as buffer_reels, open_reels(given.targets) as target_reels:
        buffers = single(buffer_reels)
        targets = single(target_reels) if given.targets else None
        cameras = chosen_cameras(buffers, given.cameras)
        pictures = Pictures(sequence_views(buffers, None, given.track, list(cameras.values())), keep=False)
        require_codes(given.avatar, avatar, given.track, len(pictures.views[0].z_exp))
        progress, rendered = cli.Progress(len(pictures), "pictures"), []
        steps = settings.steps or avatar.sampling.steps
        eta = avatar.sampling.eta if settings.eta is None else settings.eta
        cli.log.info("%d steps of diffusion, eta %g", steps, eta)
        for picture in render_views(avatar, pictures, steps, eta, settings.seed, settings.batch):
            rendered.append(picture.numpy())
            progress.update(len(rendered))
        first, stop = buffers.start, buffers.steps
        rgb = np.stack(rendered).reshape(stop - first, len(cameras), *rendered[0].shape)  # (T, C, h, w, 3)
        shown = [rgb[:, 0]]
        if given.film and targets:
            shown.append(real_pictures(targets, next(iter(cameras)), rgb[:, 0]))
        attributes = {key: buffers.attributes[key] for key in ("subject", "sequence")}
    if given.film:
        film = np.concatenate(shown, axis=2)
        write_film(given.film, film, settings.frames_per_second, settings.film_seconds, settings.film_scale)
    attributes |= {"start": first, "stop": stop, "cameras": list(cameras)}
    about = Array(rgb, ("time", "camera", "row", "column", "channel"), "sRGB", "the avatar over white")
    write_chunk(given.output, {"rgb": about}, cli.record("render", given) | attributes)


if __name__ == "__main__":
    cli.run(main)
