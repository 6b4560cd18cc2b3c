"""Settings of the report stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class ReportSettings(StageSettings):
    """How much the page shows."""

    cameras: int = Field(default=6, ge=1, le=16, description="cameras shown on the sheets of frames and targets")
    moments: int = Field(default=6, ge=1, le=24, description="time steps on the mesh sheet and rows of the comparison")
    embedded_mb: float = Field(
        default=12.0,
        ge=0,
        le=200,
        description="megabytes of films that the page holds, the first ones; the others are shown from their own files",
    )
