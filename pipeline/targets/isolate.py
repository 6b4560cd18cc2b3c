"""The head without the torso: which pixels of a cropped camera belong to it, and the training target over white."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.cameras.camera import Camera
from pipeline.cameras.resample import crop_weights, resample
from pipeline.cameras.rig import Rig
from pipeline.head.model.face import HAIRLINE, on_face
from pipeline.head.model.pose import scale_of
from pipeline.mesh.cut import Plane
from pipeline.raster.coding import chunk_buffers
from pipeline.store.chunk import Chunk
from pipeline.targets.occlusion import Occluder, occluded

# This far inside the mesh's outline, metres and pixels, its errors of a millimetre or two do not matter.
SURE_INSIDE, SURE_PIXELS = 0.003, 2.0
# Where a third of the sure face is background the mesh is not where the person is, and says nothing.
FACE_COVERED = 2 / 3
OPAQUE = 0.995
SOME = 0.02  # a smaller share of a pixel is nothing


@dataclass(frozen=True)
class Margin:
    """How far off the mesh a pixel still counts as head, metres: `skin` up to `low` above the neck cut, growing to
    `hair` at `high` above it.

    The mesh is within millimetres on the skin but only a rough hull of the hair, and a wide margin at the chin lets the
    collar in.
    """

    skin: float
    hair: float
    low: float
    high: float

    def at(self, height: np.ndarray) -> np.ndarray:
        """The margin (...,) at heights (...,) above the neck cut, metres."""
        return np.interp(height, [self.low, self.high], [self.skin, self.hair])


def head_weight(
    buffers: dict[str, np.ndarray], camera: Camera, head_from_world: np.ndarray, neck: Plane, margin: Margin
) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pixel (h, w) in [0, 1] that may belong to the head, and its canonical place (h, w, 3), head units.

    A pixel off the mesh is placed at the depth of the nearest pixel on it and takes that pixel's displacement to
    canonical space, so that a jaw that opens carries the cut along. It counts above the neck plane and near the mesh.
    `buffers`: depth (h, w), mask (h, w) bool, x_can (h, w, 5) of the cut mesh; `head_from_world` (4, 4) similarity.
    """
    mask = buffers["mask"]
    if not mask.any():
        return np.zeros(mask.shape), np.zeros((*mask.shape, 3))
    distance, nearest = distance_transform_edt(~mask, return_indices=True)
    nearest = tuple(nearest)
    depth = buffers["depth"][nearest].astype(np.float64)
    world = camera.centre + camera.rays() * depth[..., None]
    head = world @ head_from_world[:3, :3].T + head_from_world[:3, 3]
    canonical = head + (buffers["x_can"][..., :3] - head)[nearest]
    units_per_metre = scale_of(head_from_world)
    height = neck.height(canonical) / units_per_metre  # metres above the cut
    pixel = depth / camera.intrinsics[1, 1]  # metres
    above = np.clip(0.5 + height / pixel, 0, 1)
    near = np.clip(0.5 + margin.at(height) / pixel - distance, 0, 1)
    return above * near, canonical


def surely_face(buffers: dict[str, np.ndarray], camera: Camera) -> np.ndarray:
    """Pixels (h, w) bool well inside the mesh's face: head, whatever its colour and its alpha.

    Stubble and the shadow under the jaw differ from skin in chromaticity as a collar does, and a bald forehead before a
    light wall has a low alpha; a mesh knows better. `buffers` as for `head_weight`.
    """
    mask = buffers["mask"] > 0
    if not mask.any():
        return mask
    pixel = np.median(buffers["depth"][mask]) / camera.intrinsics[1, 1]  # metres
    # The picture's edge is no outline.
    inside = distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    return mask & on_face(buffers["x_can"], HAIRLINE) & (inside > max(SURE_PIXELS, SURE_INSIDE / pixel))


def over_white(colour: np.ndarray, alpha: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target and its alpha, uint8 (..., 3) and (...,).

    `colour` (..., 3) premultiplied sRGB in [0, 255], `alpha` (...,) in [0, 1] and `weight` (...,) in [0, 1].
    """
    own = alpha * weight
    target = colour * weight[..., None] + 255 * (1 - own[..., None])
    return np.rint(np.clip(target, 0, 255)).astype(np.uint8), np.rint(np.clip(own, 0, 1) * 255).astype(np.uint8)


def picture_of(frames: Chunk, name: str, index: int, source: Rig, camera: int) -> np.ndarray:
    """Camera `camera`'s array `name`, (H, W, ...) float32 of its own size, at time step `index` of a chunk."""
    return source.cameras[camera].own(frames[name][index, camera]).astype(np.float32)


def seen_by(frames: Chunk, index: int, source: Rig, camera: int, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Premultiplied sRGB in [0, 255] and alpha in [0, 1], (h, w, 3 + 1), of the crop whose `crop_weights` these are."""
    alpha = picture_of(frames, "alpha", index, source, camera)[..., None] / 255
    rgb = picture_of(frames, "rgb", index, source, camera)
    return resample(np.concatenate([rgb * alpha, alpha], -1), *weights)


class Targets:
    """Makes the targets of one time step after the other for the crops `rig` of the capture's cameras `source`."""

    def __init__(self, source: Rig, rig: Rig, neck: Plane, margin: Margin, occluder: Occluder):
        self.source, self.rig, self.neck, self.margin, self.occluder = source, rig, neck, margin, occluder
        self.sources = [source.index(camera.name) for camera in rig.cameras]
        self.weights = [
            crop_weights(source.cameras[index], camera) for index, camera in zip(self.sources, rig.cameras, strict=True)
        ]

    def of_step(
        self, frames: Chunk, buffers: Chunk, index: int, head_from_world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Targets (C, h, w, 3) and their alpha (C, h, w), uint8, of entry `index` of two chunks of one span."""
        seen = np.stack(  # (C, h, w, 3 + 1)
            [seen_by(frames, index, self.source, *crop) for crop in zip(self.sources, self.weights, strict=True)]
        )
        colour, alpha = seen[..., :3], seen[..., 3]
        judged = []
        for camera, crop in enumerate(self.rig.cameras):
            here = chunk_buffers(buffers, index, camera, ("depth", "mask", "x_can"))
            face = surely_face(here, crop)
            if face.any() and alpha[camera][face].mean() < FACE_COVERED:
                face[:] = False
            judged.append((*head_weight(here, crop, head_from_world, self.neck, self.margin), face))
        weight, place, face = (np.stack(part) for part in zip(*judged, strict=True))
        metres_per_unit = 1 / scale_of(head_from_world)
        low = self.neck.height(place) * metres_per_unit < self.occluder.height
        straight = colour / np.maximum(alpha, 1e-3)[..., None]
        asked, body = low & (alpha * weight > SOME), (alpha > SOME) & (weight < SOME)
        weight[occluded(straight, place * metres_per_unit, asked, face, body, self.occluder)] = 0
        for camera in np.flatnonzero((face & (alpha < OPAQUE)).any((1, 2))).tolist():
            sure = face[camera] & (weight[camera] > 0)
            colour[camera][sure] = self._straight(frames, index, camera)[sure]
            alpha[camera][sure] = 1
        return over_white(colour, alpha, weight)

    def _straight(self, frames: Chunk, index: int, camera: int) -> np.ndarray:
        """Colour (h, w, 3) of a camera of the rig, whatever the alpha."""
        return resample(picture_of(frames, "rgb", index, self.source, self.sources[camera]), *self.weights[camera])
