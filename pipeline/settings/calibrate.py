"""Settings of the calibrate stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class CalibrateSettings(StageSettings):
    """What calibrate reads from config.yaml."""

    scale: float = Field(1.0, gt=0, le=1, description="Working size of the pictures as a share of the recorded size.")
