"""Settings of the calibrate stage."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.base import StageSettings


class CalibrateSettings(StageSettings):
    """What calibrate reads from config.yaml."""

    scale: float = Field(
        default=1.0, gt=0, le=1, description="Working size of the pictures as a share of the recorded size."
    )
    off_cameras: Literal["stop", "drop", "repose", "keep"] = Field(
        default="stop",
        description="What is done about cameras whose pictures do not fit their poses: stop and name them, drop them,"
        " pose them anew by what they see, or keep them with a warning.",
    )
    refine: Literal["nothing", "poses", "lenses", "anew", "where_off"] = Field(
        default="nothing",
        description="What of given cameras is made to fit the person's matches: nothing, their poses, poses and focal"
        " lengths, both found anew and laid on the given ones, or the last only where the given ones fit clearly worse."
        " Cameras that nobody gave are always found.",
    )
    one_lens: bool = Field(
        default=True,
        description="Whether cameras with pictures alike in size and focal length have one lens, where it is found.",
    )
    moments: int = Field(
        default=8, ge=1, le=100, description="Time steps of a sequence that cameras are found from or refined on."
    )
    metres_per_unit: float | None = Field(
        default=None,
        gt=0,
        description="Length of the capture's unit; none: metres, or what is found where it is not metric.",
    )
    known_cameras: list[str] = Field(default=[], max_length=2, description="Two cameras whose distance is known.")
    known_metres: float | None = Field(default=None, gt=0, description="Distance between the two known cameras.")
    iris_mm: float | None = Field(
        default=None,
        gt=0,
        description="Width of an iris, 11.7 for people: then the irises tell the unit of a capture that is not metric; "
        "none: the size of the head does.",
    )

    @model_validator(mode="after")
    def _known_together(self) -> Self:
        if (len(self.known_cameras) == 2) != (self.known_metres is not None):
            raise ValueError("known_cameras (two) and known_metres go together")
        return self

    @property
    def unit_known(self) -> bool:
        """Whether the settings say how long the unit is."""
        return self.metres_per_unit is not None or self.known_metres is not None
