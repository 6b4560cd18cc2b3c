"""What moves the weights of an avatar: AdamW, its learning rates, the limit of the gradient, the running average."""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import trained_tensors
from pipeline.errors import PipelineError
from pipeline.settings.recipe import LoopSettings
from pipeline.store.state import load_optimiser, optimiser_tensors
from pipeline.store.tensors import Tensors

AVERAGE_RAMP = 10  # the running average starts short: decay (1 + k) / (AVERAGE_RAMP + k) after k steps


class RunningAverage:
    """Exponential average of tensors over steps; where its largest decay is 0 it is the tensors themselves."""

    def __init__(self, tensors: Tensors, largest_decay: float):
        self._now, self._decay = tensors, largest_decay
        self.tensors = {name: t.detach().clone() for name, t in tensors.items()} if largest_decay else tensors

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the tensors after `done` steps."""
        if self._decay:
            decay = min(self._decay, (1 + done) / (AVERAGE_RAMP + done))
            mix = get_ema_multi_avg_fn(decay)
            mix(list(self.tensors.values()), [tensor.detach() for tensor in self._now.values()], None)


class Optimiser:
    """AdamW on an avatar's networks, its planes and a network `beside` it, each with a learning rate."""

    def __init__(self, avatar: Avatar, beside: nn.Module, recipe: LoopSettings):
        self.recipe = recipe
        self.now = trained_tensors(avatar)
        trained = {name: p for name, p in avatar.named_parameters() if p.requires_grad}
        networks = [p for name, p in trained.items() if not name.startswith("planes.")]
        self.parameters = trained | {f"beside.{name}": p for name, p in beside.named_parameters()}
        limited = _limited(trained, recipe.limited)
        self._limited = [trained[name] for name in limited]
        self._unlimited = [p for name, p in self.parameters.items() if name not in limited]
        groups = [{"params": networks}, {"params": [avatar.planes.values]}, {"params": [*beside.parameters()]}]
        fused = avatar.text.device.type in ("cpu", "cuda")  # one kernel for all weights, where the device has it
        self._adam = torch.optim.AdamW(groups, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay, fused=fused)
        self.average = RunningAverage(self.now, recipe.average_decay)

    def clear(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def limit(self) -> torch.Tensor:
        """The norm () of the whole gradient, of which the limited weights' part is then no longer than the limit."""
        norms = []
        if limited := [p for p in self._limited if p.grad is not None]:
            norms.append(torch.nn.utils.clip_grad_norm_(limited, self.recipe.gradient_limit))
        if rest := [p.grad for p in self._unlimited if p.grad is not None]:
            norms.append(torch.nn.utils.get_total_norm(rest))
        return torch.hypot(*norms) if len(norms) == 2 else norms[0]

    def rates(self, step: int) -> tuple[float, float]:
        """Learning rates of networks and planes: a linear rise for the networks, then one fall for both."""
        done = self._done(step)
        fall = 0.5 * (1 + math.cos(math.pi * done / max(self.recipe.steps, 1)))
        fall = fall if self.recipe.rate_decay == "cosine" else 1.0
        rise = min(1.0, (done + 1) / (self.recipe.warmup_steps + 1))
        return self.recipe.learning_rate * fall * rise, self.recipe.plane_learning_rate * fall

    def update(self, step: int) -> None:
        """Move the weights, and the average after them."""
        rate, plane_rate = self.rates(step)
        for group, own in zip(self._adam.param_groups, (rate, plane_rate, rate), strict=True):
            group["lr"] = own
        self._adam.step()
        self.average.update(self._done(step))

    def tensors(self) -> Tensors:
        """Weights, average and what AdamW remembers, by name."""
        tensors: Tensors = {f"now/{name}": tensor for name, tensor in self.now.items()}
        if self.recipe.average_decay:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.tensors.items()}
        return tensors | optimiser_tensors(self._adam, self.parameters)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on where `tensors` ended."""
        kinds = [("now", self.now)] + [("average", self.average.tensors)] * bool(self.recipe.average_decay)
        for kind, own in kinds:
            for name, tensor in own.items():
                tensor.copy_(tensors[f"{kind}/{name}"])
        load_optimiser(self._adam, self.parameters, tensors)

    def _done(self, step: int) -> int:
        """Steps of the whole model that lie behind."""
        return max(step - self.recipe.texture_steps, 0)


def _limited(trained: dict[str, nn.Parameter], which: str) -> list[str]:
    """Names of the weights whose gradient is limited. Raises PipelineError where there is none."""
    names = [name for name in trained if which == "all" or name.startswith("controlnet.")]
    if not names and which == "controlnet":  # backbone plain has none: its U-Net reads the condition in its place
        names = [name for name in trained if name.startswith("unet.")]
    if not names:
        raise PipelineError(f"limited: {which}, but the avatar trains no such weight")
    return names
