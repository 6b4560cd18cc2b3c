"""Settings of the train stage."""

from pydantic import Field

from pipeline.avatar.architecture import Architecture
from pipeline.avatar.recipe import Recipe


class TrainSettings(Recipe):
    """The training recipe and the architecture that is trained."""

    architecture: Architecture = Field(default_factory=Architecture, description="sizes of the avatar's networks")
