"""Settings of the rasterize stage."""

from pipeline.settings.base import StageSettings


class RasterizeSettings(StageSettings):
    """None: the rig says how large the pictures are."""
