"""Settings of the rasterize stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class RasterizeSettings(StageSettings):
    """What rasterises the buffers; the rig sets the size of the pictures."""

    backend: Literal["embree", "nvdiffrast"] = Field(
        default="embree",
        description="embree: rays on the CPU; nvdiffrast: an NVIDIA GPU (envs/nvdiffrast.sh installs it)",
    )

    @property
    def gpus(self) -> int:
        """One for nvdiffrast."""
        return int(self.backend == "nvdiffrast")
