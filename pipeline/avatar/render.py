"""Pictures of an avatar for a whole sequence."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.avatar.data.ahead import READ_AHEAD, Ahead
from pipeline.avatar.data.pictures import Pictures, moved, pinned, stack, to_bytes
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.pretrained import load_tiny_decoder
from pipeline.avatar.model.schedule import shared_noise
from pipeline.settings.precision import Computing

UNDER_WAY = {"cpu": 0, "cuda": 1}  # batches that the host does not wait for


def read_to_render(path: Path, decoder: str | None, computing: Computing, device: str) -> Avatar:
    """The avatar of a file on the device, with `render.decoder`, `render.precision` and `render.compile`.

    Raises DataError naming the file, or a decoder that is missing or that decodes other latents.
    """
    avatar = read_avatar(path)
    if decoder:
        avatar.autoencoder.decode_with(load_tiny_decoder(decoder), decoder)
    avatar.to(device).channels_last()
    avatar.compute_in(computing.precision)
    avatar.compile_networks(computing.compile)
    return avatar


def render_views(
    avatar: Avatar, pictures: Pictures, steps: int, eta: float, seed: int, batch: int = 1
) -> Iterator[torch.Tensor]:
    """Yield pictures (h, w, 3) uint8, in the order of the views.

    Every picture starts from the same noise and gets the same noise in every step, so flicker has no source there.
    All batches are of one size, the last filled up with its last picture: convolutions round differently for other
    sizes (1e-6 of the range at 144x192 on two cores), and a picture must not depend on its neighbours. For a GPU
    the next pictures are read while these are rendered, and these reach the host while the next are rendered.
    """
    device = avatar.text.device
    noise = shared_noise(avatar.latent_shape(*pictures.sides(0)), steps, seed).to(device)
    count, last = -(-len(pictures) // batch), len(pictures) - 1

    def read(number: int) -> Buffers:
        views = [pictures[min(index, last)][0] for index in range(number * batch, (number + 1) * batch)]
        return pinned(stack(views)) if device.type == "cuda" else stack(views)

    ahead: Ahead[Buffers] = Ahead(read, count, READ_AHEAD[device.type], threads=1)
    arriving: deque[tuple[int, Download]] = deque()
    try:
        for number in range(count):
            buffers = moved(ahead.take(number), device)
            arriving.append((number, Download(to_bytes(avatar.render(buffers, noise, steps, eta)))))
            while len(arriving) > UNDER_WAY[device.type]:
                yield from _arrived(*arriving.popleft(), len(pictures), batch)
        for waiting in arriving:
            yield from _arrived(*waiting, len(pictures), batch)
    finally:
        ahead.close()
        pictures.close()


class Download:
    """Pictures, (B, h, w, 3) uint8, on their way to the host."""

    def __init__(self, pictures: torch.Tensor):
        self._host, self._event = pictures.to("cpu", non_blocking=True), None
        if pictures.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def arrived(self) -> torch.Tensor:
        """The pictures, once they are there."""
        if self._event:
            self._event.synchronize()
        return self._host


def _arrived(number: int, pictures: Download, count: int, batch: int) -> torch.Tensor:
    """The pictures of a batch without those that only fill it up."""
    return pictures.arrived()[: count - number * batch]


def render_timed(
    avatar: Avatar, pictures: Pictures, steps: int, eta: float, seed: int, most: int | None = None, batch: int = 1
) -> tuple[np.ndarray, float]:
    """The first `most` pictures, all when None, (T, h, w, 3) uint8, and how many are rendered per second.

    The first batch, in which kernels are chosen and memory is taken, is left out of the time when it is not alone.
    """
    film, ends, started = [], [], time.perf_counter()
    for picture in render_views(avatar, pictures, steps, eta, seed, batch):
        film.append(picture.numpy())
        ends.append(time.perf_counter())
        if len(film) == most:
            break
    first = min(batch, len(ends) - 1)
    spent = ends[-1] - (ends[first - 1] if first else started)
    return np.stack(film), (len(film) - first) / spent
