"""How much memory a job may take: functions of cameras and picture size, never of a span's length.

Stages that make chunks hold one time step at once; those that read a whole sequence hold its numbers, no pictures. What
a step needs per pixel is counted from the arrays that a stage holds, and what it needs without pictures is what its
libraries take; a limit is to catch a fault, so both are rounded up.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.settings.prior import PriorSettings

MB = 1e-6


@dataclass(frozen=True)
class Scene:
    """Cameras of a subject, pixels of its largest recorded picture, and of the picture that the avatar renders;
    whether a pretrained diffusion model renders it; the edge of a mesh's cells, the time steps of the longest film that
    is judged as a whole, how many pixels of a film each pixel becomes, and the time steps of the longest sequence or
    motion of anybody, which may drive the head."""

    cameras: int
    recorded: int
    rendered: int
    pretrained: bool = False
    voxel_mm: float = 2.5
    steps: int = 0
    film_pixels: int = 1
    longest: int = 0

    @property
    def networks(self) -> float:
        """Megabytes that rendering or training one picture takes: of Stable Diffusion 2.1 at 512x512 they were 13,200
        and 14,300 (docs/figures/pictures.md), of the demo's own networks 600."""
        return 13_000 + 8000 * self.rendered * MB if self.pretrained else 1000 + 2000 * self.rendered * MB


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
    "rasterize": lambda scene, _: 1000 + 100 * scene.cameras * scene.rendered * MB,
    # pictures that training keeps: 4 GB at most
    "train": lambda scene, _: 6000 + scene.networks,
    "distill": lambda scene, _: 6000 + scene.networks,
    "render": lambda scene, _: 2000 + scene.networks + 40 * scene.cameras * scene.rendered * MB,
    "speed": lambda scene, _: 2000 + scene.networks + 40 * scene.cameras * scene.rendered * MB,
    "triangulate": lambda scene, _: 600 + 10 * scene.cameras * scene.recorded * MB,
    "mesh": lambda scene, _: 1200 + 1000 / scene.voxel_mm**2,
    "fit_quality": lambda scene, _: 800 + 20 * scene.cameras * scene.recorded * MB,
    "film": lambda scene, _: 600 + 400 * scene.film_pixels * scene.rendered * MB,
    "evaluate": lambda scene, _: 1500 + (1000 + 12 * scene.steps) * scene.rendered * MB,
    "report": lambda scene, _: 1000 + (100 * scene.recorded + 400 * scene.rendered) * MB,
    "export": lambda scene, _: 1500 + 12 * scene.cameras * scene.recorded * MB,
    "isolate": lambda scene, _: 1500 + scene.cameras * (8 * scene.recorded + 60 * scene.rendered) * MB,
    # whole sequences of numbers
    "rig": lambda scene, _: 300 + 1 * scene.cameras + 0.05 * scene.longest,
    "landmarks": lambda scene, _: 500 + 0.05 * scene.cameras * scene.steps,
    "retarget": lambda scene, _: 900 + 0.3 * scene.longest,
    "animate": lambda scene, _: 900 + 0.3 * scene.longest,
    "ablations": lambda scene, _: 300 + 20 * scene.cameras,
    "compare": lambda scene, _: 800 + 400 * scene.rendered * MB + 0.02 * scene.cameras * scene.steps,
}


def limit_mb(stage: str, scene: Scene, threads: int) -> int:
    """The memory limit of a stage's job in megabytes, rounded up to hundreds."""
    return _rounded(STEP[stage](scene, threads))


def prior_limit_mb(settings: PriorSettings) -> int:
    """That of training a head prior, which knows no subject: its samples, 29 bytes each and held twice while they are
    joined, and the activations of a step."""
    samples, step = settings.heads * settings.points, settings.batch_heads * settings.batch_points
    return _rounded(2000 + 2 * 29 * samples * MB + 0.05 * step)


def _rounded(megabytes: float) -> int:
    return -int(-megabytes // 100) * 100
