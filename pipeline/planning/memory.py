"""How much memory a job may take: functions of cameras and picture size, never of a span's length.

Stages hold one time step at once. What a step needs per pixel is counted from the arrays that a stage holds, and what
it needs without pictures is what its libraries take; a limit is to catch a fault, so both are rounded up.
"""

from collections.abc import Callable
from dataclasses import dataclass

MB = 1e-6


@dataclass(frozen=True)
class Scene:
    """Cameras of a subject, pixels of its largest recorded picture, and of the picture that the avatar renders;
    whether a pretrained diffusion model renders it; the edge of a mesh's cells, the time steps of the longest film that
    is judged as a whole, and how many pixels of a film each pixel becomes."""

    cameras: int
    recorded: int
    drawn: int
    pretrained: bool = False
    voxel_mm: float = 2.5
    steps: int = 0
    film_pixels: int = 1

    @property
    def networks(self) -> float:
        """Megabytes that rendering or training one picture takes: of Stable Diffusion 2.1 at 512x512 they were 13,200
        and 14,300 (docs/figures/pictures.md), of the demo's own networks 600."""
        return 13_000 + 8000 * self.drawn * MB if self.pretrained else 1000 + 2000 * self.drawn * MB


# Megabytes by stage. At the demo's size (13 cameras), ingest took 340 MB and pointcloud 540 MB with one thread.
# benchmarks/full_size.py measures all of them at full size, see docs/figures/full-size.md.
STEP: dict[str, Callable[[Scene, int], float]] = {
    "calibrate": lambda scene, _: 1000 + (12 * scene.cameras + 250) * scene.recorded * MB,
    "ingest": lambda scene, _: 600 + (8 * scene.cameras + 400) * scene.recorded * MB,
    "detect": lambda scene, _: 1000 + 40 * scene.recorded * MB,
    "pointcloud": lambda scene, threads: (
        500 + threads * (500 + (60 + scene.cameras) * scene.cameras * scene.recorded * MB)
    ),
    "fit_identity": lambda scene, _: 2500 + 20 * scene.cameras * scene.recorded * MB,
    "fit_sequence": lambda scene, threads: 2000 + threads * (1000 + 20 * scene.cameras * scene.recorded * MB),
    "rasterize": lambda scene, _: 1000 + 100 * scene.cameras * scene.drawn * MB,
    # pictures that training keeps: 4 GB at most
    "train": lambda scene, _: 6000 + scene.networks,
    "distill": lambda scene, _: 6000 + scene.networks,
    "render": lambda scene, _: 2000 + scene.networks + 40 * scene.cameras * scene.drawn * MB,
    "speed": lambda scene, _: 2000 + scene.networks + 40 * scene.cameras * scene.drawn * MB,
    "triangulate": lambda scene, _: 600 + 10 * scene.cameras * scene.recorded * MB,
    "mesh": lambda scene, _: 1200 + 1000 / scene.voxel_mm**2,
    "fit_quality": lambda scene, _: 800 + 20 * scene.cameras * scene.recorded * MB,
    "film": lambda scene, _: 600 + 400 * scene.film_pixels * scene.drawn * MB,
    "evaluate": lambda scene, _: 1500 + (1000 + 12 * scene.steps) * scene.drawn * MB,
    "report": lambda scene, _: 1000 + (100 * scene.recorded + 400 * scene.drawn) * MB,
    "export": lambda scene, _: 1500 + 12 * scene.cameras * scene.recorded * MB,
    "isolate": lambda scene, _: 1500 + scene.cameras * (8 * scene.recorded + 60 * scene.drawn) * MB,
}


def limit_mb(stage: str, scene: Scene, threads: int) -> int:
    """The memory limit of a stage's job in megabytes, rounded up to hundreds."""
    return -int(-STEP[stage](scene, threads) // 100) * 100
