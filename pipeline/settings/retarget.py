"""Settings of the retarget stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class RetargetSettings(StageSettings):
    """How another person's sequence drives the head."""

    strength: float = Field(default=1.0, ge=0, le=2, description="of the driver's expressions; 0 is a face at rest")
    relative: bool = Field(
        default=True,
        description="take what the driver's face does beside its own rest, and add it to the subject's rest; "
        "false takes the codes as they are",
    )
    guard: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of what the subject's own sequences never showed that is taken out of the driver's "
        "expressions, so that the driver's face does not come through; 0 leaves all in",
    )
    head: Literal["start", "rest", "still"] = Field(
        default="start",
        description="the head moves as the driver's from where theirs is at first (start) or in the mean of their "
        "fitted frames (rest), or not at all (still)",
    )
