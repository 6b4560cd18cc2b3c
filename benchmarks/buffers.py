"""Bytes on disk and CPU time of reading one picture's buffers: float32, the release's PNGs, and how they are stored.

    python -m benchmarks.buffers

A random head of the shipped prior is rasterised by three cameras at 512x512. `float32` is depth and x_can in float32,
normals in float16, packed by zarr with LZ4; `release` is DiffusionAvatars' coding (16-bit PNGs of canonical xyz and
depth, 8-bit ones of spherical normals and of the hyper coordinates); `stored` is what the stage rasterize writes.
Errors are the largest: x_can in texels of planes with 512 of them over the bounds, normals in degrees, depth in mm.
The last line is JSON.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import zarr

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import look_at
from pipeline.head.model.prior import load_prior
from pipeline.head.model.regions import LOWER, UPPER
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.buffers import rasterize, write_buffers
from pipeline.raster.coding import chunk_buffers
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import Array, open_chunk, write_chunk

PRIOR = Path(__file__).resolve().parents[1] / "pipeline/head/weights/head_prior.safetensors"
SIZE, YAWS, READS = 512, (-60, 0, 25), 15
LOWEST, RANGE = np.array(LOWER), np.array(UPPER) - np.array(LOWER)
Rasterized = dict[str, np.ndarray]


def rasterized_head() -> Rasterized:
    """Buffers (C, h, w, ...) of a random head."""
    prior, settings, noise = load_prior(PRIOR), MeshSettings(), torch.Generator().manual_seed(0)
    codes = (
        torch.randn(modes, generator=noise) for modes in (prior.config.identity_modes, prior.config.expression_modes)
    )
    z_id, z_exp = prior.z_id_from(0.7 * next(codes)), prior.z_exp_from(next(codes))
    units = prior.config.units_per_metre
    neck = Plane(settings.neck_offset, settings.neck_tilt_degrees)
    mesh = mesh_head(prior, z_id, z_exp, np.diag([units, units, units, 1]), settings.voxel_mm, neck)
    focal = SIZE / 0.42  # a head with its hair fills the picture as in the paper's preset
    intrinsics = np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    eyes = [np.array([np.sin(yaw), 0.1, np.cos(yaw)]) for yaw in np.radians(YAWS)]
    poses = [look_at(eye, np.array([0, 0.02, 0]), np.array([0.0, 1, 0])) for eye in eyes]
    return rasterize(EmbreeRasterizer(), mesh, [Camera("", SIZE, SIZE, intrinsics, pose, np.eye(3)) for pose in poses])


def as_float32(folder: Path, seen: Rasterized) -> Callable[[int], Rasterized]:
    """Written as it comes from the rasteriser."""
    axes = ("time", "camera", "row", "column", "channel")
    kept = seen | {
        "normals": seen["normals"].astype(np.float16),
        "mask": seen["mask"].astype(np.uint8) * 255,
    }
    arrays = {name: Array(values[None], axes[: values.ndim + 1], "", "") for name, values in kept.items()}
    write_chunk(folder / "float32.zarr.zip", arrays, {})
    chunk = open_chunk(folder / "float32.zarr.zip").__enter__()

    def read(camera: int) -> Rasterized:
        found = {name: chunk[name][0, camera] for name in arrays}
        return found | {"normals": found["normals"].astype(np.float32), "mask": found["mask"] > 0}

    return read


def as_release(folder: Path, seen: Rasterized) -> Callable[[int], Rasterized]:
    """The release's PNGs; bin 0 is background."""
    folder = folder / "release"
    folder.mkdir()

    def quantised(values: np.ndarray, hit: np.ndarray, bits: int) -> np.ndarray:
        top = 2**bits - 2
        return np.where(hit, np.rint(np.clip(values, 0, 1) * top) + 1, 0).astype(np.uint16 if bits == 16 else np.uint8)

    for camera, hit in enumerate(seen["mask"]):
        unit, normal = (seen["x_can"][camera] - LOWEST) / RANGE, seen["normals"][camera]
        angles = np.stack([np.arccos(np.clip(normal[..., 2], -1, 1)), np.arctan2(normal[..., 1], normal[..., 0])], -1)
        sphere = np.concatenate([hit[..., None], angles / [np.pi, 2 * np.pi] + [0, 0.5]], -1)
        some = hit[..., None]
        ambient = np.concatenate([unit[..., 3:], np.zeros((SIZE, SIZE, 1))], -1)
        pictures = {
            "uv": quantised(unit[..., :3], some, 16),
            "uv_ambient": quantised(ambient, some, 8),
            "normals": quantised(sphere, some, 8),
            "depths": quantised(seen["depth"][camera] / 2, hit, 16),
            "mask": hit.astype(np.uint8) * 255,
        }
        for name, picture in pictures.items():
            cv2.imwrite(str(folder / f"{name}_{camera}.png"), picture)

    def read(camera: int) -> Rasterized:
        def picture(name: str, top: float) -> np.ndarray:
            found = cv2.imread(str(folder / f"{name}_{camera}.png"), cv2.IMREAD_UNCHANGED)
            return (found.astype(np.float32) - 1) / np.float32(top)

        mask = cv2.imread(str(folder / f"mask_{camera}.png"), cv2.IMREAD_UNCHANGED) > 0
        unit = np.concatenate([picture("uv", 65534), picture("uv_ambient", 254)[..., :2]], -1)
        theta, phi = np.moveaxis(picture("normals", 254)[..., 1:] * [np.pi, 2 * np.pi] - [0, np.pi], -1, 0)
        normals = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
        x_can = (unit * RANGE + LOWEST).astype(np.float32)
        return {"depth": picture("depths", 65534) * 2, "normals": normals, "x_can": x_can, "mask": mask}

    return read


def as_stored(folder: Path, seen: Rasterized) -> Callable[[int], Rasterized]:
    """As the stage rasterize writes and everything reads."""
    write_buffers(folder / "stored.zarr.zip", [seen], (1, *seen["mask"].shape), {})
    chunk = open_chunk(folder / "stored.zarr.zip").__enter__()
    return lambda camera: chunk_buffers(chunk, 0, camera)


def measure(read: Callable[[int], Rasterized], seen: Rasterized) -> dict[str, float]:
    """The least CPU milliseconds of a picture, and the largest errors."""
    spent = []
    for _ in range(READS):
        started = time.process_time()
        found = [read(camera) for camera in range(len(YAWS))]
        spent.append((time.process_time() - started) / len(YAWS))
    off = {name: [] for name in ("xyz_texels", "hyper_texels", "normal_degrees", "depth_mm")}
    for camera, got in enumerate(found):
        hit = seen["mask"][camera]
        texels = np.abs(got["x_can"] - seen["x_can"][camera])[hit] / (RANGE / 512)
        apart = np.linalg.norm(np.cross(got["normals"], seen["normals"][camera]), axis=-1)[hit]
        off["xyz_texels"].append(texels[:, :3].max())
        off["hyper_texels"].append(texels[:, 3:].max())
        off["normal_degrees"].append(np.degrees(np.arcsin(apart.max())))
        off["depth_mm"].append(1e3 * np.abs(got["depth"] - seen["depth"][camera])[hit].max())
    return {"read_ms": 1e3 * min(spent)} | {name: float(max(values)) for name, values in off.items()}


def main() -> None:
    """Write, read, print."""
    zarr.config.set({"threading.max_workers": 1})
    cv2.setNumThreads(1)
    seen, rows = rasterized_head(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, write in (("float32", as_float32), ("release", as_release), ("stored", as_stored)):
            read = write(folder, seen)
            files = folder.glob(f"{kind}*/*" if kind == "release" else f"{kind}.*")
            size = sum(path.stat().st_size for path in files) / len(YAWS) / 1024
            rows[kind] = {"kib": size, **measure(read, seen)}
    print("| coding | KiB a picture | read, CPU ms | xyz, texels | hyper, texels | normals, degrees | depth, mm |")
    print("|---|---|---|---|---|---|---|")
    for kind, row in rows.items():
        print(f"| {kind} | " + " | ".join(f"{value:.3g}" for value in row.values()) + " |")
    ratio = rows["stored"]["kib"] / rows["float32"]["kib"]
    rounded = {kind: {name: round(value, 4) for name, value in row.items()} for kind, row in rows.items()}
    print(json.dumps({"buffer_bytes_ratio": round(ratio, 4), **rounded}))


if __name__ == "__main__":
    main()
