"""Settings of the isolate stage."""

from pydantic import Field, model_validator

from pipeline.settings.base import StageSettings


class IsolateSettings(StageSettings):
    """How far off the fitted mesh a pixel of the person still counts as head."""

    skin_margin: float = Field(default=0.003, ge=0, le=0.1, description="at the neck and the jaw, metres off the mesh")
    hair_margin: float = Field(default=0.04, ge=0, le=0.3, description="where there may be hair, metres off the mesh")
    skin_height: float = Field(
        default=0.04, ge=0, le=0.5, description="skin_margin holds up to this height above the neck cut, metres"
    )
    hair_height: float = Field(
        default=0.08, gt=0, le=0.5, description="hair_margin holds from this height above the neck cut on, metres"
    )
    collar_height: float = Field(
        default=0.025,
        ge=0,
        le=0.5,
        description="a collar may hide the skin up to this height above the neck cut, metres; 0: nowhere",
    )
    collar_cell: float = Field(
        default=0.04, gt=0, le=0.5, description="edge of the cells within which skin should have one colour, metres"
    )
    collar_tolerance: float = Field(
        default=16,
        gt=0,
        le=255,
        description="a pixel that is farther than this off its cell's chromaticity is not skin",
    )

    @model_validator(mode="after")
    def _rising(self) -> "IsolateSettings":
        if self.skin_height >= self.hair_height:
            raise ValueError(f"skin_height {self.skin_height} is not below hair_height {self.hair_height}")
        return self
