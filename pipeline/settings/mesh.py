"""Settings of the mesh stage."""

from pydantic import Field

from pipeline.settings.base import OnDevice, StageSettings


class MeshSettings(OnDevice, StageSettings):
    """How finely the fitted head is meshed and where its neck is cut."""

    voxel_mm: float = Field(default=2.5, ge=0.5, le=20, description="edge of a marching cubes cell")
    # Below the chins of all 20 random heads of tests/test_mesh.py; a plane through -0.35 that rises by 9 degrees to the
    # front, farther from collars, cut 12 of them
    neck_offset: float = Field(
        default=-0.38,
        ge=-1,
        le=1,
        description="height of the neck cut at the origin of canonical head space, head units",
    )
    neck_tilt_degrees: float = Field(default=0, ge=-60, le=60, description="rise of the neck cut towards the front")
