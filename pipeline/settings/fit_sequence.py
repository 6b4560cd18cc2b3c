"""Settings of the stage fit_sequence."""

from pydantic import Field

from pipeline.settings.base import StageSettings
from pipeline.settings.fit import FitSettings


class FitSequenceSettings(FitSettings, StageSettings):
    """Expression and pose of every time step under a known identity."""

    points: int = Field(default=4000, ge=50, description="cloud points per time step")
    eye_density: float = Field(default=4, ge=1, description="how many times as densely points are drawn round the eyes")
    free: int = Field(default=1000, ge=0, description="points outside the silhouettes per time step")
    window: int = Field(default=32, ge=1, description="time steps tracked one after another; windows run in parallel")
    steps: int = Field(default=7, ge=1, description="Levenberg-Marquardt steps per time step")
    widest_mm: float = Field(
        default=8, gt=0, description="width of the robust kernel at the start of a time step, millimetres"
    )
    narrowest_mm: float = Field(default=1.5, gt=0, description="width of the robust kernel at the end, millimetres")
    worth: float = Field(
        default=2000,
        gt=0,
        description="effective number of independent points per frame, against the priors of the codes",
    )
    smooth_expression: float = Field(
        default=3.0, gt=0, description="standard deviation of the second differences of expression weights in time"
    )
    smooth_degrees: float = Field(
        default=0.7, gt=0, description="standard deviation of the second differences of rotations, degrees"
    )
    smooth_mm: float = Field(
        default=1.5, gt=0, description="standard deviation of the second differences of translations, millimetres"
    )
    sweeps: int = Field(default=2, ge=1, description="joint steps over the whole sequence, which smooth it")
    bad_mm: float = Field(
        default=2.5,
        gt=0,
        description="a time step with a larger median distance on the face has failed and is named, millimetres",
    )
