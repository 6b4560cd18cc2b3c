"""Settings of the render stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings
from pipeline.settings.precision import Computing


class RenderSettings(Computing, StageSettings):
    """How an avatar renders pictures."""

    steps: Literal[1, 2, 4, 5, 8, 10, 20, 25, 40, 50] | None = Field(
        default=None, description="steps of diffusion; null: as many as the avatar's file records"
    )
    eta: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of fresh noise per step, 0 is DDIM, 1 is DDPM; null: as the avatar's file records",
    )
    decoder: str | None = Field(
        default=None,
        min_length=1,
        description="hub id or folder of an AutoencoderTiny that decodes in place of the pretrained model's own "
        "autoencoder (madebyollin/taesd goes with Stable Diffusion 2.1)",
    )
    batch: int = Field(
        default=1,
        ge=1,
        le=64,
        description="pictures rendered at once; the last batch is filled up, so that all have one size and no "
        "picture depends on its neighbours",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of the noise that all pictures share")
    frames_per_second: int = Field(default=24, ge=1, le=240, description="of the film")
    film_seconds: float = Field(
        default=3.0, ge=0, le=600, description="a shorter sequence is repeated up to this length"
    )
    film_scale: int = Field(default=2, ge=1, le=8, description="film pixels per rendered pixel along each side")
