"""What a training run shows of itself: its figures, and sample pictures beside what they should be."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboardX import SummaryWriter

from pipeline.avatar.data.pictures import Pictures, moved, to_bytes
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.schedule import shared_noise
from pipeline.store.chunk import publish

COLUMNS = 4


def preview(avatar: Avatar, pictures: Pictures) -> np.ndarray:
    """A few views evenly chosen, (2 h, n w, 3) uint8: the row above is predicted in one step, the row below is real."""
    columns = []
    for index in range(0, len(pictures), max(len(pictures) // COLUMNS, 1))[:COLUMNS]:
        buffers, target = pictures.with_target(index)
        buffers, target = moved(buffers, avatar.text.device), moved(target, avatar.text.device)
        noise = shared_noise(avatar.latent_shape(*target.head.shape[1:]), count=1, seed=0).to(avatar.text.device)
        columns.append(torch.cat([to_bytes(avatar.render(buffers, noise, steps=1, eta=0.0))[0], target.rgb[0]]))
    return torch.cat(columns, dim=1).cpu().numpy()


class Board:
    """A folder with an event file for TensorBoard, and the sample pictures as PNG too."""

    def __init__(self, folder: Path):
        self._folder, self._writer = folder, SummaryWriter(str(folder))

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Add the figures of one step."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Add a sample picture (h, w, 3) uint8."""
        self._writer.add_image("samples", picture, step, dataformats="HWC")
        with publish(self._folder / f"step_{step:06d}.png") as partial:
            Image.fromarray(picture).save(partial, format="PNG")

    def close(self) -> None:
        """Write what is still waiting."""
        self._writer.close()
