"""What benchmarks of training share: views of a subject's results, and an avatar as short training leaves it."""

from contextlib import ExitStack
from pathlib import Path

import torch

from pipeline.avatar.checkpoint import trained_tensors
from pipeline.avatar.data import Pictures, View, camera_places, sequence_views
from pipeline.avatar.loop import Trainer
from pipeline.avatar.model import Avatar
from pipeline.settings.train import TrainSettings
from pipeline.store.reel import open_reels


def views_of(stack: ExitStack, results: Path, sequences: list[str], camera: str, held_out: bool) -> list[View]:
    """The named camera's views of some sequences, or all other cameras'; their files stay open as long as the stack."""
    views = []
    for sequence in sequences:
        kinds = (f"buffers/{sequence}/capture", f"targets/{sequence}")
        paths = [sorted((results / kind).glob("*.zarr.zip")) for kind in kinds]
        buffers, targets = (stack.enter_context(open_reels(found))[sequence] for found in paths)
        places = [place for name, place in camera_places(buffers).items() if (name == camera) == held_out]
        views += sequence_views(buffers, targets, results / "tracks" / f"{sequence}.zarr.zip", places)
    return views


def trained_avatar(settings: TrainSettings, pictures: Pictures) -> Avatar:
    """An avatar after all steps of the settings, with its averaged weights, ready to render."""
    torch.manual_seed(settings.seed)
    codes, depth, x_can = pictures.statistics()
    avatar = Avatar(settings.architecture, codes.shape[1])
    avatar.describe_data(codes, depth, x_can)
    trainer = Trainer(avatar, pictures, settings)
    while trainer.step < trainer.total:
        trainer.train_step()
    with torch.no_grad():
        for name, tensor in trained_tensors(avatar).items():
            tensor.copy_(trainer.average[name])
    return avatar.eval()
