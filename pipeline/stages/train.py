"""Train an avatar on the training sequences and cameras; resumable, with sample pictures in the state folder."""

from pipeline import cli
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer
from pipeline.avatar.train.session import parser, train
from pipeline.settings.train import TrainSettings


def main() -> None:
    """Read, train, publish."""
    given = parser(__doc__, TrainSettings).parse_args()

    def trainer(pictures: Pictures) -> Trainer:
        avatar = Avatar(given.settings.architecture, len(pictures.views[0].z_exp))
        avatar.latent_shape(*pictures.sides(0))  # refuses pictures that cannot be folded
        avatar.describe_data(*pictures.statistics())
        return Trainer(avatar, pictures, given.settings)

    train(given, "train", trainer)


if __name__ == "__main__":
    cli.run(main)
