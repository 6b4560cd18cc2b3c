"""film: one film of all spans that render made: over a colour or with alpha, beside the driver's real video."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.avatar.alpha import over, with_alpha
from pipeline.avatar.data.chosen import camera_places, single
from pipeline.errors import DataError
from pipeline.film import rounds, write_frames, write_pictures
from pipeline.raster.coding import read_buffers
from pipeline.settings.film import FilmSettings
from pipeline.store.made_by import as_text
from pipeline.store.reel import Reel, open_reels

PICTURES = ".zip"


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, FilmSettings)
    result.add_argument("--pictures", type=cli.existing_file, nargs="+", required=True, help="all spans of a film")
    result.add_argument(
        "--buffers", type=cli.existing_file, nargs="+", required=True, help="its buffers, for the masks"
    )
    result.add_argument("--targets", type=cli.existing_file, nargs="*", default=[], help="the driver's real pictures")
    result.add_argument("--camera", default="", help="the real camera that is shown; the first if there is none such")
    result.add_argument("--rate", type=int, required=True, help="pictures in a second")
    result.add_argument("--seconds", type=float, required=True, help="a shorter film is repeated up to this length")
    result.add_argument("--scale", type=int, required=True, help="film pixels per pixel along each side")
    result.add_argument("--output", type=Path, required=True, help="renders/{motion}/{rig}.mp4, .mov, .webm, .png.zip")
    return result.parse_args()


def frames(pictures: Reel, buffers: Reel, targets: Reel | None, given: argparse.Namespace) -> Iterator[np.ndarray]:
    """The film's pictures (h, w, 3 or 4) uint8, one after another."""
    code = given.settings.background.removeprefix("#")
    red, green, blue = bytes.fromhex(code)
    colour = red, green, blue
    place = camera_places(targets, "rgb").get(given.camera, 0) if targets else 0
    alpha_kept = given.output.suffix in (".mov", ".webm") or (
        given.output.suffix == PICTURES and given.settings.png == "alpha"
    )
    for step in range(pictures.steps):
        picture, mask = pictures.picture("rgb", step, 0), read_buffers(buffers, step, 0, ("mask",))["mask"]
        if alpha_kept:
            yield with_alpha(picture, mask)
            continue
        shown = [over(picture, mask, colour)]
        if targets:
            real, alpha = (targets.picture(name, step, place) for name in ("rgb", "alpha"))
            shown.append(over(real, alpha > 127, colour))
        yield np.concatenate(shown, axis=1)


def main() -> None:
    """Read picture by picture, publish the film."""
    given = arguments()
    with (
        open_reels(given.pictures) as picture_reels,
        open_reels(given.buffers) as buffer_reels,
        open_reels(given.targets) as target_reels,
    ):
        pictures, buffers = single(picture_reels), single(buffer_reels)
        targets = single(target_reels) if given.targets else None
        if pictures.shape("rgb")[:3] != buffers.shape("depth") or pictures.steps != buffers.steps:
            raise DataError(
                f"{pictures.paths[0]}: {pictures.steps} steps of {pictures.shape('rgb')}; expected {buffers.steps} of "
                f"{buffers.shape('depth')} as {buffers.paths[0]}"
            )
        if targets and (targets.steps != pictures.steps or targets.shape("rgb")[1] != pictures.shape("rgb")[1]):
            raise DataError(
                f"{targets.paths[0]}: {targets.steps} steps of {targets.shape('rgb')}; expected {pictures.steps} as "
                f"high as {pictures.shape('rgb')} of {pictures.paths[0]}"
            )
        comment = as_text(cli.record("film", given))
        if given.output.suffix == PICTURES:
            write_pictures(given.output, frames(pictures, buffers, targets, given), comment)
        else:
            write_frames(
                given.output,
                lambda: frames(pictures, buffers, targets, given),
                given.rate,
                rounds(pictures.steps, given.rate, given.seconds),
                given.scale,
                comment,
            )


if __name__ == "__main__":
    cli.run(main)
