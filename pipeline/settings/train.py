"""Settings of the train stage."""

from pydantic import Field, model_validator

from pipeline.settings.architecture import Architecture
from pipeline.settings.base import StageSettings
from pipeline.settings.recipe import Recipe


class TrainSettings(Recipe, StageSettings):
    """The training recipe and the architecture that is trained."""

    architecture: Architecture = Field(default_factory=Architecture, description="sizes of the avatar's networks")

    @model_validator(mode="after")
    def _a_regression_has_one_timestep(self) -> "TrainSettings":
        if self.architecture.process == "regression" and self.terminal_share != 1:
            raise ValueError(
                f"terminal_share is {self.terminal_share}; expected 1 with architecture.process regression"
            )
        return self

    @model_validator(mode="after")
    def _kept_latents_are_a_pretrained_models(self) -> "TrainSettings":
        if self.keep_latents and self.architecture.backbone != "pretrained":
            raise ValueError(
                f"keep_latents with architecture.backbone {self.architecture.backbone}; expected pretrained"
            )
        return self
