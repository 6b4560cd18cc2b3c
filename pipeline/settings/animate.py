"""Settings of the animate stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class AnimateSettings(StageSettings):
    """How keyframes and recorded curves become a motion of the head."""

    timecode_rate: float = Field(
        60, gt=0, le=1000, description="frames in a second of the curves' timecodes, and of rows without timecodes"
    )
    angles: Literal["radians", "degrees"] = Field("radians", description="unit of the curves' head and eyes")
    reversed: tuple[Literal["yaw", "pitch", "roll"], ...] = Field(
        (), description="angles of the curves' head that count the other way than to the left, down and to the right"
    )
    mirrored: bool = Field(False, description="the curves were recorded as in a mirror: swap left and right")
    strength: float = Field(1.0, ge=0, le=2, description="of the expressions; 0 is a face at rest")
    guard: float = Field(
        0.0, ge=0, le=1, description="share of what the subject's own sequences never showed that is taken out"
    )
    head: bool = Field(True, description="whether the head moves")
