"""Settings of the landmarks stage."""

from pydantic import BaseModel, ConfigDict, Field


class LandmarksSettings(BaseModel):
    """Which detections count, and when cameras agree on a point."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(default=0.2, ge=0, description="detections of less confidence do not count")
    agree_mm: float = Field(
        default=8.0, gt=0, description="a camera agrees with a point that it sees no farther off, millimetres"
    )
