"""Settings of the rig stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class RigSettings(StageSettings):
    """How the pictures of the avatar are framed, and how the orbit moves."""

    width: int = Field(default=144, ge=16, le=4096, multiple_of=16, description="picture width, pixels")
    height: int = Field(default=192, ge=16, le=4096, multiple_of=16, description="picture height, pixels")
    metres: float = Field(
        default=0.36, gt=0.1, le=2, description="metres over the picture's height at the head's centre"
    )
    shift_up: float = Field(
        default=0.028, ge=-0.3, le=0.3, description="height of the picture's middle above the head's origin, metres"
    )
    shift_front: float = Field(default=-0.03, ge=-0.3, le=0.3, description="the same to the front, metres")
    sway_degrees: float = Field(default=35, ge=0, le=90, description="swing of the orbit to each side")
    nod_degrees: float = Field(default=6, ge=0, le=45, description="swing of the orbit up and down")
