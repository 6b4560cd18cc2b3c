"""Settings of the ablations stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings

Ablation = Literal["no_diffusion", "no_expression", "no_prior", "no_features", "spherical_uv"]


class AblationsSettings(StageSettings):
    """Which parts of the method are taken away in turn; each is trained, rendered and measured like the whole."""

    variants: tuple[Ablation, ...] = Field(
        default=("no_diffusion", "no_expression", "no_prior", "no_features", "spherical_uv"),
        min_length=1,
        description="rows of the table",
    )
