"""Settings of the report stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class ReportSettings(StageSettings):
    """How much the page shows."""

    cameras: int = Field(6, ge=1, le=16, description="cameras shown on the sheets of frames and targets")
    moments: int = Field(6, ge=1, le=24, description="time steps on the mesh sheet and rows of the comparison")
    largest_film_mb: float = Field(
        20.0, gt=0, le=200, description="a film above this many megabytes is named, not embedded"
    )
