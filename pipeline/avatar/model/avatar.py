"""The avatar: feature planes, expression tokens, ControlNet and U-Net in one module."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import nn

from pipeline.avatar.model.attention import add_expression_attention
from pipeline.avatar.model.backbone import make_backbone
from pipeline.avatar.model.condition import Buffers, Units, condition, condition_channels, looked_up
from pipeline.avatar.model.eyes import SIZE, EyePose
from pipeline.avatar.model.planes import FeaturePlanes
from pipeline.avatar.model.pretrained import Pretrained
from pipeline.avatar.model.schedule import Sampling, sample, v_of_picture
from pipeline.errors import DataError
from pipeline.settings.architecture import Architecture
from pipeline.settings.precision import Precision

Conditions = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]
RESIDUAL_UNIT = 0.25  # the difference to the base is about this large, so that latents are about 1


class Avatar(nn.Module):
    """Deferred diffusion (DiffusionAvatars, section 3): buffers, z_exp and eyes in, a picture over white out.

    `code_size` is the length of z_exp; `describe_data` sets the statistics of codes and depths, which are saved with
    the weights. A pretrained model may be given, for whom has one at hand; otherwise it is loaded.
    """

    code_mean: torch.Tensor
    code_scale: torch.Tensor

    def __init__(self, architecture: Architecture, code_size: int, pretrained: Pretrained | None = None):
        super().__init__()
        self.architecture, self.code_size = architecture, code_size
        self.units = Units()
        self.eyes = EyePose() if architecture.eyes != "none" else None
        self.planes = FeaturePlanes(
            architecture.plane_size,
            architecture.plane_features,
            architecture.plane_spread,
            architecture.features,
            architecture.eyes == "turned",
        )
        backbone = make_backbone(architecture, condition_channels(self.planes, architecture.mask_channel), pretrained)
        self.unet, self.controlnet, self.text = backbone.unet, backbone.controlnet, backbone.text
        self.autoencoder = backbone.autoencoder
        self.starts_from_texture = architecture.base == "texture"
        self.predicts_v = architecture.predicts == "v"
        self.is_regression = architecture.process == "regression"
        self._compiled: Callable[..., torch.Tensor] | None = None
        self._conditions_compiled: Callable[[Buffers], Conditions] | None = None
        self._half = False
        # What training is made for; distillation changes it. Networks that predict the picture do so in one step.
        in_one = self.is_regression or not self.predicts_v
        self.sampling = Sampling(1, eta=0.0) if in_one else Sampling(20, eta=1.0)
        self.latent_unit = RESIDUAL_UNIT if self.starts_from_texture else 1.0
        self.to_tokens = None
        if architecture.expression != "none":
            add_expression_attention(self.unet, architecture.expression)
            width = self.unet.config["cross_attention_dim"]
            self.to_tokens = nn.Linear(code_size + SIZE * bool(self.eyes), architecture.expression_tokens * width)
        self.register_buffer("code_mean", torch.zeros(code_size))
        self.register_buffer("code_scale", torch.ones(()))

    def compile_networks(self, mode: str, backend: str | Callable = "inductor") -> None:
        """Let torch.compile make both networks from now on; mode is its own, or "none". Needs a C++ compiler.

        They are one function: of two that are compiled apart with CUDA graphs, the first one's output is overwritten
        before the second has read it, which PyTorch refuses. So conditions, compiled too where all pixels are computed
        (not on a CPU: how many pixels the heads have changes from step to step), are without CUDA graphs.
        """
        self._compiled = self._conditions_compiled = None
        if mode != "none":
            self._compiled = torch.compile(self._networks, mode=mode, backend=backend)
        if mode != "none" and self.text.device.type != "cpu":
            self._conditions_compiled = torch.compile(self._conditions, backend=backend)

    def channels_last(self) -> Self:
        """The same with its weights as convolutions read them: a tenth less time on a CPU, the numbers as before."""
        return self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's types lack it

    def compute_in(self, precision: Precision) -> None:
        """Let networks and autoencoder compute in this precision from now on; call it once all weights are in place.

        In bfloat16 autocast rounds the weights for every use; those that nothing trains are rounded once, here, which
        gives the same numbers. float32 means float32, not TF32, on a GPU too.
        """
        self._half = precision == "bfloat16"
        if self.text.is_cuda:
            torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
            torch.backends.cudnn.allow_tf32 = precision != "float32"
        for module in self.modules() if self._half else ():
            frozen = not any(parameter.requires_grad for parameter in module.parameters(recurse=False))
            if isinstance(module, nn.Conv2d | nn.Linear) and module is not self.to_tokens and frozen:
                module.to(torch.bfloat16)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.text.device.type, torch.bfloat16) if self._half else nullcontext()

    def describe_data(
        self,
        codes: torch.Tensor,
        depth: torch.Tensor,
        x_can: torch.Tensor,
        eyes: torch.Tensor,
        eyeballs: torch.Tensor,
    ) -> None:
        """Take the statistics of the training data: z_exp (N, E), depths (M,) metres and x_can (M, 5) of head pixels,
        poses of the eyes (N, 6) and the subject's eyeballs (2, 4), NaN where unknown.

        One scale for all of z_exp, so that its weak directions stay weak.
        """
        if self.eyes:
            self.eyes.measure(eyes, eyeballs)
        self.code_mean.copy_(codes.mean(0))
        self.code_scale.copy_((codes - self.code_mean).square().mean().sqrt().clamp_min(1e-6))
        self.units.measure(depth, x_can)

    def texture_picture(self, buffers: Buffers) -> torch.Tensor:
        """What the planes alone predict: colours (B, h, w, 3) in [-1, 1], which mean nothing off the mask."""
        points = looked_up(buffers.x_can, buffers.eyes, self.units, self.eyes)
        return self.planes.colours(self.planes.everywhere(points, buffers.mask))

    def expression(self, z_exp: torch.Tensor, eyes: torch.Tensor) -> torch.Tensor | None:
        """Codes (B, E) and eyes (B, 6) to tokens (B, expression_tokens, W), for networks that read them."""
        if self.to_tokens is None:
            return None
        code = (z_exp - self.code_mean) / self.code_scale
        tokens = self.to_tokens(torch.cat([code, self.eyes.code(eyes)], -1) if self.eyes else code)
        return tokens.unflatten(1, (self.architecture.expression_tokens, -1))

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        base: torch.Tensor,
        picture: torch.Tensor,
        tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        """v for noisy latents and base, both (B, C, h', w'), timesteps (B,), condition (B, K, h, w) and tokens."""
        noisy = latents
        if self.is_regression:
            latents = torch.zeros_like(latents)
        if self.starts_from_texture:  # as an inpainting network reads the picture it completes
            latents = torch.cat([latents, base], dim=1)
        inputs = latents, timesteps, self.text.expand(len(latents), -1, -1), picture, tokens
        with self._autocast():
            if self._compiled:
                torch.compiler.cudagraph_mark_step_begin()
                predicted = self._compiled(*inputs).clone()  # the next run of a CUDA graph overwrites its output
            else:
                predicted = self._networks(*inputs)
        return predicted.float() if self.predicts_v else v_of_picture(noisy, predicted.float(), timesteps)

    def _networks(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        picture: torch.Tensor,
        tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        """What ControlNet and U-Net predict, v or the picture."""
        latents, residuals = self.controlnet.guide(latents, timesteps, text, picture)
        attended = {"ip_hidden_states": tokens}
        (predicted,) = self.unet(
            latents, timesteps, text, **residuals, cross_attention_kwargs=attended, return_dict=False
        )
        return predicted

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of the latents of a picture. Raises DataError when the autoencoder cannot divide its sides."""
        factor = self.autoencoder.factor
        if height % factor or width % factor:
            raise DataError(f"pictures of {width}x{height}; expected sides that are multiples of {factor}")
        return self.autoencoder.channels, height // factor, width // factor

    def conditions(self, buffers: Buffers) -> Conditions:
        """Condition (B, K, h, w), expression tokens (B, N, width), and the texture's colours (B, h, w, 3)."""
        return (self._conditions_compiled or self._conditions)(buffers)

    def _conditions(self, buffers: Buffers) -> Conditions:
        made_of = self.architecture
        inputs = self.units, self.planes, made_of.mask_channel, self.eyes, made_of.beyond_mesh
        picture, features = condition(buffers, *inputs)
        return picture, self.expression(buffers.z_exp, buffers.eyes), self.planes.colours(features)

    def base(self, colours: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What diffusion starts from: latents of the mesh (B, h, w) in the texture's colours (B, h, w, 3) over white.

        Folding squares into channels is linear, so the small network is left with the difference to a picture that
        is already near. A pretrained model's latents are not linear and it knows faces: it makes the whole picture.
        """
        if not self.starts_from_texture:
            return colours.new_zeros(())
        return self.autoencoder.encode(1 + (colours - 1).masked_fill(~mask[..., None], 0).permute(0, 3, 1, 2))

    def encode(self, pictures: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] to the latents that are diffused, float32."""
        with self._autocast():
            latents = self.autoencoder.encode(pictures)
        return (latents.float() - base) / self.latent_unit

    def decode(self, latents: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """Latents (B, channels, h', w') to pictures (B, 3, h, w) float32, clipped to [-1, 1]: `encode`'s inverse."""
        with self._autocast():
            pictures = self.autoencoder.decode(latents * self.latent_unit + base)
        return pictures.float().clamp(-1, 1)

    @torch.no_grad()
    def render(self, buffers: Buffers, noise: torch.Tensor, steps: int, eta: float) -> torch.Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] by `steps` steps of diffusion from shared noise (see schedule.sample).

        A regression is the first of these steps, whatever their number.
        """
        steps = 1 if self.is_regression else steps
        picture, tokens, colours = self.conditions(buffers)
        base = self.base(colours, buffers.mask)
        latents = sample(lambda x, t: self(x, t, base, picture, tokens), noise, len(picture), steps, eta)
        return self.decode(latents, base)
