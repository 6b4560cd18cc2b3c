"""Settings of the stage fit_identity."""

from pydantic import Field

from pipeline.settings.base import StageSettings
from pipeline.settings.fit import FitSettings


class FitIdentitySettings(FitSettings, StageSettings):
    """One identity fitted to key frames of the training sequences."""

    key_frames: int = Field(
        default=8,
        ge=1,
        le=64,
        description="time steps that the identity is fitted to, those whose expressions differ most",
    )
    points: int = Field(default=1200, ge=50, description="cloud points per key frame")
    eye_density: float = Field(default=8, ge=1, description="how many times as densely points are drawn round the eyes")
    free: int = Field(default=600, ge=0, description="points outside the silhouettes per key frame")
    steps: int = Field(default=14, ge=1, description="Levenberg-Marquardt steps")
    widest_mm: float = Field(default=20, gt=0, description="width of the robust kernel at the start, millimetres")
    narrowest_mm: float = Field(default=1.5, gt=0, description="width of the robust kernel at the end, millimetres")
    worth: float = Field(
        default=100,
        gt=0,
        description="effective number of independent points per frame, against the priors of the codes",
    )
    bad_mm: float = Field(
        default=2.5,
        gt=0,
        description="a time step with a larger median distance on the face is not a key frame, millimetres",
    )
