"""What an avatar renders of a head that is nearer, farther or larger than training saw it: how strong its grid is.

    python -m benchmarks.distances --results results/901

A picture of the head at rest for each distance (metres) and zoom, in one step. grid_levels: how far apart, of 255, the
means of every other row and column are over the middle of the head; 0 without a grid. Prints one JSON line last.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.viewer import Scene, found
from pipeline.avatar.data.pictures import to_bytes
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.schedule import shared_noise
from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Picture, look_at
from pipeline.raster import beyond
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.settings.rig import RigSettings

VIEWS = ((1.0, 1.0), (0.6, 1.0), (0.8, 1.2), (2.0, 1.0), (1.0, 1.5), (1.0, 3.0))  # shares of the rig's distance, zooms
MARGIN = 4  # pixels within the silhouette that are left out


def rendered(scene: Scene, picture: Picture, distance: float, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture (h, w, 3) uint8 and where the mesh is (h, w)."""
    eye = scene.frame.centre + distance * scene.frame.front
    pose = look_at(eye, scene.frame.centre, scene.frame.up)
    camera = Camera("view", picture.width, picture.height, picture.intrinsics(distance, zoom), pose, np.eye(3))
    seen = {
        name: torch.from_numpy(part)
        for name, part in beyond.rasterize(EmbreeRasterizer(), scene.mesh, [camera]).items()
    }
    codes = torch.from_numpy(scene.code)[None].float(), torch.from_numpy(scene.eyes)[None]
    given = Buffers(seen["depth"], seen["normals"].float(), seen["x_can"], seen["mask"], *codes)
    noise = shared_noise(scene.avatar.latent_shape(picture.height, picture.width), 1, 0)
    return to_bytes(scene.avatar.render(given, noise, 1, 0.0))[0].numpy(), seen["mask"][0].numpy()


def grid(picture: np.ndarray, mask: np.ndarray) -> float:
    """How far apart the means of the four places in squares of two pixels are within the mask."""
    deep = cv2.erode(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    row, column = np.indices(mask.shape) % 2
    grey = picture.astype(float).mean(-1)
    return float(np.ptp([grey[deep & (row == i) & (column == j)].mean() for i in (0, 1) for j in (0, 1)]))


def main() -> None:
    """Render and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="a subject's results, such as results/901")
    parser.add_argument("--pictures", type=Path, help="folder that the pictures are written to")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    rig = RigSettings()
    scene, picture = found(options.results, rig), Picture(rig.width, rig.height, rig.metres)
    figures = {}
    for share, zoom in VIEWS:
        distance = share * scene.distance
        shown, mask = rendered(scene, picture, distance, zoom)
        figures[f"{distance:.2f} m, zoom {zoom}"] = round(grid(shown, mask), 2)
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(options.pictures / f"{share}_{zoom}.png"), shown[..., ::-1])
    print(json.dumps({"grid_levels": figures}))


if __name__ == "__main__":
    main()
