"""Sample pictures of a training run: what the avatar says beside what it should say."""

from pathlib import Path

import torch
from PIL import Image

from pipeline.avatar.data import Pictures, to_bytes
from pipeline.avatar.model import Avatar
from pipeline.avatar.schedule import shared_noise
from pipeline.store.chunk import publish

COLUMNS = 4


def write_preview(path: Path, avatar: Avatar, pictures: Pictures) -> None:
    """Publish a PNG with a few views evenly chosen: the row above is predicted in one step, the row below is real."""
    columns = []
    for index in range(0, len(pictures), max(len(pictures) // COLUMNS, 1))[:COLUMNS]:
        buffers, target = pictures[index]
        noise = shared_noise(avatar.latent_shape(*target.head.shape[1:]), count=1, seed=0)
        columns.append(torch.cat([to_bytes(avatar.render(buffers, noise, steps=1, eta=0.0))[0], target.rgb[0]]))
    with publish(path) as partial:
        Image.fromarray(torch.cat(columns, dim=1).numpy()).save(partial, format="PNG")
