"""A critic of small patches of latents: adversarial training of an avatar that renders in few steps."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

WIDTHS = (32, 64)


class Critic(nn.Module):
    """Scores how real every patch looks: above 1 for real latents, below -1 for rendered ones when it is sure.

    A hinge loss on latents, as in adversarial diffusion distillation in latent space (Sauer et al. 2024, LADD), by a
    small network of its own in place of a pretrained one's features: it is to judge the detail of one subject, not
    what a picture may show. Patches are 18 latents wide.
    """

    def __init__(self, channels: int, seed: int):
        super().__init__()
        narrow, wide = WIDTHS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(channels, narrow, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(narrow, wide, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(wide, 1, 3, padding=1),
            )

    def loss(self, real: torch.Tensor, rendered: torch.Tensor) -> torch.Tensor:
        """Scalar loss of real and rendered latents, both (B, C, h, w), means over patches: that of the critic, whose
        gradient moves only the critic, and that of the renders, whose gradient moves only what rendered them."""
        own = F.relu(1 - self.layers(real)).mean() + F.relu(1 + self.layers(rendered.detach())).mean()
        held = {name: parameter.detach() for name, parameter in self.layers.named_parameters()}
        return own - functional_call(self.layers, held, (rendered,)).mean()
