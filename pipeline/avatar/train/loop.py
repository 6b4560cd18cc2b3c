"""The training loop: deterministic, resumable at any saved step, on one device or many."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import nn

from pipeline.avatar.data.ahead import READ_AHEAD, Ahead
from pipeline.avatar.data.batches import Batches, HostPart, NoisyPart, Part
from pipeline.avatar.data.pictures import Pictures, to_unit
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import describe
from pipeline.avatar.model.schedule import Predict, draw_timesteps, make_scheduler, snr_weights
from pipeline.avatar.processes import Processes, launched
from pipeline.avatar.train.figures import Figures, Ledger, NotFinite
from pipeline.avatar.train.optimiser import Optimiser
from pipeline.cli import Progress
from pipeline.errors import PipelineError
from pipeline.settings.recipe import LoopSettings, Recipe
from pipeline.store.state import TrainingState
from pipeline.store.tensors import Tensors

FETCH_EVERY = {"cpu": 1, "cuda": 50}  # steps between figures, where the settings leave it open


class Loop(ABC):
    """An avatar, its optimiser and the step that they are at. Subclasses define the training objective.

    A network `beside` the avatar learns with it, in the same steps of the same optimiser, and is saved in the state.

    All randomness of a step is a function of the seed and the step, so a state needs no random generator. The batch is
    that of all processes together, each of which works through its share in `accumulation` parts; losses are sums
    over pixels, divided by the sum of the pixels' weights in the whole batch, so that no cut changes the gradient.

    A GPU is never waited for but every `fetch_every` steps, when figures are fetched, and pictures are read ahead.
    """

    def __init__(
        self,
        avatar: Avatar,
        pictures: Pictures,
        recipe: LoopSettings,
        beside: nn.Module | None = None,
        processes: Processes | None = None,
    ):
        """`processes`: those that were launched, when None."""
        self.processes = processes or launched(recipe.batch, recipe.accumulation, recipe.device)
        self.device = self.processes.device
        self.avatar, self.pictures, self.recipe = avatar.to(self.device), pictures, recipe
        if self.device.type == "cuda":
            avatar.channels_last()
        avatar.compute_in(recipe.precision)
        avatar.compile_networks(recipe.compile)
        if recipe.checkpointing:
            for network in avatar.modules():
                if isinstance(network, ModelMixin):
                    network.enable_gradient_checkpointing()
        self.scheduler = make_scheduler()
        self.beside = (beside or nn.Module()).to(self.device)
        self.optimiser = Optimiser(avatar, self.beside, recipe)
        self.batches = Batches(pictures, avatar, recipe, self.processes, self.sample_timesteps)
        depth = READ_AHEAD[self.device.type] if recipe.read_ahead is None else recipe.read_ahead
        self.ahead: Ahead[list[HostPart]] = Ahead(self.batches.read, self.total, depth, recipe.readers)
        every = recipe.fetch_every or FETCH_EVERY[self.device.type]
        self.ledger = Ledger(self.processes, recipe.batch, recipe.accumulation, every)
        self.fetched: list[tuple[int, Figures]] = []  # not yet recorded
        self.step = 0

    @property
    def total(self) -> int:
        """Number of steps of the whole training."""
        return self.recipe.texture_steps + self.recipe.steps

    @property
    def size(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.optimiser.parameters.values())

    @property
    def average(self) -> Tensors:
        """The running average of what is trained."""
        return self.optimiser.average.tensors

    def train_step(self, fetch: bool = False) -> torch.Tensor:
        """One step of the optimiser; returns the loss (), on the device.

        Where it is time to fetch the figures, or if asked for, raises PipelineError when those of this step or one
        since the last time are not finite, before this step changes a weight.
        """
        waited = self.ahead.waited
        parts = [self.batches.on_device(part) for part in self.ahead.take(self.step)]
        waited = self.ahead.waited - waited
        counts = self.processes.sum(torch.stack([part.counts() for part in parts]).sum(0)).clamp_min(1)
        self.optimiser.clear()
        losses = []
        for part in parts:
            share = self._loss(part, counts) + self._roughness(part)
            share.backward()
            losses.append(share.detach())
        self.processes.sum_gradients(self.optimiser.parameters.values())
        norm = self.optimiser.limit()
        loss = self.ledger.add(self.step, losses, norm, self.optimiser.rates(self.step), waited)
        if fetch or self._time_to_fetch(self.step + 1):
            self._fetch()
        self.optimiser.update(self.step)
        self.step += 1
        return loss

    def _time_to_fetch(self, done: int) -> bool:
        intervals = (self.ledger.every, self.recipe.save_every, self.recipe.preview_every)
        return done == self.total or any(done % interval == 0 for interval in intervals)

    def _fetch(self) -> None:
        """Wait for the device once: figures, and latents that were on their way. Raises PipelineError, see above.

        A number that is not finite in one process is so in the sum over all of them: all stop at the same step.
        """
        found, broken = self.ledger.fetch()
        if self.batches.kept:
            self.batches.kept.settle()
        if broken:
            raise self._broken(broken)
        self.fetched += found

    def _broken(self, broken: NotFinite) -> PipelineError:
        indices = self.batches.indices(broken.step)
        size = len(indices) // (self.processes.count * self.recipe.accumulation)
        named = [self.pictures.name(i) for part in broken.parts for i in indices[part * size : (part + 1) * size]]
        return PipelineError(
            f"{broken.what} at step {broken.step}, pictures {'; '.join(named)}; try a lower learning_rate"
        )

    def _roughness(self, part: Part) -> torch.Tensor:
        """The part's share of the planes' roughness, by its share of the batch's pictures."""
        if not self.recipe.plane_smoothness:
            return torch.zeros((), device=self.device)
        return self.recipe.plane_smoothness * self.share(part) * self.avatar.planes.roughness()

    def share(self, part: Part) -> float:
        """The part's pictures of those of the whole batch."""
        return len(part.indices) / self.recipe.batch

    def _loss(self, part: Part, counts: torch.Tensor) -> torch.Tensor:
        """The part's share of the loss: weighted mean of the error of v, and the texture's mean colour error.

        The colours count alike where mesh and picture both show the head.
        """
        weight, head_pixels = counts
        if not isinstance(part, NoisyPart):
            return self._colour_error(self.avatar.texture_picture(part.buffers), part) / head_pixels
        avatar, buffers = self.avatar, part.buffers
        picture, tokens, colours = avatar.conditions(buffers)
        base = avatar.base(colours.detach(), buffers.mask)

        def predict_v(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return avatar(latents, timesteps, base, picture, tokens)

        noisy, target = self.noisy_and_target(part, self.latents(part, base), predict_v)
        predicted = predict_v(noisy, part.timesteps)
        apart = predicted - target
        error = apart.square().mean(1) if self.recipe.error == "squared" else apart.abs().mean(1)  # (B, h', w')
        error = error * snr_weights(part.timesteps, self.recipe.snr_limit)[:, None, None]
        factor = avatar.autoencoder.factor
        weights = F.avg_pool2d(part.weights[:, None], factor)[:, 0] * factor**2  # of all the latent's pixels
        loss = (error * weights).sum() / weight + self.further_loss(part, noisy, predicted, target, weights)
        if not self.recipe.texture_weight:
            return loss
        return loss + self.recipe.texture_weight * self._colour_error(colours, part) / head_pixels

    @abstractmethod
    def sample_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Timesteps (count,) int64 for the pictures of a step."""

    @abstractmethod
    def noisy_and_target(
        self, part: NoisyPart, latents: torch.Tensor, predict_v: Predict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents, and the v that the networks should predict for them, each (B, C, h', w') like the clean."""

    def further_loss(
        self, part: NoisyPart, noisy: torch.Tensor, predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor | float:
        """The part's share of any other loss of the predicted v, given the loss's `weights` (B, h', w'): none."""
        return 0.0

    def latents(self, part: NoisyPart, base: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h', w') of the part's pictures; kept where nothing that is learned or drawn changes them."""
        if part.latents is not None:
            return part.latents
        kept = self.batches.kept
        if kept is None:
            return self.avatar.encode(to_unit(part.target.rgb), base)
        top, left, height, width = (length // kept.factor for length in part.window)
        found = []
        for index in part.indices:  # one by one, so that a picture's latents do not depend on its neighbours
            if (latents := kept.whole(index)) is None:
                rgb = self.pictures.with_target(index)[1].rgb.to(self.device, non_blocking=True)
                latents = self.avatar.encode(to_unit(rgb), base)[0]
                kept.keep(index, latents)
            found.append(latents[:, top : top + height, left : left + width])
        return torch.stack([latents.to(self.device, non_blocking=True) for latents in found])

    @staticmethod
    def _colour_error(colours: torch.Tensor, part: Part) -> torch.Tensor:
        """Squared error of the texture's colours (B, h, w, 3), mean over channels, summed over pixels that count."""
        both = (part.target.head & part.buffers.mask)[..., None]
        truth = part.target.rgb.float() / 127.5 - 1
        error = F.mse_loss(colours.float(), truth, reduction="none")
        return error.masked_fill(~both, 0).sum() / 3

    def save(self, state: TrainingState) -> None:
        """Publish everything that the next step needs, from the main process alone."""
        if self.processes.is_main:
            beside = {f"beside/{name}": tensor for name, tensor in self.beside.state_dict().items()}
            state.save(self.optimiser.tensors() | beside, describe(self.avatar) | {"step": self.step})

    def load(self, state: TrainingState) -> None:
        """Go on where a saved state ended, if there is one."""
        with state.saved() as saved:
            if saved is None:
                return
            tensors, description = saved
            self.optimiser.load(tensors)
            self.beside.load_state_dict({name: tensors[f"beside/{name}"] for name in self.beside.state_dict()})
            self.step = description["step"]

    def run(
        self,
        state: TrainingState,
        preview: Callable[[], None],
        stopping: Callable[[], bool],
        record: Callable[[int, Figures], None],
    ) -> None:
        """Do all steps that are left, saving the state as it goes.

        `stopping()` is asked when figures are fetched, where one process trains alone after every step: when true in
        any process, the state is saved and the loop ends early. `record` gets the figures of every step, by the number
        of steps done; it and `preview` are called in the main process alone.
        """
        recipe, processes = self.recipe, self.processes
        self.load(state)
        progress = Progress(self.total * recipe.batch, "images", self.step * recipe.batch)
        self.ledger.start()
        try:
            while self.step < self.total:
                self.train_step(fetch=processes.count == 1 and stopping())
                if not self.fetched:
                    continue
                figures, self.fetched = self.fetched, []
                if processes.is_main:
                    progress.update(self.step * recipe.batch, f", loss {figures[-1][1].loss:.4f}")
                    for step, row in figures:
                        record(step + 1, row)
                    if self.step % recipe.preview_every == 0:
                        preview()
                stop = bool(processes.sum(torch.tensor(float(stopping()), device=self.device)))
                if stop or self.step % recipe.save_every == 0 or self.step == self.total:
                    self.save(state)
                    processes.wait()
                self.ledger.start()
                if stop:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End the threads that read ahead."""
        self.ahead.close()
        self.pictures.close()


class Trainer(Loop):
    """Teaches the avatar every noise level on noisy real pictures."""

    recipe: Recipe

    def sample_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Timesteps (count,) int64: the last, pure noise, for the recipe's share of the pictures, otherwise uniform."""
        return draw_timesteps(count, self.recipe.terminal_share, generator)

    def noisy_and_target(
        self, part: NoisyPart, latents: torch.Tensor, predict_v: Predict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The real picture's latents (B, channels, h', w') with noise on them, and their v, of the same shape."""
        noised = latents, part.noise, cast(torch.IntTensor, part.timesteps)
        return self.scheduler.add_noise(*noised), self.scheduler.get_velocity(*noised)
