"""A COLMAP model with videos or picture folders per camera: docs/captures/colmap.md."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.cameras.camera import Lens
from pipeline.capture.formats import numbers
from pipeline.capture.formats.base import Capture, RecordedCamera, Source
from pipeline.capture.formats.colmap_images import ENDINGS, image_names, is_model
from pipeline.capture.formats.folders import mask_sources, picture_sources, sequences, unread_folders
from pipeline.capture.formats.names import own_counts
from pipeline.errors import ConfigError, DataError

MODELS = ("sparse/*", "sparse", "colmap/sparse/*", ".")  # where COLMAP and nerfstudio keep models
STRAIGHT = ("SIMPLE_PINHOLE", "PINHOLE")
STILL = 1e-3  # pictures of one camera, posed one by one, may differ by this share of the rig's size


class ColmapCapture(Capture):
    """`sparse/0` beside `videos/` or `images/`; a camera is named as its image in the model is."""

    kind: ClassVar[str] = "colmap"
    metric: ClassVar[bool | None] = False

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """By the model's files."""
        return bool(_models(folder))

    @cached_property
    def _model(self) -> Path:
        """The model with most images: where COLMAP cannot connect all pictures it writes several."""
        found = _models(self.folder)
        return found[0] if len(found) == 1 else max(found, key=_size)

    @cached_property
    def _pictures(self) -> dict[str, dict[str, Source]]:
        return {name: picture_sources(self.folder, name) for name in sequences(self.folder)}

    def sequences(self) -> list[str]:
        """Folders of videos, or of folders of pictures."""
        return sorted(self._pictures)

    @cached_property
    def _recorded(self) -> list[str]:
        """Cameras that recorded anything."""
        names = {name for sources in self._pictures.values() for name in sources}
        if not names:
            raise ConfigError(f"{self.folder}: a COLMAP model but no videos/ or images/; expected what the cameras saw")
        return sorted(names)

    @cached_property
    def _images(self) -> dict[int, tuple[str, str]]:
        """Name and camera of the model's images, by id."""
        named = image_names(self._model)
        return {number: (name, found) for number, name in named.items() if (found := self._camera_of(name))}

    def cameras(self) -> list[str]:
        """Those that recorded anything and are in the model."""
        placed = {camera for _, camera in self._images.values()}
        found = [name for name in self._recorded if name in placed]
        if not found:
            listed = ", ".join(sorted(image_names(self._model).values())[:8])
            raise DataError(
                f"{self._model}: no image of camera {', '.join(self._recorded[:8])}; the model has {listed} ..."
            )
        return found

    def unused(self, sequence: str) -> list[str]:
        """Recordings that the model has not placed."""
        lost = [name for name in picture_sources(self.folder, sequence) if name not in self.cameras()]
        listed = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
        return [f"{listed}, which the model does not place"] if lost else []

    def calibration_files(self) -> list[Path]:
        """The model's cameras and images."""
        return [path for path in sorted(self._model.iterdir()) if path.suffix in ENDINGS]

    def calibration(self) -> list[RecordedCamera]:
        """Every camera whose image, or pictures, COLMAP has placed."""
        import pycolmap  # takes half a second, and only calibrate needs it

        folder = self._model
        try:
            model = pycolmap.Reconstruction(str(folder))
        except (ValueError, RuntimeError, IndexError) as error:
            raise DataError(f"{folder}: not a COLMAP model ({error}); expected cameras, images, points3D") from error
        found: dict[str, RecordedCamera] = {}
        for number, (called, name) in sorted(self._images.items(), key=lambda item: item[1]):
            what = f"{folder}: image {called}"
            if number not in model.images or not model.images[number].has_pose:
                raise DataError(f"{what}: COLMAP reads no pose of it; expected one")
            image = model.images[number]
            pose = np.eye(4)
            pose[:3] = image.cam_from_world().matrix()
            camera = model.cameras[image.camera_id]
            if not camera.is_perspective():
                raise DataError(f"{what}: camera model {camera.model.name}; expected one of perspective")
            size = (camera.width, camera.height)
            straight = camera.model.name in STRAIGHT
            recorded = RecordedCamera(
                name,
                numbers.intrinsics(camera.calibration_matrix(), f"{what}: camera {image.camera_id}"),
                numbers.pose(pose, f"{what}: pose"),
                size,
                self._sized_by(name),
                None if straight else Lens(camera.model.name, *size, tuple(map(float, camera.params))),
            )
            first = found.setdefault(name, recorded).camera_from_world
            if np.abs(first - pose).max() > STILL * max(1.0, np.abs(first).max()):
                raise DataError(
                    f"{what}: camera {name} has moved since its first picture; expected it to stand still, or pictures "
                    "of one moment in images/ itself"
                )
        return [found[name] for name in self.cameras()]

    def _camera_of(self, image: str) -> str | None:
        """The camera that a model's image belongs to: named as the image, or as a folder that it lies in."""
        path = Path(image)
        candidates = [path.with_suffix("").as_posix().replace("/", "_"), path.stem, *reversed(path.parts[:-1])]
        return next((name for name in candidates if name in self._recorded), None)

    def _sized_by(self, camera: str) -> Source | None:
        """A camera's first recording."""
        return next((sources[camera] for sources in self._pictures.values() if camera in sources), None)

    def ignored(self) -> list[str]:
        """Other models, folders of masks by other names, and cameras that number their pictures by themselves."""
        others = [model for model in _models(self.folder) if model != self._model]
        count = _size(self._model)
        return [
            *(f"{one}: not read ({_size(one)} images); {self._model} has {count}" for one in others),
            *unread_folders(self.folder, {"sparse"}),
            *(line for sources in self._pictures.values() for line in own_counts(sources)),
        ]

    def pictures(self, sequence: str) -> dict[str, Source]:
        """One per camera."""
        if sequence not in self._pictures:
            raise ConfigError(f"{self.folder}: no sequence {sequence}; it has {', '.join(self.sequences())}")
        placed = self.cameras()
        return {name: source for name, source in self._pictures[sequence].items() if name in placed}

    def masks(self, sequence: str) -> dict[str, Source]:
        """Laid out as the pictures are, in masks/."""
        return mask_sources(self.folder, sequence, self.pictures(sequence))


def _models(folder: Path) -> list[Path]:
    """Folders that hold a COLMAP model, of the first place that has any."""
    for place in MODELS:
        found = [path for path in ([folder] if place == "." else sorted(folder.glob(place))) if is_model(path)]
        if found:
            return found
    return []


def _size(model: Path) -> int:
    """Number of images of a model; 0 where it cannot be read, for which the model's own reader raises the error."""
    try:
        return len(image_names(model))
    except DataError:
        return 0
