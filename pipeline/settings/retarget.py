"""Settings of the retarget stage."""

from pydantic import BaseModel, ConfigDict, Field


class RetargetSettings(BaseModel):
    """How another person's sequence drives the head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(1.0, ge=0, le=2, description="of the driver's expressions; 0 is a face at rest")
