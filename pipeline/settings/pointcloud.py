"""Settings of the pointcloud stage."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import StageSettings


class PointcloudSettings(StageSettings):
    """How pictures are matched, and what a point needs to enter the cloud."""

    backend: Literal["cpu", "colmap_cuda"] = Field(
        default="cpu",
        description="what finds and fuses the depth maps: this project's own matching on the CPU, or COLMAP's patch "
        "match on an NVIDIA GPU (a pycolmap that is built with CUDA)",
    )
    given: bool = Field(
        default=True, description="use the clouds that a capture holds, where it has one for every step"
    )
    guided: bool = Field(
        default=True,
        description="where landmarks of the face are known, a head fitted to the first depth maps of each time step "
        "guides the last ones (backend `cpu`)",
    )
    neighbours: int = Field(default=6, ge=2, le=12, description="other cameras that each camera is matched with")
    window: int = Field(default=5, ge=3, le=31, description="edge of the matched windows, pixels")
    min_score: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="matches with a lower normalised cross-correlation are dropped, however many views agree",
    )
    min_views: int = Field(default=3, ge=2, le=32, description="cameras that must agree on a point")
    depth_error: float = Field(
        default=0.004, gt=0, le=0.1, description="largest relative difference of depths that are fused"
    )
    outlier_sigma: float = Field(
        default=3.0,
        gt=0,
        le=20,
        description="points whose neighbours are farther than the mean by more than so many standard deviations are "
        "dropped",
    )

    @property
    def gpus(self) -> int:
        """One for COLMAP's patch match."""
        return int(self.backend == "colmap_cuda")
