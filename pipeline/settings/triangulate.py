"""Settings of the triangulate stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class TriangulateSettings(StageSettings):
    """When cameras agree on a point of the face."""

    agree_mm: float = Field(
        default=8.0,
        gt=0,
        description="a camera agrees with a point if it sees it no farther off than this, millimetres",
    )
