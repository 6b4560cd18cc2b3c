"""Rigs: cameras in order, and the JSON file that holds them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cameras.camera import Camera, Lens
from pipeline.errors import DataError
from pipeline.store.chunk import publish
from pipeline.store.made_by import KEY, kept


@dataclass(frozen=True)
class Rig:
    """Cameras in order. A still rig's cameras all see every time step; of a moving rig, camera i sees step i only."""

    cameras: tuple[Camera, ...]
    moving: bool = False

    @property
    def names(self) -> list[str]:
        """Camera names in order."""
        return [camera.name for camera in self.cameras]

    @property
    def padded_shape(self) -> tuple[int, int, int]:
        """Cameras, height and width of an array with a picture of every camera, padded to the largest."""
        return len(self.cameras), max(c.height for c in self.cameras), max(c.width for c in self.cameras)

    def padded(self, picture: np.ndarray) -> np.ndarray:
        """One camera's picture (h, w, ...) with zeros beyond its own size; `Camera.own` cuts it out again."""
        _, height, width = self.padded_shape
        if picture.shape[:2] == (height, width):
            return picture
        result = np.zeros((height, width, *picture.shape[2:]), picture.dtype)
        result[: picture.shape[0], : picture.shape[1]] = picture
        return result

    def index(self, name: str) -> int:
        """Place of a camera on the camera axis. Raises DataError when there is no such camera."""
        if name not in self.names:
            raise DataError(f"no camera {name}; the rig has {', '.join(self.names)}")
        return self.names.index(name)


def write_rig(path: Path, rig: Rig, record: Mapping[str, Any] | None = None) -> None:
    """Write a rig as JSON (docs/formats.md), with the stage and the settings of the `cli.record` that made it."""
    cameras = [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": camera.intrinsics.tolist(),
            "camera_from_world": camera.camera_from_world.tolist(),
            "color": camera.color.tolist(),
            **({"lens": asdict(camera.lens)} if camera.lens else {}),
        }
        for camera in rig.cameras
    ]
    with publish(path) as partial:
        content = {KEY: kept(record or {}), "moving": rig.moving, "cameras": cameras}
        partial.write_text(json.dumps(content, indent=1))


def read_rig(path: Path) -> Rig:
    """Read a rig written by `write_rig`. Raises DataError naming the file when it is not one."""
    try:
        content = json.loads(path.read_text())
        cameras = tuple(
            Camera(
                name=entry["name"],
                width=entry["width"],
                height=entry["height"],
                intrinsics=np.array(entry["intrinsics"], float),
                camera_from_world=np.array(entry["camera_from_world"], float),
                color=np.array(entry["color"], float),
                lens=_lens(entry.get("lens")),
            )
            for entry in content["cameras"]
        )
        return Rig(cameras, content["moving"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a rig file ({error!r}); expected the JSON of docs/formats.md") from error


def _lens(entry: dict[str, Any] | None) -> Lens | None:
    return Lens(entry["model"], entry["width"], entry["height"], tuple(entry["params"])) if entry else None
