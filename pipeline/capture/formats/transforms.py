"""transforms.json as nerfstudio and head trackers write it, one per sequence: docs/captures/transforms.md."""

import json
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pipeline.capture.formats import numbers
from pipeline.capture.formats.base import Capture, RecordedCamera, Source, Stills
from pipeline.capture.formats.folders import PICTURES
from pipeline.capture.formats.transforms_lens import BENDS, check_model, lens_of
from pipeline.capture.formats.transparent import has_alpha
from pipeline.errors import ConfigError, DataError

FILE = "transforms.json"
SPLIT = ("transforms_train.json", "transforms_val.json", "transforms_test.json")  # trackers write these too
ONLY = "all"  # name of the one sequence of a folder that holds the file itself
OPENCV_FROM_OPENGL = np.diag([1.0, -1, -1, 1])
# The same camera's pose may differ in the last digits between frames; one that moves differs by more.
STILL = 1e-4
MASKS = ("fg_mask_path", "mask_path")
TIMES = ("timestep_index", "time")
# What monocular trackers give every picture: one camera before a person who moves.
EXPRESSIONS = ("exp_path", "expression", "flame_param_path")
SAME_LENS = 1e-3  # share of the focal length by which a camera's pictures may differ in it
POSED = "frames, each with transform_matrix and file_path"


class TransformsCapture(Capture):
    """`<sequence>/transforms.json`, or one `transforms.json` for the only sequence, beside its pictures."""

    kind: ClassVar[str] = "transforms"
    precedes: ClassVar[tuple[str, ...]] = ("colmap",)  # nerfstudio keeps the model that it made the file of
    metric: ClassVar[bool | None] = None  # trackers write metres, nerfstudio does not; the file does not say

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """By the file's name."""
        return bool(_files(folder))

    @cached_property
    def _sequences(self) -> dict[str, list[dict[str, Any]]]:
        """Frames of every sequence by name, with the file's own keys laid under each frame's."""
        return {name: _frames(paths) for name, paths in _files(self.folder).items()}

    def sequences(self) -> list[str]:
        """Folders that hold the file."""
        return sorted(_files(self.folder))

    def cameras(self) -> list[str]:
        """Ids of the cameras, or one per picture where the file has no camera ids."""
        return sorted({frame["camera"] for frames in self._sequences.values() for frame in frames})

    def calibration_files(self) -> list[Path]:
        """The JSON files; pictures only where they do not say how large the pictures are."""
        unknown = {f["camera"]: f["path"] for s in self._sequences.values() for f in s if "w" not in f or "h" not in f}
        return [path for paths in _files(self.folder).values() for path in paths] + list(unknown.values())

    def calibration(self) -> list[RecordedCamera]:
        """The pose of a camera's first frame, which all its other frames must repeat."""
        found: dict[str, tuple[RecordedCamera, str]] = {}
        for name, frames in self._sequences.items():
            for frame in frames:
                where = f"{frame['file']}: {frame['path'].name}, camera {frame['camera']}"
                camera = _camera(frame, where)
                first, first_where = found.setdefault(camera.name, (camera, where))
                off = np.abs(first.camera_from_world - camera.camera_from_world).max()
                if off > STILL * max(1.0, np.abs(first.camera_from_world).max()):
                    raise DataError(
                        f"{where} of sequence {name} has moved since {first_where}; expected cameras that stand still"
                    )
                away = np.abs(first.intrinsics - camera.intrinsics).max()
                if away > SAME_LENS * first.intrinsics[0, 0] or (first.size, first.lens) != (camera.size, camera.lens):
                    raise DataError(
                        f"{where} of sequence {name} has another lens than {first_where} (focal length "
                        f"{camera.intrinsics[0, 0]:.4g} and {first.intrinsics[0, 0]:.4g} pixels, size {camera.size} "
                        f"and {first.size}); expected one per camera"
                    )
        return [found[name][0] for name in self.cameras()]

    def pictures(self, sequence: str) -> dict[str, Source]:
        """The time steps that every camera of the sequence has."""
        return {name: Stills(tuple(f["path"] for f in frames)) for name, frames in self._by_camera(sequence).items()}

    def masks(self, sequence: str) -> dict[str, Source]:
        """`fg_mask_path` or `mask_path` of every frame; else the pictures' own alpha, where they have one."""
        result: dict[str, Source] = {}
        for name, frames in self._by_camera(sequence).items():
            listed = [next((f["folder"] / _slashes(f[key]) for key in MASKS if f.get(key)), None) for f in frames]
            if all(listed):
                result[name] = Stills(tuple(path for path in listed if path))
            elif any(listed):
                bare = frames[listed.index(None)]
                raise ConfigError(f"{bare['file']}: {bare['path'].name} has no mask; expected all or none")
            elif has_alpha(frames[0]["path"]):
                result[name] = Stills(tuple(f["path"] for f in frames))
        return result

    def unused(self, sequence: str) -> list[str]:
        """Time steps that not every camera has."""
        steps: dict[int, set[str]] = {}
        for frame in self._sequences.get(sequence, []):
            steps.setdefault(frame["step"], set()).add(frame["camera"])
        every, without = set().union(*steps.values()), dict[tuple[str, ...], list[int]]()
        for step, seen in sorted(steps.items()):
            if seen != every:
                without.setdefault(tuple(sorted(every - seen)), []).append(step)
        return [
            f"time step {', '.join(map(str, lost[:3]))}{f' and {len(lost) - 3} more' if len(lost) > 3 else ''} of "
            f"{len(steps)}, which camera {', '.join(cameras[:3])} lacks"
            for cameras, lost in without.items()
        ]

    def ignored(self) -> list[str]:
        """Masks that no frame names, and a COLMAP model."""
        bare = not any(self.masks(sequence) for sequence in self.sequences())
        found = [name for name in ("masks", "fg_masks") if bare and (self.folder / name).is_dir()]
        found += [name for name in ("sparse", "colmap") if (self.folder / name).is_dir()]
        return [f"{self.folder / name}: not read; cameras and masks come from transforms.json" for name in found]

    def _by_camera(self, sequence: str) -> dict[str, list[dict[str, Any]]]:
        """Frames of each camera in time, of the time steps that all of them have."""
        if sequence not in self._sequences:
            raise ConfigError(f"{self.folder}: no sequence {sequence}; it has {', '.join(self.sequences())}")
        steps: dict[str, dict[int, dict[str, Any]]] = {}
        for frame in self._sequences[sequence]:
            steps.setdefault(frame["camera"], {})[frame["step"]] = frame
        common = sorted(set.intersection(*(set(own) for own in steps.values())))
        if not common:
            fewest = min(steps, key=lambda name: len(steps[name]))
            raise ConfigError(
                f"{self.folder}: {sequence} has no time step that all {len(steps)} cameras saw; camera {fewest} "
                f"saw {len(steps[fewest])}"
            )
        return {name: [own[step] for step in common] for name, own in sorted(steps.items())}


def _files(folder: Path) -> dict[str, list[Path]]:
    """Files by sequence."""
    found = {ONLY: folder} if _in(folder) else {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    return {name: files for name, path in found.items() if (files := _in(path))}


def _in(folder: Path) -> list[Path]:
    one = folder / FILE
    return [one] if one.is_file() else [folder / name for name in SPLIT if (folder / name).is_file()]


def _frames(paths: list[Path]) -> list[dict[str, Any]]:
    """Frames of one sequence; `camera` its name, `step` its place in time, `path` its picture."""
    frames = []
    for path in paths:
        content = _read(path)
        shared = {key: value for key, value in content.items() if key != "frames"}
        frames += [{**shared, **frame, "file": path, "folder": path.parent} for frame in content["frames"]]
    for frame in frames:
        frame["path"] = _picture(frame["folder"], str(frame["file_path"]))
    timed = _steps(frames)
    named = all("camera_id" in frame or "camera_index" in frame for frame in frames)
    stems = len({frame["path"].stem for frame in frames}) == len(frames)
    for number, frame in enumerate(frames):
        own = frame["path"].stem if stems else f"{number:05d}"
        frame["camera"] = str(frame.get("camera_id", frame.get("camera_index"))) if named else own
    if timed and not named and len({frame["step"] for frame in frames}) > 1:
        raise ConfigError(f"{paths[0]}: several time steps but no camera_index or camera_id; expected one per frame")
    for key in EXPRESSIONS:
        if not timed and len({str(frame.get(key)) for frame in frames}) > 1:
            raise ConfigError(
                f"{paths[0]}: every picture has its own {key}, as of one camera before a person who moves; expected "
                "several cameras, with timestep_index and camera_id"
            )
    if named and not timed and len({frame["camera"] for frame in frames}) < len(frames):
        # one camera carried round a person who keeps still: every picture is a camera of its own
        for number, frame in enumerate(frames):
            frame["camera"] = frame["path"].stem if stems else f"{number:05d}"
    for frame in frames:
        frame["camera"] = re.sub(r"[^\w.+-]", "_", frame["camera"])
    return _once(frames)


def _steps(frames: list[dict[str, Any]]) -> bool:
    """Give each frame its `step`, 0 without a time index; returns whether there is one. Raises ConfigError."""
    key = next((key for key in TIMES if all(key in frame for frame in frames)), None)
    if key is None:
        for frame in frames:
            frame["step"] = 0
        return False
    for frame in frames:
        try:
            frame["step"] = float(frame[key])
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{frame['file']}: {frame['path'].name}: {key} {frame[key]!r}; expected a number"
            ) from error
    if key == "time":
        places = {time: place for place, time in enumerate(sorted({frame["step"] for frame in frames}))}
        for frame in frames:
            frame["step"] = places[frame["step"]]
        return len(places) > 1  # a still moment may have a time
    for frame in frames:
        frame["step"] = int(frame["step"])
    return True


def _once(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames without those that are listed twice, as in files for validation and for tests. Raises ConfigError
    where two pictures have one camera and time."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for frame in frames:
        first = found.setdefault((frame["camera"], frame["step"]), frame)
        if (first["path"], first["transform_matrix"]) != (frame["path"], frame["transform_matrix"]):
            raise ConfigError(
                f"{frame['file']}: {first['path'].name} and {frame['path'].name} are both camera {frame['camera']}, "
                f"time step {frame['step']}; expected one picture"
            )
    return list(found.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if content["frames"] and all("file_path" in f and "transform_matrix" in f for f in content["frames"]):
            return content
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: {error!r}; expected {POSED}") from error
    raise ConfigError(f"{path}: no frames, or some without picture or pose; expected {POSED}")


def _picture(folder: Path, name: str) -> Path:
    """Synthetic data sets leave the ending out."""
    path = folder / _slashes(name)
    if path.suffix.lower() in PICTURES or path.is_file():
        return path
    endings = (path.with_name(f"{path.name}{ending}") for ending in sorted(PICTURES))
    return next((found for found in endings if found.is_file()), path.with_name(f"{path.name}.png"))


def _slashes(name: str) -> str:
    """A path as Windows writes it, as it is written here."""
    return name.replace("\\", "/")


def _camera(frame: dict[str, Any], where: str) -> RecordedCamera:
    world_from_camera = numbers.pose(frame["transform_matrix"], f"{where}: transform_matrix")
    try:
        size = (int(frame["w"]), int(frame["h"])) if "w" in frame and "h" in frame else None
        shown = (0, 0) if {"fl_x", "cx"} <= frame.keys() else size or _size_of(frame["path"])
        focal = _focal(frame, shown)
        middle = (float(frame["cx"]), float(frame["cy"])) if "cx" in frame else (shown[0] / 2, shown[1] / 2)
        bends = {key: float(frame.get(key) or 0) for key in BENDS}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: {error!r}; expected fl_x or camera_angle_x, and cx, cy, w, h, as numbers") from error
    matrix = numbers.intrinsics([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]], f"{where}: intrinsics")
    camera = RecordedCamera(
        frame["camera"],
        intrinsics=matrix,
        camera_from_world=OPENCV_FROM_OPENGL @ np.linalg.inv(world_from_camera),
        size=size,
        sized_by=Stills((frame["path"],)),
    )
    check_model(frame, where)
    lens = lens_of(frame, (*focal, *middle), bends, where)
    return replace(camera, lens=replace(lens, width=size[0], height=size[1]) if lens and size else lens)


def _size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture, from its header."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except OSError as error:  # Pillow's own is one
        raise DataError(f"{path}: not a readable picture ({error}); expected one that tells its size") from error


def _focal(frame: dict[str, Any], size: tuple[int, int]) -> tuple[float, float]:
    if "fl_x" in frame:
        return float(frame["fl_x"]), float(frame.get("fl_y", frame["fl_x"]))
    focal = 0.5 * size[0] / np.tan(0.5 * float(frame["camera_angle_x"]))
    return focal, focal
