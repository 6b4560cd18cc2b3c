"""Pictures of an avatar for a whole sequence."""

from collections.abc import Iterator

import torch

from pipeline.avatar.data import Pictures, stack, to_bytes
from pipeline.avatar.model import Avatar
from pipeline.avatar.schedule import shared_noise


def draw(avatar: Avatar, pictures: Pictures, steps: int, eta: float, seed: int, batch: int) -> Iterator[torch.Tensor]:
    """Yield batches of pictures (b, h, w, 3) uint8, in the order of the views.

    Every picture starts from the same noise and gets the same noise in every step, so flicker has no source there,
    and none depends on its neighbours.
    """
    noise = shared_noise(avatar.latent_shape(*pictures.views[0].buffers.shape("mask")[1:]), steps, seed)
    for first in range(0, len(pictures), batch):
        views = range(first, min(first + batch, len(pictures)))
        buffers = stack([pictures[index][0] for index in views])
        yield to_bytes(avatar.render(buffers, noise, steps, eta))
