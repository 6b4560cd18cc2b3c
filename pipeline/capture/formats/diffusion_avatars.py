"""A person as DiffusionAvatars' release repackages NeRSemble: docs/captures/diffusion-avatars.md."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.capture.formats import numbers
from pipeline.capture.formats.base import Capture, RecordedCamera, Source, Stills
from pipeline.errors import ConfigError, DataError

RESULT, CONFIG = "calibration/calibration_result.json", "calibration/config.json"
EXPECTED = "params_result with rs and ts (3 numbers per camera) and intrinsics (fx, fy, cx, cy)"
STORED = (("images", "png", 1), ("images-2x", "jpg", 2))  # folder, ending, and by what the pictures are smaller
FRAME = re.compile(r"frame_(\d+)")


class DiffusionAvatarsCapture(Capture):
    """`calibration/calibration_result.json`, `sequences/<name>/timesteps/frame_<n>/images-2x/cam_<serial>.jpg`.

    Only every third frame is stored there; frames are counted here as they are stored.
    """

    kind: ClassVar[str] = "diffusion_avatars"
    metric: ClassVar[bool | None] = None  # a checkerboard's unit, which the files do not name

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """By the name of its calibration."""
        return (folder / RESULT).is_file()

    @cached_property
    def _serials(self) -> list[str]:
        """In the order that the calibration counts them."""
        path = self.folder / CONFIG
        try:
            return [str(serial) for serial in json.loads(path.read_text())["serials"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: {error!r}; expected serials, the cameras' names in the order of {RESULT}"
            ) from error

    def cameras(self) -> list[str]:
        """All that are calibrated."""
        return sorted(self._serials)

    def calibration_files(self) -> list[Path]:
        """Both JSON files, and a picture of each camera for its size."""
        sizes = [source.paths[0] for name in self.cameras() if (source := self._sized_by(name))]
        return [self.folder / RESULT, self.folder / CONFIG, *sizes]

    def _sized_by(self, name: str) -> Stills | None:
        return next((found[name] for found in self._stills.values() if name in found), None)

    def calibration(self) -> list[RecordedCamera]:
        """Rodrigues vectors and translations, camera from world; intrinsics of full pictures, shared or per camera."""
        path = self.folder / RESULT
        found = numbers.read_json(path, EXPECTED).get("params_result")
        if not isinstance(found, dict) or not all(found.get(key) for key in ("rs", "ts", "intrinsics")):
            raise DataError(f"{path}: no params_result; expected {EXPECTED}")
        count = len(self._serials)
        if len(found["rs"]) != count or len(found["ts"]) != count:
            raise DataError(f"{path}: {len(found['rs'])} poses; expected {count}, one for each serial of {CONFIG}")
        shared = found["intrinsics"]
        own = shared if isinstance(shared, list) and len(shared) == count else [_first(shared)] * count
        cameras = [
            self._camera(name, one, vector, offset, path)
            for name, one, vector, offset in zip(self._serials, own, found["rs"], found["ts"], strict=True)
        ]
        return sorted(cameras, key=lambda camera: camera.name)

    def _camera(self, name: str, lens: Any, vector: Any, offset: Any, path: Path) -> RecordedCamera:
        what = f"{path}: camera {name}"
        vector, offset = (numbers.matrix([part], 1, (3,), f"{what}: pose")[0] for part in (vector, offset))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = numbers.rotation(vector), offset
        try:
            fx, cx, cy = (float(lens[key]) for key in ("fx", "cx", "cy"))
            fy = float(lens.get("fy", fx))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{what}: intrinsics {lens}; expected fx, fy, cx, cy") from error
        source = self._sized_by(name)
        shrink = 1 if source is None else self._shrink(source.paths[0])
        matrix = np.diag([1 / shrink, 1 / shrink, 1]) @ [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
        return RecordedCamera(
            name, numbers.intrinsics(matrix, f"{what}: intrinsics"), numbers.pose(pose, what), None, source
        )

    def _shrink(self, picture: Path) -> int:
        return next(factor for folder, _, factor in STORED if picture.parent.name == folder)

    def sequences(self) -> list[str]:
        """Folders that hold time steps."""
        return sorted({path.parent.name for path in self.folder.glob("sequences/*/timesteps")})

    @cached_property
    def _stills(self) -> dict[str, dict[str, Stills]]:
        """Pictures by sequence and camera, of the cameras that have the first."""
        found = {}
        for name in self.sequences():
            steps = self._steps(name)
            stored = [(folder, ending) for folder, ending, _ in STORED if steps and (steps[0] / folder).is_dir()]
            found[name] = self._series(steps, *stored[0]) if stored else {}
        return found

    def _steps(self, sequence: str) -> list[Path]:
        """Folders of the stored time steps, in their order."""
        folders = (self.folder / "sequences" / sequence / "timesteps").iterdir()
        return sorted((path for path in folders if FRAME.fullmatch(path.name)), key=lambda path: int(path.name[6:]))

    def _series(self, steps: list[Path], folder: str, ending: str) -> dict[str, Stills]:
        paths = {name: tuple(step / folder / f"cam_{name}.{ending}" for step in steps) for name in self._serials}
        return {name: Stills(files) for name, files in paths.items() if files and files[0].is_file()}

    def pictures(self, sequence: str) -> dict[str, Source]:
        """One picture per stored time step."""
        if sequence not in self._stills:
            raise ConfigError(f"{self.folder}: no sequence {sequence}; it has {', '.join(self.sequences())}")
        return dict(self._stills[sequence])

    def masks(self, sequence: str) -> dict[str, Source]:
        """`alpha_map/cam_<serial>.png`, of the cameras that have the first."""
        own = self._series(self._steps(sequence), "alpha_map", "png")
        return {name: masks for name, masks in own.items() if name in self.pictures(sequence)}

    def tints(self, sequence: str) -> dict[str, Path]:
        """`annotations/color_correction/<serial>.npy`: applied to sRGB in [0, 1] as row vectors."""
        folder = self.folder / "sequences" / sequence / "annotations/color_correction"
        paths = {name: folder / f"{name}.npy" for name in self._serials}
        return {name: path for name, path in paths.items() if path.is_file()}


def _first(shared: Any) -> Any:
    return shared[0] if isinstance(shared, list) else shared
