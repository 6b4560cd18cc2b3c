"""The pictures of a training step, cut into this process's parts; all that is random in a step is drawn here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator

from pipeline.avatar.data.enlarge import enlarge
from pipeline.avatar.data.pictures import Pictures, Rectangle, Target, moved
from pipeline.avatar.data.rarity import rarity
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.head.model.regions import region_weights
from pipeline.settings.recipe import LoopSettings

DrawTimesteps = Callable[[int, torch.Generator], torch.Tensor]  # how many; (count,) int64


@dataclass(frozen=True)
class Part:
    """B pictures of a step, on the device: which they are, and the noise (B, C, h', w') and timesteps (B,) they get.

    `weights` (B, h, w) float32 say how much each pixel counts. In the texture steps, when only the planes learn, there
    are neither noise nor timesteps, nor a `window` that was cut out.
    """

    indices: list[int]
    buffers: Buffers
    target: Target
    weights: torch.Tensor
    noise: torch.Tensor | None = None
    timesteps: torch.Tensor | None = None
    window: Rectangle | None = None

    def counts(self) -> torch.Tensor:
        """The sum of the weights, and the number of pixels where mesh and picture both say head: (2,)."""
        return torch.stack([self.weights.sum(), (self.target.head & self.buffers.mask).sum().float()])


class Batches:
    """The batches of a training. Everything random is a function of the recipe's seed and the step."""

    def __init__(
        self, pictures: Pictures, avatar: Avatar, recipe: LoopSettings, accelerator: Accelerator, draw: DrawTimesteps
    ):
        self.pictures, self.avatar, self.recipe, self.accelerator = pictures, avatar, recipe, accelerator
        self.draw_timesteps = draw

    @property
    def latents_can_be_kept(self) -> bool:
        """Whether a step's latents are cut out of those of whole pictures: where crops are whole, or if asked for."""
        height, width = self.pictures.sides(0)
        recipe = self.recipe
        whole = recipe.crop_share == 1 and recipe.crop_height >= height and recipe.crop_width >= width
        return whole or recipe.keep_latents

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)

    def _indices(self, step: int) -> list[int]:
        """The step's pictures: every epoch is a new order of all pictures, seeded by its number."""
        places = range(step * self.recipe.batch, (step + 1) * self.recipe.batch)
        count = len(self.pictures)
        orders = {
            epoch: torch.randperm(count, generator=self._generator(-1 - epoch)).tolist()
            for epoch in {place // count for place in places}
        }
        return [orders[place // count][place % count] for place in places]

    def parts(self, step: int) -> list[Part]:
        """This process's parts of a step's batch. Random numbers are drawn for the whole batch, then cut."""
        recipe, device = self.recipe, self.accelerator.device
        size = recipe.batch // (self.accelerator.num_processes * recipe.accumulation)
        first = self.accelerator.process_index * recipe.accumulation
        cuts = [slice(part * size, (part + 1) * size) for part in range(first, first + recipe.accumulation)]
        indices = self._indices(step)
        if step < recipe.texture_steps:
            return [self._part(indices[cut], *moved(self.pictures.batch(indices[cut]), device)) for cut in cuts]
        generator = self._generator(step)
        if recipe.rare_share:
            indices = self._some_rare(indices, generator)
        window, sides = self._window(indices[0], generator)
        shape = self.avatar.latent_shape(*sides)
        noise = torch.randn(recipe.batch, *shape, generator=generator)
        timesteps = self.draw_timesteps(recipe.batch, generator)
        return [
            self._part(
                indices[cut],
                *(enlarge(part, *sides) for part in moved(self.pictures.batch(indices[cut], window), device)),
                noise[cut].to(device),
                timesteps[cut].to(device),
                window,
            )
            for cut in cuts
        ]

    def _part(self, indices: list[int], buffers: Buffers, target: Target, *drawn: torch.Tensor | Rectangle) -> Part:
        """A part whose pixels count as the recipe says where they are trusted."""
        weights = region_weights(buffers.x_can, self.recipe.eye_weight, self.recipe.mouth_weight)
        return Part(indices, buffers, target, weights * target.trusted, *drawn)

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
        recipe, factor, whole = self.recipe, self.avatar.autoencoder.factor, self.pictures.sides(index)
        limits = (recipe.crop_height, recipe.crop_width)
        height, width = (min(limit, side) // factor * factor for limit, side in zip(limits, whole, strict=True))
        share = recipe.crop_share
        if share < 1:
            share += (1 - share) * float(torch.rand((), generator=generator))
        cut = [max(round(share * side), 1) for side in (height, width)]
        grid = factor if self.latents_can_be_kept else 1
        top, left = (
            grid * int(torch.randint((side - part) // grid + 1, (), generator=generator))
            for side, part in zip(whole, cut, strict=True)
        )
        return (top, left, *cut), (height, width)
