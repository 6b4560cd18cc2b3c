"""Settings of the fit_quality stage."""

from pydantic import BaseModel, ConfigDict, Field


class FitQualitySettings(BaseModel):
    """How the fitted meshes are measured against the clouds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int = Field(10_000, ge=100, le=1_000_000, description="points drawn from each side per time step")
    bad_mm: float = Field(
        5.0, gt=0, description="a time step whose median distance from cloud to mesh is above is named as failed"
    )
    seed: int = Field(0, ge=0, description="seed of the draw of points")
