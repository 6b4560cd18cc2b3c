"""Settings of the animate stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class AnimateSettings(StageSettings):
    """How keyframes and recorded curves become a motion of the head."""

    timecode_rate: float = Field(
        default=60,
        gt=0,
        le=1000,
        description="frames per second of the curves' timecodes, or of their rows where there are none",
    )
    angles: Literal["radians", "degrees"] = Field(default="radians", description="unit of the curves' head and eyes")
    reversed: tuple[Literal["yaw", "pitch", "roll"], ...] = Field(
        default=(),
        description="angles of the curves' head whose sign is reversed; expected are yaw to the left, pitch down and "
        "roll to the right",
    )
    mirrored: bool = Field(default=False, description="the curves were recorded as in a mirror: swap left and right")
    strength: float = Field(default=1.0, ge=0, le=2, description="factor on the expressions; 0 is a face at rest")
    guard: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share that is removed of what the subject's own sequences never showed; 0 keeps everything",
    )
    head: bool = Field(default=True, description="whether the head moves")
