"""Clouds that a capture brings along: PCD files, thinned and cut to the person as this project's own are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.stereo.cloud import Cloud, doubts, inside_silhouettes

CELL = 1e-3  # metres: of all points in a cell of this size one is kept; fits ask for no more
SEEN_BY = 3  # pictures that a point must lie in: silhouettes say nothing of what is beside them all
KINDS = {"F": "f", "U": "u", "I": "i"}
POINT, NORMAL = ("x", "y", "z"), ("normal_x", "normal_y", "normal_z")
EXPECTED = "a PCD file with x, y, z, normal_x, normal_y, normal_z and rgb, ascii or binary"


def given_cloud(path: Path, alpha: np.ndarray, cameras: Sequence[Camera]) -> Cloud:
    """The cloud of a PCD file, world metres, inside the silhouettes `alpha` (C, H, W) uint8, padded, of one time step.

    Raises DataError naming the file where nothing of it lies there.
    """
    cloud = thinned(read_pcd(path))
    own = [camera.own(cover) for camera, cover in zip(cameras, alpha, strict=True)]
    keep, doubted = inside_silhouettes(cloud.points, own, cameras)
    keep &= sum(camera.inside(*camera.project(cloud.points.astype(float))) for camera in cameras) >= SEEN_BY
    if not keep.any():
        raise DataError(
            f"{path}: none of {len(cloud.points)} points lies inside all silhouettes; expected metres in the world of "
            "the cameras"
        )
    kept = cloud[keep]
    return Cloud(kept.points, kept.normals, kept.colors, tuple(doubts(doubted)))


def thinned(cloud: Cloud) -> Cloud:
    """The first point of every cell."""
    cells = np.floor(cloud.points / CELL).astype(np.int64)
    return cloud[np.sort(np.unique(cells, axis=0, return_index=True)[1])]


def read_pcd(path: Path) -> Cloud:
    """A PCD file's points, normals and colours; points that are not finite are left out. Raises DataError naming it."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {EXPECTED}")
    content = path.read_bytes()
    try:
        header, body = _header(content)
        rows = _rows(header, body)
        points, normals = (np.stack([rows[name] for name in names], 1) for names in (POINT, NORMAL))
        packed = rows["rgb"]
    except (KeyError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; expected {EXPECTED}") from error
    colors = np.stack([packed >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8)
    length = np.linalg.norm(normals, axis=1)
    fine = np.isfinite(points).all(1) & np.isfinite(length) & (length > 0)
    unit = normals[fine] / length[fine, None]
    return Cloud(points[fine].astype(np.float32), unit.astype(np.float32), colors[fine])


def _header(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    """Words of each line of the header, and what follows it."""
    header, start = {}, 0
    while "DATA" not in header:
        stop = content.index(b"\n", start)
        words = content[start:stop].decode("ascii").split()
        start = stop + 1
        if words and not words[0].startswith("#"):
            header[words[0]] = words[1:]
    return header, content[start:]


def _rows(header: dict[str, list[str]], body: bytes) -> dict[str, np.ndarray]:
    """Columns by name; `rgb` as integers 0xRRGGBB."""
    names, count, coding = header["FIELDS"], int(header["POINTS"][0]), header["DATA"][0]
    kinds = [np.dtype(f"<{KINDS[kind]}{size}") for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
    if any(number != "1" for number in header.get("COUNT", [])):
        raise ValueError("a field of several numbers")
    if coding == "binary":
        table = np.frombuffer(body, np.dtype(list(zip(names, kinds, strict=True))), count)
        columns = {name: table[name] for name in names}
    elif coding == "ascii":
        table = np.array(body.split()).reshape(count, len(names))
        columns = {name: table[:, i].astype(kind) for i, (name, kind) in enumerate(zip(names, kinds, strict=True))}
    else:
        raise ValueError(f"DATA {coding}")
    return columns | {"rgb": np.ascontiguousarray(columns["rgb"]).view(np.uint32)}
