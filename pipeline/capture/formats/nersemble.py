"""A participant of NeRSemble v2: docs/captures/nersemble.md."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.capture.formats import numbers
from pipeline.capture.formats.base import Capture, Film, RecordedCamera, Source, Stills
from pipeline.cli import log
from pipeline.errors import ConfigError, DataError

GEOMETRY = "world_2_cam (4x4 per camera) and intrinsics (3x3)"
COLORS = "a 3xN colour matrix per camera"
# Terms of the polynomials of Cheung, Westland, Connah and Ripamonti (2004).
TERMS = (3, 4, 5, 7, 8, 10, 11, 14, 16, 17, 19, 20, 22, 35)
BACKGROUND = "BACKGROUND"
BENDING = re.compile(r"dist|radial|tangential|lens|fisheye|^[kp]\d$|model|skew", re.IGNORECASE)


class NersembleCapture(Capture):
    """`calibration/*.json`, `sequences/<name>/images/cam_<serial>.mp4`, `sequences/BACKGROUND/image_<serial>.jpg`."""

    kind: ClassVar[str] = "nersemble"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """By camera_params.json, or the pictures of the empty set; the benchmark's release has alpha_maps besides."""
        found = (folder / "calibration/camera_params.json").exists() or (folder / "sequences" / BACKGROUND).is_dir()
        return found and not any(folder.glob("sequences/*/alpha_maps"))

    @cached_property
    def _geometry(self) -> Path:
        return self.folder / "calibration/camera_params.json"

    @cached_property
    def _colors(self) -> Path:
        return self.folder / "calibration/color_calibration.json"

    @cached_property
    def _names(self) -> list[str]:
        if not self._geometry.is_file():
            raise ConfigError(f"{self._geometry}: no such file; expected the calibration of the cameras")
        try:
            return sorted(json.loads(self._geometry.read_bytes())["world_2_cam"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._geometry}: no object with world_2_cam, a 4x4 matrix per camera") from error

    def cameras(self) -> list[str]:
        """The serials of world_2_cam; of the calibration nothing else is checked here."""
        return list(self._names)

    def calibration_files(self) -> list[Path]:
        """The JSON files that are there, and what tells how large the pictures are: plates, else videos."""
        colors = [self._colors] if self._colors.is_file() else []
        sizes = [path for name in self._names if (source := self._sized_by(name)) for path in source.files()]
        return [self._geometry, *colors, *sizes]

    def _sized_by(self, name: str) -> Source | None:
        """A camera's plate, else its first video."""
        if plate := self.plates().get(name):
            return Stills((plate,))
        return next((found[name] for s in self.sequences() if name in (found := self.pictures(s))), None)

    def calibration(self) -> list[RecordedCamera]:
        """One set of intrinsics for all cameras, or one per camera; colours where they are calibrated."""
        path = self._geometry
        geometry = numbers.read_json(path, GEOMETRY)
        colors = numbers.read_json(self._colors, COLORS) if self._colors.exists() else {}
        for key in ("world_2_cam", "intrinsics"):
            if not geometry.get(key):
                raise DataError(f"{path}: no {key}; expected {GEOMETRY}")
        for key in sorted(set(geometry) - {"world_2_cam", "intrinsics"}):
            if BENDING.search(key) and not numbers.is_nothing(geometry[key]):
                raise DataError(
                    f"{path}: {key} is not read from this format; expected {GEOMETRY} alone: a lens that bends lines "
                    "can be told in transforms.json or a COLMAP model (docs/captures)"
                )
            log.warning("%s: unknown key %s is not read; expected %s", path, key, GEOMETRY)
        shared = geometry["intrinsics"]
        result = []
        for name in sorted(geometry["world_2_cam"]):
            if colors and name not in colors:
                raise DataError(
                    f"{self._colors}: no camera {name}; expected a 3xN colour matrix for every calibrated camera"
                )
            if isinstance(shared, dict) and name not in shared:
                raise DataError(f"{path}: intrinsics of camera {name} missing; expected a 3x3 matrix")
            own = shared[name] if isinstance(shared, dict) else shared
            result.append(
                RecordedCamera(
                    name,
                    intrinsics=numbers.intrinsics(own, f"{path}: intrinsics of camera {name}"),
                    camera_from_world=numbers.pose(
                        geometry["world_2_cam"][name], f"{path}: world_2_cam of camera {name}"
                    ),
                    size=None,
                    sized_by=self._sized_by(name),
                    color=self._color(colors, name),
                )
            )
        return result

    def _color(self, colors: dict[str, Any], name: str) -> np.ndarray | None:
        what = f"{self._colors}: colour matrix of camera {name}"
        return numbers.matrix(colors[name], 3, TERMS, what) if colors else None

    def sequences(self) -> list[str]:
        """Every folder that holds videos."""
        return sorted({path.parents[1].name for path in self.folder.glob("sequences/*/images/cam_*.mp4")})

    def pictures(self, sequence: str) -> dict[str, Source]:
        """A video of every calibrated camera that has one: participants lack some cameras in some sequences."""
        folder = self.folder / "sequences" / sequence / "images"
        videos = {name: folder / f"cam_{name}.mp4" for name in self._names}
        return {name: Film(path) for name, path in videos.items() if path.is_file()}

    def plates(self) -> dict[str, Path]:
        """A picture of the empty set of every calibrated camera that has one."""
        folder = self.folder / "sequences" / BACKGROUND
        plates = {name: folder / f"image_{name}.jpg" for name in self._names}
        return {name: path for name, path in plates.items() if path.is_file()}

    def landmarks(self, sequence: str) -> dict[str, Path]:
        """`sequences/<name>/landmarks/cam_<serial>.npy`, added by whoever ran a detector."""
        found = sorted((self.folder / "sequences" / sequence / "landmarks").glob("*.npy"))
        return {path.stem.removeprefix("cam_") if path.stem.startswith("cam_") else path.name: path for path in found}
