"""Settings of the film stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class FilmSettings(StageSettings):
    """How pictures of the avatar become a film."""

    background: str = Field(
        default="#ffffff", pattern="^#[0-9a-fA-F]{6}$", description="colour behind the head, in films without alpha"
    )
    png: Literal["alpha", "background"] = Field(
        default="alpha", description="what PNG files (.png.zip) hold: alpha, or the colour behind the head as .mp4 does"
    )
    beside: Literal["driver", "nobody"] = Field(
        default="driver",
        description="what is shown to the right of the avatar, where there is a real video of the motion",
    )
