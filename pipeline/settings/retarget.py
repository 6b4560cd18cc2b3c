"""Settings of the retarget stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class RetargetSettings(StageSettings):
    """How another person's sequence drives the head."""

    strength: float = Field(
        default=1.0, ge=0, le=2, description="factor on the driver's expressions; 0 is a face at rest"
    )
    relative: bool = Field(
        default=True,
        description="add the driver's expression, relative to their face at rest, to the subject's face at rest; "
        "false: take the driver's codes as they are",
    )
    guard: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share that is removed of what the subject's own sequences never showed, so that the driver's "
        "face does not come through; 0 keeps everything",
    )
    head: Literal["start", "rest", "still"] = Field(
        default="start",
        description="how the head moves: as the driver's, relative to the driver's first pose (start) or to the mean "
        "of their key frames (rest), or not at all (still)",
    )
