"""Settings of the fit_quality stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class FitQualitySettings(StageSettings):
    """How the fitted meshes are measured against the clouds."""

    points: int = Field(
        default=10_000, ge=100, le=1_000_000, description="points drawn from mesh and cloud each, per time step"
    )
    seed: int = Field(default=0, ge=0, description="seed of the random points")
