"""What fit_identity and fit_sequence have in common."""

from pydantic import Field

from pipeline.settings.base import OnDevice


class FitSettings(OnDevice):
    """How far landmarks and lids are believed, and the seed; named before StageSettings among the bases."""

    landmark_mm: float = Field(
        default=3.0,
        gt=0,
        description="standard deviation of each coordinate of a landmark, where the capture has some, millimetres",
    )
    lid_mm: float = Field(
        default=0.7,
        gt=0,
        description="standard deviation of the gap between lids, where faces were detected, millimetres",
    )
    seed: int = Field(default=0, ge=0, description="seed of the random points")
