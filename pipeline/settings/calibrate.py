"""Settings of the calibrate stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class CalibrateSettings(StageSettings):
    """What calibrate reads from config.yaml."""

    scale: float = Field(1.0, gt=0, le=1, description="Working size of the pictures as a share of the recorded size.")
    off_cameras: Literal["stop", "drop", "repose", "keep"] = Field(
        "stop",
        description="What is done about cameras whose pictures do not fit their poses: stop and name them, drop them,"
        " pose them anew by what they see, or keep them with a warning.",
    )
