"""Pictures of an avatar for a whole sequence."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.avatar.data.pictures import Pictures, moved, to_bytes
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar
from pipeline.avatar.model.pretrained import load_tiny_decoder
from pipeline.avatar.model.schedule import shared_noise


def read_to_draw(path: Path, decoder: str | None, compile_mode: str, device: str = "cpu") -> Avatar:
    """The avatar of a file on the device, with `render.decoder` and `render.compile`.

    Raises DataError naming the file, or a decoder that is missing or that decodes other latents.
    """
    avatar = read_avatar(path)
    if decoder:
        avatar.autoencoder.decode_with(load_tiny_decoder(decoder), decoder)
    avatar.to(device)
    avatar.compile_networks(compile_mode)
    return avatar


def draw(avatar: Avatar, pictures: Pictures, steps: int, eta: float, seed: int) -> Iterator[torch.Tensor]:
    """Yield pictures (h, w, 3) uint8, in the order of the views.

    Every picture starts from the same noise and gets the same noise in every step, so flicker has no source there.
    Each is drawn alone: convolutions round differently for other batch sizes (1e-6 of the range at 144x192 on two
    cores), and a picture must not depend on its neighbours.
    """
    device = avatar.text.device
    noise = shared_noise(avatar.latent_shape(*pictures.sides(0)), steps, seed).to(device)
    for index in range(len(pictures)):
        (buffers,) = moved(pictures[index][:1], device)
        yield to_bytes(avatar.render(buffers, noise, steps, eta))[0].cpu()


def draw_timed(
    avatar: Avatar, pictures: Pictures, steps: int, eta: float, seed: int, most: int | None = None
) -> tuple[np.ndarray, float]:
    """The first `most` pictures, all when None, (T, h, w, 3) uint8, and how many are drawn per second.

    The first picture, in which kernels are chosen and memory is taken, is left out of the time when it is not alone.
    """
    film, ends, started = [], [], time.perf_counter()
    for picture in draw(avatar, pictures, steps, eta, seed):
        film.append(picture.numpy())
        ends.append(time.perf_counter())
        if len(film) == most:
            break
    spent = ends[-1] - (ends[0] if len(ends) > 1 else started)
    return np.stack(film), max(len(film) - 1, 1) / spent
