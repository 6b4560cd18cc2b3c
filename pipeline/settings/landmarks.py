"""Settings of the landmarks stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class LandmarksSettings(StageSettings):
    """Which detections count, and when cameras agree on a point."""

    confidence: float = Field(default=0.2, ge=0, description="detections of less confidence do not count")
    agree_mm: float = Field(
        default=8.0,
        gt=0,
        description="a camera agrees with a point if it sees it no farther off than this, millimetres",
    )
