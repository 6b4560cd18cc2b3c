"""Settings of the ingest stage."""

from typing import Self

from pydantic import Field, model_validator

from pipeline.settings.base import StageSettings


class IngestSettings(StageSettings):
    """What ingest reads from config.yaml."""

    stride: int = Field(default=1, ge=1, description="Every n-th frame of the video is a time step.")
    background_levels: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Up to this distance from the background plate, in sRGB levels, a pixel is wall; null: found from "
        "the wall's noise.",
    )
    person_levels: float | None = Field(
        default=None,
        gt=0,
        le=200,
        description="From this distance from the background plate on a pixel is surely person; null: three times the "
        "other.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        wall, person = self.background_levels, self.person_levels
        if wall is not None and person is not None and person <= wall:
            raise ValueError(f"person_levels must be larger than background_levels, {self.background_levels}")
        return self
