"""Settings of the rasterize stage."""

from pydantic import BaseModel, ConfigDict


class RasterizeSettings(BaseModel):
    """None: the rig says how large the pictures are."""

    model_config = ConfigDict(frozen=True, extra="forbid")
