"""Figures of training steps, which stay on the device until several steps are fetched at once."""

import math
import time
from typing import NamedTuple

import torch

from pipeline.avatar.processes import Processes


class Figures(NamedTuple):
    """What is recorded of a step. `data_wait_s` is how long the step waited for its pictures."""

    loss: float
    learning_rate: float
    plane_learning_rate: float
    images_per_s: float
    data_wait_s: float


class NotFinite(NamedTuple):
    """A step whose loss or gradient is not finite: which of the batch's parts, and what it was."""

    step: int
    parts: list[int]
    what: str


class Ledger:
    """Losses and gradients' norms of the steps since the last `fetch`, on the device.

    Reading a number of a GPU waits until it has done all that it was given, and then has nothing to do. So it is read
    every `every` steps only.
    """

    def __init__(self, processes: Processes, batch: int, parts: int, every: int):
        """`parts`: how many this process works through its share in."""
        self.every, self._processes, self._batch, self._parts = every, processes, batch, parts
        self._rows: list[torch.Tensor] = []  # (processes * parts + 1,): losses and the norm
        self._known: list[tuple[int, tuple[float, float], float]] = []  # step, rates, wait
        self._since = time.monotonic()

    def add(
        self, step: int, losses: list[torch.Tensor], norm: torch.Tensor, rates: tuple[float, float], wait: float
    ) -> torch.Tensor:
        """Take this process's losses () of a step's parts; returns the loss of the whole batch."""
        everyones = norm.new_zeros(self._processes.count * self._parts)
        first = self._processes.index * self._parts
        everyones[first : first + self._parts] = torch.stack(losses)
        everyones = self._processes.sum(everyones)
        self._rows.append(torch.cat([everyones, norm.reshape(1)]))
        self._known.append((step, rates, wait))
        return everyones.sum()

    def start(self) -> None:
        """The time of the next steps begins now."""
        self._since = time.monotonic()

    def fetch(self) -> tuple[list[tuple[int, Figures]], NotFinite | None]:
        """Figures by step of the steps since the last call, in every process, and the first step that is not finite."""
        if not self._rows:
            return [], None
        rows = torch.stack(self._rows).tolist()  # the one wait
        now = time.monotonic()
        speed = self._batch * len(rows) / max(now - self._since, 1e-9)
        found, broken = [], None
        for (*losses, norm), (step, rates, wait) in zip(rows, self._known, strict=True):
            found.append((step, Figures(sum(losses), *rates, speed, wait)))
            if broken is None and not math.isfinite(sum(losses) + norm):
                parts = [part for part, loss in enumerate(losses) if not math.isfinite(loss)]
                what = f"the loss is {losses[parts[0]]}" if parts else f"the gradient's norm is {norm}"
                broken = NotFinite(step, parts or list(range(len(losses))), what)
        self._rows, self._known, self._since = [], [], now
        return found, broken
