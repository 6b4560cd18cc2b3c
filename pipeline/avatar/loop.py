"""The training loop: deterministic, resumable at any saved step, and stopped by a loss that is not finite."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from pipeline.avatar.checkpoint import Tensors, read_tensors, trained_tensors, write_tensors
from pipeline.avatar.condition import Buffers
from pipeline.avatar.data import Pictures, Target, crop, to_unit
from pipeline.avatar.enlarge import enlarge
from pipeline.avatar.model import Avatar
from pipeline.avatar.recipe import Recipe
from pipeline.avatar.schedule import draw_timesteps, make_scheduler
from pipeline.cli import Progress
from pipeline.errors import PipelineError

AVERAGE_RAMP = 10  # the running average starts short: decay (1 + k) / (AVERAGE_RAMP + k) after k steps


class Trainer:
    """Model, optimizer and running average, and the step they are at.

    All randomness of a step is a function of the seed and the step, so a state needs no random generator.
    """

    def __init__(self, avatar: Avatar, pictures: Pictures, recipe: Recipe):
        self.avatar, self.pictures, self.recipe = avatar, pictures, recipe
        self.scheduler = make_scheduler()
        self.step = 0
        trained = {name: p for name, p in avatar.named_parameters() if p.requires_grad}
        networks = [p for name, p in trained.items() if not name.startswith("planes.")]
        groups = [{"params": networks}, {"params": [avatar.planes.values]}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay)
        self.parameters = trained
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
        generator = self._generator(self.step)
        loss = self._texture_loss() if self.step < self.recipe.texture_steps else self._loss(generator)
        if not torch.isfinite(loss):
            raise PipelineError(f"the loss is {loss.item()} at step {self.step}; try a lower learning_rate")
        for group, rate in zip(self.optimizer.param_groups, self._rates(), strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.limited, self.recipe.gradient_limit)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return loss.item()

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)

    def _indices(self) -> list[int]:
        """The step's pictures: every epoch is a new order of all pictures, seeded by its number."""
        places = range(self.step * self.recipe.batch, (self.step + 1) * self.recipe.batch)
        count = len(self.pictures)
        orders = {
            epoch: torch.randperm(count, generator=self._generator(-1 - epoch)).tolist()
            for epoch in {place // count for place in places}
        }
        return [orders[place // count][place % count] for place in places]

    def _texture_loss(self) -> torch.Tensor:
        buffers, target = self.pictures.batch(self._indices())
        return self._colour_error(self.avatar.texture_picture(buffers), buffers, target)

    @staticmethod
    def _colour_error(colours: torch.Tensor, buffers: Buffers, target: Target) -> torch.Tensor:
        """Mean squared error of the texture's colours (P, 3) where mesh and picture both say head."""
        both = target.head[buffers.mask]  # (P,)
        return F.mse_loss(colours[both], target.rgb[buffers.mask][both].float() / 127.5 - 1)

    def _loss(self, generator: torch.Generator) -> torch.Tensor:
        """Mean squared error of v on random crops, and of the texture's colours."""
        avatar = self.avatar
        buffers, target = self._cropped(*self.pictures.batch(self._indices()), generator)
        picture, tokens, colours = avatar.conditions(buffers)
        base = avatar.base(colours.detach(), buffers.mask)
        latents = avatar.encode(to_unit(target.rgb), base)
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = draw_timesteps(len(latents), self.recipe.terminal_share, generator)
        v = avatar(self.scheduler.add_noise(latents, noise, timesteps), timesteps, base, picture, tokens)
        error = (v - self.scheduler.get_velocity(latents, noise, timesteps)).square().mean(1)  # (B, h', w')
        trusted = F.avg_pool2d(target.trusted[:, None].float(), avatar.autoencoder.factor)[:, 0]
        loss = (error * trusted).sum() / trusted.sum()
        if not self.recipe.texture_weight:
            return loss
        return loss + self.recipe.texture_weight * self._colour_error(colours, buffers, target)

    def _cropped(self, buffers: Buffers, target: Target, generator: torch.Generator) -> tuple[Buffers, Target]:
        factor, sides = self.avatar.autoencoder.factor, target.head.shape[1:]
        limits = (self.recipe.crop_height, self.recipe.crop_width)
        size = [min(limit, side) // factor * factor for limit, side in zip(limits, sides, strict=True)]
        share = self.recipe.crop_share
        if share < 1:
            share += (1 - share) * float(torch.rand((), generator=generator))
        window = [max(round(share * side), 1) for side in size]
        corner = [
            int(torch.randint(side - cut + 1, (), generator=generator)) for side, cut in zip(sides, window, strict=True)
        ]
        return tuple(enlarge(crop(part, *corner, *window), *size) for part in (buffers, target))

    def _rates(self) -> tuple[float, float]:
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
        """Publish everything that the next step needs."""
        tensors: Tensors = {f"now/{name}": tensor for name, tensor in trained_tensors(self.avatar).items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.items()}
        for name, parameter in self.parameters.items():
            for key, tensor in self.optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = tensor
        write_tensors(path, tensors, {"step": self.step})

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on where a saved state ended."""
        tensors, description = read_tensors(path)
        for kind, own in (("now", trained_tensors(self.avatar)), ("average", self.average)):
            for name, tensor in own.items():
                tensor.copy_(tensors[f"{kind}/{name}"])
        for name, parameter in self.parameters.items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"{key}/{name}" in tensors:
                    saved = tensors[f"{key}/{name}"]
                    like = saved if key == "step" else torch.empty_like(parameter).copy_(saved)
                    self.optimizer.state[parameter][key] = like
        self.step = description["step"]

    def run(self, path: Path, preview: Callable[[], None], stopping: Callable[[], bool]) -> None:
        """Do all steps that are left, from the state at `path` when there is one, saving the state there.

        `stopping()` is asked after every step: when true, the state is saved and the loop ends early.
        """
        recipe = self.recipe
        if path.is_file():
            self.load(path)
        progress = Progress(self.total * recipe.batch, "images", self.step * recipe.batch)
        while self.step < self.total:
            loss = self.train_step()
            progress.update(self.step * recipe.batch, f", loss {loss:.4f}")
            if self.step % recipe.preview_every == 0:
                preview()
            stop = stopping()
            if stop or self.step % recipe.save_every == 0 or self.step == self.total:
                self.save(path)
            if stop:
                return
