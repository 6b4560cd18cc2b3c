"""Render one sequence, or a span of it, from one rig with an avatar: the pictures, and a film of a whole sequence."""

import argparse
from collections.abc import Callable, Iterator
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
from pipeline.film import rounds, write_frames
from pipeline.settings.render import RenderSettings
from pipeline.store.chunk import Layout, chunk_writer
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


def beside(targets: Reel | None, camera: str, shape: tuple[int, ...]) -> Callable[[int], list[np.ndarray]]:
    """What the camera of that name saw at a step, or the first one where a driver's rig has none: a picture (h, w, 3).

    `shape` (T, h, w, 3) is that of the rendered ones. Without targets there is no picture.
    """
    if targets is None:
        return lambda step: []
    place = camera_places(targets, "rgb").get(camera, 0)
    found = (targets.steps, *targets.shape("rgb")[1:])
    if found != shape:
        raise DataError(f"{targets.paths[0]}: pictures of shape {found}; expected {shape} as rendered")
    return lambda step: [targets.picture("rgb", step, place)]


def publish_film(given: argparse.Namespace, real: Callable[[int], list[np.ndarray]]) -> None:
    """Publish the first camera's pictures beside the real ones, read one by one from the rendered chunk."""
    settings: RenderSettings = given.settings
    with open_reels([given.output]) as reels:
        rendered = single(reels)

        def frames() -> Iterator[np.ndarray]:
            for step in range(rendered.steps):
                yield np.concatenate([rendered.picture("rgb", step, 0), *real(step)], axis=1)

        rate = settings.frames_per_second
        write_frames(given.film, frames, rate, rounds(rendered.steps, rate, settings.film_seconds), settings.film_scale)


def main() -> None:
    """Read, render view by view into the chunk, publish it and a film of it."""
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
        first, stop, sides = buffers.start, buffers.steps, pictures.sides(0)
        real = beside(targets, next(iter(cameras)), (stop - first, *sides, 3)) if given.film else None
        steps = settings.steps or avatar.sampling.steps
        eta = avatar.sampling.eta if settings.eta is None else settings.eta
        cli.log.info("%d steps of diffusion, eta %g", steps, eta)
        attributes = {key: buffers.attributes[key] for key in ("subject", "sequence")}
        attributes |= {"start": first, "stop": stop, "cameras": list(cameras)}
        axes, shape = ("time", "camera", "row", "column", "channel"), (stop - first, len(cameras), *sides, 3)
        layouts = {"rgb": Layout(shape, np.uint8, axes, "sRGB", "the avatar over white")}
        progress = cli.Progress(len(pictures), "pictures")
        with chunk_writer(given.output, layouts, cli.record("render", given) | attributes) as chunk:
            rendered = render_views(avatar, pictures, steps, eta, settings.seed, settings.batch)
            for number, picture in enumerate(rendered):
                chunk.put("rgb", divmod(number, len(cameras)), picture.numpy())
                progress.update(number + 1)
        if real:
            publish_film(given, real)


if __name__ == "__main__":
    cli.run(main)
