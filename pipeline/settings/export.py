"""Settings of the export stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class ExportSettings(StageSettings):
    """How heads leave the project: template, texture."""

    voxel_mm: float = Field(default=4.0, ge=1, le=20, description="edge of a marching cubes cell of the template")
    texture: int = Field(default=1024, ge=64, le=8192, description="sides of the baked texture, pixels")
