"""The pictures of a training step, cut into this process's parts; all that is random in a step is drawn here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch

from pipeline.avatar.data.enlarge import enlarge
from pipeline.avatar.data.latents import KeptLatents
from pipeline.avatar.data.pictures import Pictures, Rectangle, Target, moved, pinned
from pipeline.avatar.data.rarity import rarity
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.processes import Processes
from pipeline.head.model.regions import region_weights
from pipeline.settings.recipe import LoopSettings

SampleTimesteps = Callable[[int, torch.Generator], torch.Tensor]  # how many; (count,) int64


@dataclass(frozen=True)
class HostPart:
    """B pictures of a step as they were read, in the host's memory: `sides` is what `window` is enlarged to.

    `noise` (B, C, h', w') and `timesteps` (B,) are what the pictures get; `latents` (B, C, h', w') those of the window,
    where they are kept. In the texture steps, when only the planes learn, the pictures are whole and get none of them.
    """

    indices: list[int]
    buffers: Buffers
    target: Target
    noise: torch.Tensor | None = None
    timesteps: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    window: Rectangle | None = None
    sides: tuple[int, int] | None = None

    def pinned(self) -> "HostPart":
        """The same in memory that a GPU can read by itself."""
        tensors = {name: tensor.pin_memory() for name, tensor in vars(self).items() if isinstance(tensor, torch.Tensor)}
        return replace(self, buffers=pinned(self.buffers), target=pinned(self.target), **tensors)


@dataclass(frozen=True)
class Part:
    """B pictures of a step on the device; `weights` (B, h, w) float32 say how much each pixel counts.

    In the texture steps, when only the planes learn, that is all; otherwise a step's parts are `NoisyPart`.
    """

    indices: list[int]
    buffers: Buffers
    target: Target
    weights: torch.Tensor

    def counts(self) -> torch.Tensor:
        """The sum of the weights, and the number of pixels where mesh and picture both show the head: (2,)."""
        return torch.stack([self.weights.sum(), (self.target.head & self.buffers.mask).sum().float()])


@dataclass(frozen=True)
class NoisyPart(Part):
    """A part that diffusion learns from: what its pictures get, as in `HostPart`."""

    noise: torch.Tensor
    timesteps: torch.Tensor
    latents: torch.Tensor | None
    window: Rectangle


class Batches:
    """The batches of a training. Everything random is a function of the recipe's seed and the step.

    `read` runs in threads, some steps ahead; `on_device` in the loop.
    """

    def __init__(
        self, pictures: Pictures, avatar: Avatar, recipe: LoopSettings, processes: Processes, sample: SampleTimesteps
    ):
        self.pictures, self.recipe, self.processes = pictures, recipe, processes
        self.sample_timesteps = sample
        self._latent_shape, self._factor = avatar.latent_shape, avatar.autoencoder.factor
        self.kept = KeptLatents(self._factor) if self.latents_can_be_kept and not avatar.starts_from_texture else None
        self._order = lru_cache(2)(self._order_of)  # a step's pictures may be of two epochs

    @property
    def latents_can_be_kept(self) -> bool:
        """Whether a step's latents are cut out of those of whole pictures: where crops are whole, or if asked for."""
        height, width = self.pictures.sides(0)
        recipe = self.recipe
        whole = recipe.crop_share == 1 and recipe.crop_height >= height and recipe.crop_width >= width
        return whole or recipe.keep_latents

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)

    def _order_of(self, epoch: int) -> torch.Tensor:
        """Every epoch is a new order (N,) of all pictures, seeded by its number."""
        return torch.randperm(len(self.pictures), generator=self._generator(-1 - epoch))

    def indices(self, step: int) -> list[int]:
        """The pictures of a step, of all processes together."""
        indices = self._in_epochs(step)
        if step < self.recipe.texture_steps or not self.recipe.rare_share:
            return indices
        return self._some_rare(indices, self._generator(step))

    def _in_epochs(self, step: int) -> list[int]:
        places, count = range(step * self.recipe.batch, (step + 1) * self.recipe.batch), len(self.pictures)
        return [int(self._order(place // count)[place % count]) for place in places]

    def read(self, step: int) -> list[HostPart]:
        """This process's parts of a step's batch. Random numbers are drawn for the whole batch, then cut."""
        parts = self._read(step)
        return [part.pinned() for part in parts] if self.processes.device.type == "cuda" else parts

    def _read(self, step: int) -> list[HostPart]:
        recipe = self.recipe
        size = recipe.batch // (self.processes.count * recipe.accumulation)
        first = self.processes.index * recipe.accumulation
        cuts = [slice(part * size, (part + 1) * size) for part in range(first, first + recipe.accumulation)]
        indices = self._in_epochs(step)
        if step < recipe.texture_steps:
            return [HostPart(indices[cut], *self.pictures.batch(indices[cut])) for cut in cuts]
        generator = self._generator(step)
        if recipe.rare_share:
            indices = self._some_rare(indices, generator)
        window, sides = self._window(indices[0], generator)
        noise = torch.randn(recipe.batch, *self._latent_shape(*sides), generator=generator)
        timesteps = self.sample_timesteps(recipe.batch, generator)
        return [
            HostPart(
                indices[cut],
                *self.pictures.batch(indices[cut], window),
                noise[cut],
                timesteps[cut],
                self.kept.cut(indices[cut], window) if self.kept else None,
                window,
                sides,
            )
            for cut in cuts
        ]

    def on_device(self, part: HostPart) -> Part:
        """A part to learn from: enlarged, and with pixels that count as the recipe says where they are trusted.

        Nothing here waits for the GPU.
        """
        device = self.processes.device
        buffers, target = moved(part.buffers, device), moved(part.target, device)
        if part.sides:
            buffers, target = enlarge(buffers, *part.sides), enlarge(target, *part.sides)
        weights = region_weights(buffers.x_can, self.recipe.eye_weight, self.recipe.mouth_weight) * target.trusted
        if part.noise is None or part.timesteps is None or part.window is None:
            return Part(part.indices, buffers, target, weights)
        noise, timesteps = (tensor.to(device, non_blocking=True) for tensor in (part.noise, part.timesteps))
        latents = None if part.latents is None else part.latents.to(device, non_blocking=True)
        return NoisyPart(part.indices, buffers, target, weights, noise, timesteps, latents, part.window)

    def parts(self, step: int) -> list[Part]:
        """`read` and `on_device` in one."""
        return [self.on_device(part) for part in self.read(step)]

    @cached_property
    def _rarity(self) -> torch.Tensor:
        return rarity(self.pictures.codes())

    def _some_rare(self, indices: list[int], generator: torch.Generator) -> list[int]:
        """The step's pictures with some replaced, each with the chance `rare_share`, by draws weighted with rarity."""
        replaced = torch.rand(len(indices), generator=generator) < self.recipe.rare_share
        rare = torch.multinomial(self._rarity, len(indices), replacement=True, generator=generator)
        return torch.where(replaced, rare, torch.tensor(indices)).tolist()

    def _window(self, index: int, generator: torch.Generator) -> tuple[Rectangle, tuple[int, int]]:
        """What is cut out of the step's pictures, and the height and width that it is enlarged to."""
        recipe, factor, whole = self.recipe, self._factor, self.pictures.sides(index)
        limits = (recipe.crop_height, recipe.crop_width)
        height, width = (min(limit, side) // factor * factor for limit, side in zip(limits, whole, strict=True))
        share = recipe.crop_share
        if share < 1:
            share += (1 - share) * float(torch.rand((), generator=generator))
        cut = max(round(share * height), 1), max(round(share * width), 1)
        grid = factor if self.latents_can_be_kept else 1
        top, left = (
            grid * int(torch.randint((side - part) // grid + 1, (), generator=generator))
            for side, part in zip(whole, cut, strict=True)
        )
        return (top, left, *cut), (height, width)
