"""COLMAP through pycolmap: known cameras as a model, depth and normal maps as a workspace, fusion, patch match.

COLMAP's pixel (0, 0) has its centre at (0.5, 0.5) in a camera model, as here; its dense files, however, take array
indices for pixel coordinates, so that the dense workspace's principal points are moved by half a pixel.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.device import DeviceError
from pipeline.errors import DataError

HALF_PIXEL = 0.5
pycolmap.logging.minloglevel = int(pycolmap.logging.WARNING)  # its progress lines would drown the stage's own
PLY_VERTEX = np.dtype([("point", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])


def reconstruction(cameras: Sequence[Camera], index_shift: float = 0.0) -> pycolmap.Reconstruction:
    """A COLMAP model of known cameras: image i + 1 is `cameras[i]`, named `{name}.png`; no points.

    `index_shift` is taken off the principal point (0.5 for a dense workspace). Raises DataError for skewed intrinsics,
    which COLMAP's pinhole model has no place for.
    """
    model = pycolmap.Reconstruction()
    for number, camera in enumerate(cameras, start=1):
        matrix = camera.intrinsics
        if abs(matrix[0, 1]) > 1e-6 * matrix[0, 0]:
            raise DataError(f"camera {camera.name}: skew {matrix[0, 1]:g} in the intrinsics; expected none")
        parameters = [matrix[0, 0], matrix[1, 1], matrix[0, 2] - index_shift, matrix[1, 2] - index_shift]
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                camera_id=number, model="PINHOLE", width=camera.width, height=camera.height, params=parameters
            )
        )
        image = pycolmap.Image(image_id=number, camera_id=number, name=f"{camera.name}.png")
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(camera.camera_from_world[:3]))
    return model


def add_points(
    model: pycolmap.Reconstruction, cameras: Sequence[Camera], points: np.ndarray, seen_by: np.ndarray
) -> None:
    """Add points (n, 3) with tracks: `seen_by` (n, C) bool. COLMAP finds overlapping images by shared points."""
    observations: list[list[pycolmap.Point2D]] = [[] for _ in cameras]
    pixels = [camera.project(points)[0] for camera in cameras]
    tracks = []
    for point, views in enumerate(seen_by):
        track = pycolmap.Track()
        for i in np.flatnonzero(views):
            track.add_element(int(i) + 1, len(observations[i]))
            observations[i].append(pycolmap.Point2D(pixels[i][point]))
        tracks.append(track)
    for number, image_points in enumerate(observations, start=1):
        model.image(number).points2D = pycolmap.Point2DList(image_points)
    for point, track in zip(points, tracks, strict=True):
        model.add_point3D(point, track, np.zeros(3, np.uint8))


def write_workspace(
    folder: Path, rgb: Sequence[np.ndarray], cameras: Sequence[Camera], points: np.ndarray, seen_by: np.ndarray
) -> None:
    """Lay out COLMAP's dense workspace in `folder`: images/, sparse/ and stereo/ with the list of pictures to fuse.

    `rgb` (H, W, 3) uint8 of each camera; `points` (n, 3) and `seen_by` (n, C) bool as for `add_points`.
    """
    for part in ("images", "sparse", "stereo/depth_maps", "stereo/normal_maps", "stereo/consistency_graphs"):
        (folder / part).mkdir(parents=True)
    model = reconstruction(cameras, HALF_PIXEL)
    add_points(model, cameras, points, seen_by)
    model.write(folder / "sparse")
    names = [f"{camera.name}.png" for camera in cameras]
    for picture, name in zip(rgb, names, strict=True):
        encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1]
        (folder / "images" / name).write_bytes(encoded.tobytes())  # unlike cv2.imwrite, raises when the disk is full
    (folder / "stereo" / "fusion.cfg").write_text("\n".join(names) + "\n")


def name_sources(folder: Path, cameras: Sequence[Camera], sources: Sequence[Sequence[int]]) -> None:
    """Tell a workspace's patch match which cameras, by index, each camera is matched with."""
    lines = [
        f"{camera.name}.png\n{', '.join(f'{cameras[i].name}.png' for i in chosen)}\n"
        for camera, chosen in zip(cameras, sources, strict=True)
        if chosen
    ]
    (folder / "stereo" / "patch-match.cfg").write_text("".join(lines))


def require_cuda() -> None:
    """Raise DeviceError where this pycolmap has no patch match: the wheels for the CPU are built without."""
    if not pycolmap.has_cuda:
        raise DeviceError(
            f"pointcloud.backend is colmap_cuda, but pycolmap {pycolmap.__version__} is built without CUDA; expected "
            "pycolmap-cuda12 in its place, or backend cpu"
        )


def patch_match(folder: Path, nearest: float, farthest: float) -> None:
    """Fill a workspace's dense maps by COLMAP's own patch match, depths in metres. Needs a CUDA build of pycolmap."""
    options = pycolmap.PatchMatchOptions(depth_min=nearest, depth_max=farthest, geom_consistency=True)
    pycolmap.patch_match_stereo(folder, options=options)


def fuse(folder: Path, views: int, depth_error: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fuse a workspace's dense maps into one cloud (Schoenberger 2016): a point needs `views` agreeing pixels.

    `depth_error` is the largest relative difference in depth. Returns points (n, 3) float32 world metres, normals
    (n, 3) float32 world and colors (n, 3) uint8 sRGB. One thread: with more the order, and so the means, would vary.
    """
    options = pycolmap.StereoFusionOptions(
        num_threads=1, min_num_pixels=views, max_reproj_error=1.0, max_depth_error=depth_error, max_normal_error=30.0
    )
    pycolmap.stereo_fusion(folder / "fused.ply", folder, options=options, output_type="PLY")
    content = (folder / "fused.ply").read_bytes()
    header, _, body = content.partition(b"end_header\n")
    if b"property float nx" not in header:
        raise DataError(f"{folder / 'fused.ply'}: no normals; expected COLMAP's fused cloud")
    vertices = np.frombuffer(body, PLY_VERTEX)
    return vertices["point"].copy(), vertices["normal"].copy(), vertices["color"].copy()
