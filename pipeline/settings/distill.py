"""Settings of the distill stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings
from pipeline.settings.recipe import LoopSettings


class DistillSettings(LoopSettings, StageSettings):
    """How a few-step avatar is made of a trained one."""

    into: Literal[1, 2, 4] | None = Field(
        default=None,
        description="steps of diffusion of the distilled avatar, which then renders all films; null: no distillation",
    )
    texture_steps: int = Field(
        default=0, ge=0, le=1_000_000, description="first steps, in which the planes alone learn"
    )
    steps: int = Field(default=400, ge=0, le=10_000_000, description="steps of the whole model")
    critic_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="weight of a critic of small patches, trained beside the avatar, that judges whether latents are "
        "real; 0: no critic",
    )
    learning_rate: float = Field(default=5e-4, gt=0, le=1, description="highest learning rate of the networks")
    plane_learning_rate: float = Field(
        default=1e-3, gt=0, le=1, description="highest learning rate of the feature planes"
    )
