"""Settings of the retarget stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class RetargetSettings(StageSettings):
    """How another person's sequence drives the head."""

    strength: float = Field(1.0, ge=0, le=2, description="of the driver's expressions; 0 is a face at rest")
