"""Train an avatar on the training sequences and cameras; resumable, with sample pictures in the state folder."""

import argparse
import hashlib
import signal
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from pipeline import cli
from pipeline.avatar.checkpoint import write_avatar
from pipeline.avatar.data import Pictures, View, camera_places, sequence_views
from pipeline.avatar.loop import Trainer
from pipeline.avatar.model import Avatar
from pipeline.avatar.preview import Board, preview
from pipeline.errors import DataError
from pipeline.settings.train import TrainSettings
from pipeline.store.chunk import read_attributes
from pipeline.store.reel import Reel, open_reels


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, TrainSettings)
    for kind in ("buffers", "targets", "tracks"):
        result.add_argument(f"--{kind}", type=cli.existing_file, nargs="+", required=True, help="training sequences")
    result.add_argument("--held-out-cameras", default="", help="names, separated by commas, that training never sees")
    result.add_argument("--state", type=Path, required=True, help="folder of training states and sample pictures")
    result.add_argument("--output", type=Path, required=True, help="avatar.safetensors")
    return result.parse_args()


def state_folder(given: argparse.Namespace) -> Path:
    """A folder of its own for every combination of settings, code and data, so that no state is continued wrongly."""
    key = hashlib.sha256(f"{given.settings.model_dump_json()} {given.code} {given.held_out_cameras}".encode())
    for path in (*given.buffers, *given.targets, *given.tracks):
        with path.open("rb") as file:
            key.update(hashlib.file_digest(file, "sha256").digest())
    return given.state / key.hexdigest()[:16]


def training_views(given: argparse.Namespace, buffers: dict[str, Reel], targets: dict[str, Reel]) -> list[View]:
    """Every view of the training sequences but those of the held-out cameras."""
    tracks = {read_attributes(path)["sequence"]: path for path in given.tracks}
    if not buffers.keys() == targets.keys() == tracks.keys():
        raise DataError(
            f"buffers of {list(buffers)}, targets of {list(targets)}, tracks of {list(tracks)}; expected equal"
        )
    held_out = given.held_out_cameras.split(",")
    views = []
    for sequence, reel in buffers.items():
        places = [place for name, place in camera_places(reel).items() if name not in held_out]
        views += sequence_views(reel, targets[sequence], tracks[sequence], places)
    if not views:
        raise DataError(f"{given.buffers[0]}: no picture is left to train on without cameras {held_out}")
    return views


def main() -> None:
    """Read, train, publish. SIGTERM saves the state and ends with status 143; the next call carries on."""
    given = arguments()
    torch.set_flush_denormal(True)
    folder, stop = state_folder(given), []
    state = folder / "state.safetensors"
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    with ExitStack() as stack:
        buffers, targets = (stack.enter_context(open_reels(paths)) for paths in (given.buffers, given.targets))
        pictures = Pictures(training_views(given, buffers, targets))
        torch.manual_seed(given.settings.seed)
        avatar = Avatar(given.settings.architecture, len(pictures.views[0].z_exp))
        avatar.latent_shape(*pictures.sides(0))  # refuses pictures that cannot be folded
        avatar.describe_data(*pictures.statistics())
        trainer = Trainer(avatar, pictures, given.settings)
        main_process = trainer.accelerator.is_main_process
        if main_process:
            board = stack.enter_context(closing(Board(folder)))
            cli.log.info("%d pictures, %d trained numbers, state in %s", len(pictures), trainer.size, folder)
        trainer.run(
            state,
            preview=lambda: board.picture(trainer.step, preview(avatar, pictures)),
            stopping=lambda: bool(stop),
            record=lambda figures: board.figures(trainer.step, figures),
        )
    if trainer.step < trainer.total:
        sys.exit(128 + signal.SIGTERM)
    if main_process:
        write_avatar(given.output, avatar, trainer.average, trainer.step)
        state.unlink(missing_ok=True)


if __name__ == "__main__":
    cli.run(main)
