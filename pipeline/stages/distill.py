"""Make an avatar that renders in few steps of diffusion out of a trained one; resumable as training is."""

import argparse

from pipeline import cli
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.checkpoint import load_avatar, require_codes
from pipeline.avatar.train.distillation import Distiller
from pipeline.avatar.train.session import parser, train
from pipeline.settings.distill import DistillSettings


def arguments() -> argparse.Namespace:
    """The command line."""
    result = parser(__doc__, DistillSettings)
    result.add_argument("--avatar", type=cli.existing_file, required=True, help="the trained avatar.safetensors")
    return result.parse_args()


def main() -> None:
    """Read, train on, publish."""
    given = arguments()

    def distiller(pictures: Pictures) -> Distiller:
        avatar = load_avatar(given.avatar)
        require_codes(given.avatar, avatar, given.tracks[0], len(pictures.views[0].z_exp))
        return Distiller(avatar, pictures, given.settings)

    train(given, "distill", distiller, given.avatar)


if __name__ == "__main__":
    cli.run(main)
