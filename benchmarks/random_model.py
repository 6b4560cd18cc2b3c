"""Random pictures and latent diffusion models of random weights: what a step costs depends on neither."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.avatar.data.pictures import Pictures, Target
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.pretrained import Pretrained
from pipeline.planning.presets import PRESETS, laid_over
from pipeline.settings.train import TrainSettings
from tests.latent_model import STABLE_DIFFUSION_2_1, TINY

CODE_SIZE = 64
HEAD_SHARE = 0.5
SIZES: dict[str, dict[str, Any]] = {"tiny": TINY, "sd21": STABLE_DIFFUSION_2_1}
SIDES = {"tiny": 32, "sd21": 512}  # pixels
TINY_ARCHITECTURE = {"condition_widths": (8, 8), "plane_size": 8, "plane_features": 3}


class RandomPictures(Pictures):
    """As many random views as asked for; half of the pixels show the head."""

    def __init__(self, count: int, height: int, width: int):
        super().__init__([])
        self._count, self._shape = count, (1, height, width)
        self.fit_in_memory = True

    def __len__(self) -> int:
        return self._count

    def sides(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._shape[1:]

    def __getitem__(self, index: int) -> tuple[Buffers, Target]:
        if index not in self._cache:
            self._cache[index] = self._view(torch.Generator().manual_seed(index))
        return self._cache[index]

    def _view(self, generator: torch.Generator) -> tuple[Buffers, Target]:
        mask = torch.rand(self._shape, generator=generator) < HEAD_SHARE
        depth, normals, x_can = (
            torch.rand(*self._shape, *more, generator=generator) - 0.5 for more in ((), (3,), (5,))
        )
        rgb = torch.randint(256, (*self._shape, 3), generator=generator, dtype=torch.uint8)
        codes = torch.randn(1, CODE_SIZE, generator=generator)
        return Buffers(depth, normals, x_can, mask, codes, torch.zeros(1, 6)), Target(rgb, mask, torch.ones_like(mask))


def random_model(size: str, device: str = "cpu") -> tuple[Pretrained, CLIPTextModel]:
    """A latent diffusion model of random weights and its text encoder, on the device that also makes them."""
    sizes = SIZES[size]
    with torch.device(device):
        encoder = CLIPTextModel(CLIPTextConfig(**sizes["text_encoder"], bos_token_id=1, eos_token_id=2, pad_token_id=0))
        text = torch.randn(1, encoder.config.max_position_embeddings, encoder.config.hidden_size)
        unet, vae = UNet2DConditionModel(**sizes["unet"]), AutoencoderKL(**sizes["vae"])
    return Pretrained(unet, vae, text), encoder.eval()


def paper_settings(size: str, **recipe: Any) -> TrainSettings:
    """The preset `paper`, or its counterpart for the tiny model, with whole pictures as crops unless said otherwise."""
    architecture = TINY_ARCHITECTURE if size == "tiny" else {}
    side = SIDES[size]
    changes = {"crop_height": side, "crop_width": side, "crop_share": 1.0, "architecture": architecture} | recipe
    return TrainSettings(**laid_over(PRESETS["paper"]["train"], changes))
