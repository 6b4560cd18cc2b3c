"""The training loop: deterministic, resumable at any saved step, on one device or many."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import nn

from pipeline.avatar.data.batches import Batches, Part
from pipeline.avatar.data.pictures import Pictures, to_unit
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import Tensors, describe, read_tensors, trained_tensors, write_tensors
from pipeline.avatar.model.schedule import Predict, draw_timesteps, make_scheduler, snr_weights
from pipeline.avatar.train.processes import make_accelerator, over_processes, sum_gradients
from pipeline.cli import Progress
from pipeline.errors import PipelineError
from pipeline.settings.recipe import LoopSettings, Recipe

FIGURES = ("loss", "learning_rate", "plane_learning_rate", "images_per_s")  # of every step
AVERAGE_RAMP = 10  # the running average starts short: decay (1 + k) / (AVERAGE_RAMP + k) after k steps


class Loop(ABC):
    """Model, optimizer and running average, and the step they are at; what is practised in a step, subclasses say.

    A network `beside` the avatar learns with it, in the same steps of the same optimizer, and is saved in the state.

    All randomness of a step is a function of the seed and the step, so a state needs no random generator. The batch is
    that of all processes together, each of which works through its share in `accumulation` parts; losses are sums
    over pixels, divided by the sum of the pixels' weights in the whole batch, so that no cut changes the gradient.
    """

    def __init__(self, avatar: Avatar, pictures: Pictures, recipe: LoopSettings, beside: nn.Module | None = None):
        self.accelerator = make_accelerator(recipe.batch, recipe.accumulation, recipe.device)
        self.avatar, self.pictures, self.recipe = avatar.to(self.accelerator.device), pictures, recipe
        if self.accelerator.device.type == "cuda":
            avatar.to(memory_format=torch.channels_last)
        self.batches = Batches(pictures, avatar, recipe, self.accelerator, self.draw_timesteps)
        self.scheduler = make_scheduler()
        self.step = 0
        self._kept: dict[int, torch.Tensor] = {}  # latents of whole pictures, see _latents
        if recipe.checkpointing:
            for network in avatar.modules():
                if isinstance(network, ModelMixin):
                    network.enable_gradient_checkpointing()
        trained = {name: p for name, p in avatar.named_parameters() if p.requires_grad}
        networks = [p for name, p in trained.items() if not name.startswith("planes.")]
        self.beside = (beside or nn.Module()).to(self.accelerator.device)
        groups = [{"params": networks}, {"params": [avatar.planes.values]}, {"params": [*self.beside.parameters()]}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay)
        self.parameters = trained | {f"beside.{name}": p for name, p in self.beside.named_parameters()}
        self.limited = [p for name, p in trained.items() if recipe.limited == "all" or name.startswith("controlnet.")]
        self.average = {name: tensor.detach().clone() for name, tensor in trained_tensors(avatar).items()}

    @property
    def total(self) -> int:
        """Number of steps of the whole training."""
        return self.recipe.texture_steps + self.recipe.steps

    @property
    def size(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def train_step(self) -> float:
        """One step of the optimizer; returns the loss. Raises PipelineError when it is not finite."""
        parts = self.batches.parts(self.step)
        counts = over_processes(self.accelerator, torch.stack([part.counts() for part in parts]).sum(0)).clamp_min(1)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.accelerator.device)
        for part in parts:
            share = self._loss(part, counts) + self._roughness(part)
            if not torch.isfinite(share):
                raise self._broken(f"the loss is {share.item()}", part.indices)
            share.backward()
            loss += share.detach()
        sum_gradients(self.accelerator, self.parameters.values())
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        if not torch.isfinite(norm):
            raise self._broken(f"the gradient's norm is {norm.item()}", [i for part in parts for i in part.indices])
        torch.nn.utils.clip_grad_norm_(self.limited, self.recipe.gradient_limit)
        rate, plane_rate = self.rates()
        for group, own in zip(self.optimizer.param_groups, (rate, plane_rate, rate), strict=True):
            group["lr"] = own
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return over_processes(self.accelerator, loss).item()

    def _broken(self, what: str, indices: list[int]) -> PipelineError:
        pictures = "; ".join(self.pictures.name(index) for index in indices)
        return PipelineError(f"{what} at step {self.step}, pictures {pictures}; try a lower learning_rate")

    def _roughness(self, part: Part) -> torch.Tensor:
        """The part's share of the planes' roughness, by its share of the batch's pictures."""
        if not self.recipe.plane_smoothness:
            return torch.zeros((), device=self.accelerator.device)
        return self.recipe.plane_smoothness * self.share(part) * self.avatar.planes.roughness()

    def share(self, part: Part) -> float:
        """The part's pictures of those of the whole batch."""
        return len(part.indices) / self.recipe.batch

    def _loss(self, part: Part, counts: torch.Tensor) -> torch.Tensor:
        """The part's share of the loss: weighted mean of the squared error of v, and the texture's mean colour error.

        The colours count alike where mesh and picture both say head.
        """
        weight, head_pixels = counts
        if part.noise is None:
            return self._colour_error(self.avatar.texture_picture(part.buffers), part) / head_pixels
        avatar, buffers = self.avatar, part.buffers
        picture, tokens, colours = avatar.conditions(buffers)
        base = avatar.base(colours.detach(), buffers.mask)

        def predict_v(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return avatar(latents, timesteps, base, picture, tokens)

        noisy, wanted = self.exercise(part, self._latents(part, base), predict_v)
        said = predict_v(noisy, part.timesteps)
        error = (said - wanted).square().mean(1)  # (B, h', w')
        error = error * snr_weights(part.timesteps, self.recipe.snr_limit)[:, None, None]
        factor = avatar.autoencoder.factor
        weights = F.avg_pool2d(part.weights[:, None], factor)[:, 0] * factor**2  # of all the latent's pixels
        loss = (error * weights).sum() / weight + self.judgement(part, noisy, said, wanted, weights)
        if not self.recipe.texture_weight:
            return loss
        return loss + self.recipe.texture_weight * self._colour_error(colours, part) / head_pixels

    @abstractmethod
    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Timesteps (count,) int64 for the pictures of a step."""

    @abstractmethod
    def exercise(self, part: Part, latents: torch.Tensor, predict_v: Predict) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents, and the v that the networks are to say of them, both (B, C, h', w') like the true latents."""

    def judgement(
        self, part: Part, noisy: torch.Tensor, said: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor | float:
        """The part's share of any other loss of what was said, given the loss's `weights` (B, h', w'): none."""
        return 0.0

    def _latents(self, part: Part, base: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h', w') of the part's pictures; kept where nothing that is learned or drawn changes them."""
        avatar = self.avatar
        if avatar.starts_from_texture or not self.batches.latents_can_be_kept:
            return avatar.encode(to_unit(part.target.rgb), base)
        for index in set(part.indices) - self._kept.keys():
            picture = self.pictures[index][1].rgb.to(base.device)
            self._kept[index] = avatar.encode(to_unit(picture), base)[0].cpu()
        top, left, height, width = (length // avatar.autoencoder.factor for length in part.window)
        cut = (slice(None), slice(top, top + height), slice(left, left + width))
        return torch.stack([self._kept[index][cut] for index in part.indices]).to(base.device)

    @staticmethod
    def _colour_error(colours: torch.Tensor, part: Part) -> torch.Tensor:
        """Squared error of the texture's colours (P, 3), mean over channels, summed over pixels that count."""
        mask = part.buffers.mask
        both = part.target.head[mask]  # (P,)
        truth = part.target.rgb[mask][both].float() / 127.5 - 1
        return F.mse_loss(colours[both].float(), truth, reduction="sum") / 3

    def rates(self) -> tuple[float, float]:
        """Learning rates of networks and planes: a linear rise for the networks, then one fall for both."""
        done = max(self.step - self.recipe.texture_steps, 0)
        fall = 0.5 * (1 + math.cos(math.pi * done / max(self.recipe.steps, 1)))
        fall = fall if self.recipe.rate_decay == "cosine" else 1.0
        rise = min(1.0, (done + 1) / (self.recipe.warmup_steps + 1))
        return self.recipe.learning_rate * fall * rise, self.recipe.plane_learning_rate * fall

    @torch.no_grad()
    def _update_average(self) -> None:
        done = max(self.step - self.recipe.texture_steps, 0)
        decay = min(self.recipe.average_decay, (1 + done) / (AVERAGE_RAMP + done))
        for name, tensor in trained_tensors(self.avatar).items():
            self.average[name].lerp_(tensor, 1 - decay)

    def save(self, path: Path) -> None:
        """Publish everything that the next step needs, from the main process alone."""
        if not self.accelerator.is_main_process:
            return
        tensors: Tensors = {f"now/{name}": tensor for name, tensor in trained_tensors(self.avatar).items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.items()}
        tensors |= {f"beside/{name}": tensor for name, tensor in self.beside.state_dict().items()}
        for name, parameter in self.parameters.items():
            for key, tensor in self.optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = tensor
        write_tensors(path, tensors, describe(self.avatar) | {"step": self.step})

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on where a saved state ended."""
        tensors, description = read_tensors(path)
        for kind, own in (("now", trained_tensors(self.avatar)), ("average", self.average)):
            for name, tensor in own.items():
                tensor.copy_(tensors[f"{kind}/{name}"])
        self.beside.load_state_dict({name: tensors[f"beside/{name}"] for name in self.beside.state_dict()})
        for name, parameter in self.parameters.items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"{key}/{name}" in tensors:
                    saved = tensors[f"{key}/{name}"]
                    like = saved if key == "step" else torch.empty_like(parameter).copy_(saved)
                    self.optimizer.state[parameter][key] = like
        self.step = description["step"]

    def run(
        self,
        path: Path,
        preview: Callable[[], None],
        stopping: Callable[[], bool],
        record: Callable[[dict[str, float]], None],
    ) -> None:
        """Do all steps that are left, from the state at `path` when there is one, saving the state there.

        `stopping()` is asked after every step: when true in any process, the state is saved and the loop ends early.
        `record` gets the figures of every step; it and `preview` are called in the main process alone.
        """
        recipe, main = self.recipe, self.accelerator.is_main_process
        if path.is_file():
            self.load(path)
        progress = Progress(self.total * recipe.batch, "images", self.step * recipe.batch)
        while self.step < self.total:
            rates, started = self.rates(), time.monotonic()
            loss = self.train_step()
            if main:
                progress.update(self.step * recipe.batch, f", loss {loss:.4f}")
                speed = recipe.batch / max(time.monotonic() - started, 1e-9)
                record(dict(zip(FIGURES, (loss, *rates, speed), strict=True)))
                if self.step % recipe.preview_every == 0:
                    preview()
            stop = bool(
                over_processes(self.accelerator, torch.tensor(float(stopping()), device=self.accelerator.device))
            )
            if stop or self.step % recipe.save_every == 0 or self.step == self.total:
                self.save(path)
                self.accelerator.wait_for_everyone()
            if stop:
                return


class Trainer(Loop):
    """Teaches the avatar every noise level on noisy real pictures."""

    recipe: Recipe

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Pure noise for the recipe's share of the pictures, otherwise uniform."""
        return draw_timesteps(count, self.recipe.terminal_share, generator)

    def exercise(self, part: Part, latents: torch.Tensor, predict_v: Predict) -> tuple[torch.Tensor, torch.Tensor]:
        """The real picture with noise on it, and its v."""
        noised = latents, part.noise, part.timesteps
        return self.scheduler.add_noise(*noised), self.scheduler.get_velocity(*noised)
