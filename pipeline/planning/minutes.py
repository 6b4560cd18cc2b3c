"""How long a job may take on a cluster: a function of its time steps, cameras and picture size."""

from collections.abc import Callable

from pipeline.planning.memory import MB, Scene

START = 30  # minutes: a busy node, a slow disk, the first import
SLOWER = 4  # times that a node may be slower than the machine that was measured

# CPU seconds of a time step. Measured on a 2-core AMD EPYC with 13 cameras of 256x384 and rendered pictures of 144x192;
# what renders with a network is as slow as the network, so it has no place here.
STEP: dict[str, Callable[[Scene], float]] = {
    "ingest": lambda scene: 1 * scene.cameras * scene.recorded * MB,
    "detect": lambda scene: 0.05 * scene.cameras,
    "pointcloud": lambda scene: 3 + 8 * scene.cameras * scene.recorded * MB,
    "mesh": lambda scene: 5,
    "rasterize": lambda scene: 2 * scene.cameras * scene.rendered * MB,
    "isolate": lambda scene: scene.cameras * (scene.recorded + scene.rendered) * MB,
}


def limit_minutes(stage: str, scene: Scene, steps: int) -> int:
    """The time limit of a stage's job of so many time steps, minutes."""
    return START + -int(-SLOWER * steps * STEP[stage](scene) // 60)
