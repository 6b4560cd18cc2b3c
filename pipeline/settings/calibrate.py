"""Settings of the calibrate stage."""

from pydantic import BaseModel, ConfigDict, Field


class CalibrateSettings(BaseModel):
    """What calibrate reads from config.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(1.0, gt=0, le=1, description="Working size of the pictures as a share of the recorded size.")
