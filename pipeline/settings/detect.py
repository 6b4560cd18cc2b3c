"""Settings of the detect stage."""

from pydantic import Field

from pipeline.settings.base import StageSettings


class DetectSettings(StageSettings):
    """Small networks that find the face, its points, lids and irises in every picture."""

    on: bool = Field(
        default=True, description="look for faces; false: the first pose of a head comes from where the cameras stand"
    )
    models: str | None = Field(
        default=None, description="folder of the four networks; null: the environment's (envs/detectors.sh)"
    )
