"""Settings of the speed stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import OnDevice, StageSettings


class SpeedSettings(OnDevice, StageSettings):
    """The film that shows few steps of diffusion beside many."""

    steps: Literal[10, 20, 40, 50] | None = Field(
        default=20, description="steps of the slow film; null leaves the stage out"
    )
    frames: int = Field(
        default=12, ge=2, le=1000, description="time steps of the held-out sequence that are rendered, from the first"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of the noise that all pictures share")
    frames_per_second: int = Field(default=24, ge=1, le=240, description="of the film")
    film_seconds: float = Field(default=3.0, ge=0, le=600, description="a shorter film is repeated up to this length")
    film_scale: int = Field(default=2, ge=1, le=8, description="film pixels per rendered pixel along each side")
