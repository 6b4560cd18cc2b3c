"""Settings of the calibrate stage."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.base import StageSettings


class CalibrateSettings(StageSettings):
    """The working size, and what happens to cameras that are missing or do not fit their pictures."""

    scale: float = Field(
        default=1.0, gt=0, le=1, description="Working size of the pictures as a share of the recorded size."
    )
    off_cameras: Literal["stop", "drop", "repose", "keep"] = Field(
        default="stop",
        description="What happens to cameras whose pictures do not fit their poses: stop names them and stops, drop "
        "leaves them out, repose finds their poses anew, keep warns.",
    )
    refine: Literal["nothing", "poses", "lenses", "anew", "where_off"] = Field(
        default="nothing",
        description="What is refined of the given cameras by matches on the person: nothing; poses; lenses: poses "
        "and focal lengths; anew: both are found anew and aligned to the given ones; where_off: as anew, "
        "only where the given ones fit clearly worse. Cameras that are not given are always found.",
    )
    one_lens: bool = Field(
        default=True,
        description="Whether cameras whose pictures have the same size and focal length share one lens, where lenses "
        "are found.",
    )
    moments: int = Field(
        default=8, ge=1, le=100, description="Time steps of a sequence that cameras are found from or refined on."
    )
    metres_per_unit: float | None = Field(
        default=None,
        gt=0,
        description="Length of the capture's unit in metres; null: 1 where the format is metric, otherwise estimated.",
    )
    known_cameras: list[str] = Field(default=[], max_length=2, description="Two cameras whose distance is known.")
    known_metres: float | None = Field(
        default=None, gt=0, description="Distance between the two known cameras, metres."
    )
    iris_mm: float | None = Field(
        default=None,
        gt=0,
        description="Width of an iris in millimetres, 11.7 for people: the unit of a capture that is not metric is "
        "found from the irises; null: from the size of the head.",
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
