"""Settings of the isolate stage."""

from pydantic import Field, model_validator

from pipeline.settings.base import StageSettings


class IsolateSettings(StageSettings):
    """How far off the fitted mesh a pixel of the person still counts as head."""

    skin_margin: float = Field(default=0.003, ge=0, le=0.1, description="at the neck and the jaw, metres")
    hair_margin: float = Field(default=0.04, ge=0, le=0.3, description="where there may be hair, metres")
    skin_height: float = Field(
        default=0.04, ge=0, le=0.5, description="the skin margin holds up to here above the cut, metres"
    )
    hair_height: float = Field(default=0.08, gt=0, le=0.5, description="the hair margin holds from here on, metres")
    collar_height: float = Field(
        default=0.025,
        ge=0,
        le=0.5,
        description="up to here above the cut a collar may hide the skin, metres; 0: it never does",
    )
    collar_cell: float = Field(
        default=0.04, gt=0, le=0.5, description="skin in cells of this size is of one colour, metres"
    )
    collar_tolerance: float = Field(
        default=16, gt=0, le=255, description="and a pixel this far off in chromaticity is no skin"
    )

    @model_validator(mode="after")
    def _rising(self) -> "IsolateSettings":
        if self.skin_height >= self.hair_height:
            raise ValueError(f"skin_height {self.skin_height} is not below hair_height {self.hair_height}")
        return self
