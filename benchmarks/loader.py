"""Time reading 512x512 training crops: our zarr stores against the release's PNG files; one JSON line last.

    python -m benchmarks.loader [--views 8] [--samples 24] [--size 512] [--height 880 --width 608]

Both sides hold the same synthetic views: a head in smooth geometry and a noisy photograph. The release's way, written
from a description of it: per sample five PNG buffers of 1604x1100 (canonical xyz 16 bit RGB, ambient and normals 8 bit
RGB, depth 16 bit, mask 8 bit), a JPEG, an alpha map of the capture's size and a label map; colour correction, white
background, the torso removed by morphology (SciPy's, as there: 50 dilations and three labellings), a random square
crop of 0.7 to 1 of the width resized to the crop's size. Ours: `Pictures.cropped`, a random window of the six arrays
that rasterize and isolate write, where all that is done once, before training. Our pictures are rasterised at the
resolution that crops are trained at: 880x608 is 1604x1100 scaled as the release's mean crop is.

`wait_share_*` is how much of a training's time its steps wait for their pictures, read when they are needed or ahead of
that by so many threads: each step asks for `--batch` crops and then does nothing for `--step-ms`, as the host does
while a GPU computes.

Figures are per second of CPU time of one thread, the files in the page cache, the two sides measured in turns.
OpenCV decodes the files, and the synthetic maps have none of the small islands that real ones have and the release
works through one by one: both to the release's advantage.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import zarr
from scipy.ndimage import binary_dilation, label

from pipeline.avatar.data.ahead import Ahead
from pipeline.avatar.data.pictures import BYTES_PER_PIXEL, CACHE_BYTES, Pictures, sequence_views
from pipeline.raster.buffers import write_buffers
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.reel import open_reels

CODE_SIZE = 64
RELEASE_SIZE = (1604, 1100)
NECK, FACE, TORSO = 1, 2, 3  # labels of the face parser
TORSO_REACH = 50  # pixels that the torso is grown into the background
ISLAND_COLOUR = 0.15  # an island whose median colour is this near to the neck's is kept
CROP_SHARE = (0.7, 1.0)  # of the width
STEPS, AHEAD = 8, 2  # steps that wait or not, and how many are read ahead by each thread


class View:
    """Synthetic arrays of one view, each (H, W, ...)."""

    def __init__(self, height: int, width: int, seed: int):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        u, v = (x - width / 2) / (0.4 * width), (y - 0.4 * height) / (0.35 * height)
        self.mask = u**2 + v**2 < 1
        relief = 0.02 * np.sin(40 * u + seed) * np.cos(37 * v)
        z = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1)) + relief
        inside = self.mask[..., None]
        # Real coordinates are interpolated from a mesh that is fitted to a tenth of a millimetre: rough below that.
        x_can = np.stack([u, -v, z, 0.1 * u * v, 0.1 * z * u], -1) + 1e-4 * rng.standard_normal((height, width, 5))
        self.x_can = np.where(inside, x_can, 0).astype(np.float32)
        self.depth = np.where(self.mask, 1 - 0.1 * z, 0).astype(np.float32)
        normals = np.stack([u, -v, z], -1)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        self.normals = np.where(inside, normals, 0).astype(np.float16)
        torso = (y > 0.72 * height) & (np.abs(u) < 0.5 + 2 * (y / height - 0.7))
        person = self.mask | torso
        self.labels = np.where(torso, TORSO, np.where(self.mask, np.where(v > 0.8, NECK, FACE), 0)).astype(np.uint8)
        photo = 140 + 60 * np.stack([u, v, z], -1) + rng.normal(0, 4, (height, width, 3))
        self.photo = np.where(person[..., None], photo, 90).clip(0, 255).astype(np.uint8)
        self.alpha = (cv2.blur(person.astype(np.float32), (5, 5)) * 255).astype(np.uint8)


def write_release(folder: Path, view: View) -> None:
    """The files of one view as the release has them."""
    folder.mkdir()
    lower, upper = np.array([-1, -1, -1.5]), np.array([1, 1, 0.5])
    inside = view.mask[..., None]
    xyz = (view.x_can[..., :3] - lower) / (upper - lower)
    ambient = np.concatenate([view.x_can[..., 3:] / 0.4 + 0.5, np.zeros((*view.mask.shape, 1))], -1)
    n = view.normals.astype(np.float32)
    spherical = np.stack([np.ones_like(n[..., 0]), np.arccos(n[..., 2].clip(-1, 1)) / np.pi,
                          np.arctan2(n[..., 1], n[..., 0]) / (2 * np.pi) + 0.5], -1)  # fmt: skip
    files = {
        "uv.png": np.where(inside, 1 + xyz.clip(0, 1) * 65534, 0).astype(np.uint16),
        "ambient.png": np.where(inside, 1 + ambient.clip(0, 1) * 254, 0).astype(np.uint8),
        "normals.png": np.where(inside, 1 + spherical * 254, 0).astype(np.uint8),
        "depth.png": np.where(view.mask, 1 + view.depth / 2 * 65534, 0).astype(np.uint16),
        "mask.png": view.mask.astype(np.uint8) * 255,
        "alpha.png": cv2.resize(view.alpha, None, fx=2, fy=2),  # kept at the capture's own size
        "labels.png": view.labels,
        "photo.jpg": view.photo,
    }
    for name, picture in files.items():
        cv2.imwrite(str(folder / name), picture)


def without_torso(photo: np.ndarray, alpha: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The photograph (H, W, 3) float in [0, 1] over white without the torso, by the release's heuristic."""
    photo = photo * alpha[..., None] + (1 - alpha[..., None])
    torso, empty, neck = labels == TORSO, labels == 0, labels == NECK
    neck_colour = np.median(photo[neck], axis=0)
    grown = binary_dilation(torso, iterations=TORSO_REACH)
    for island in smaller_islands(empty):  # background inside the neck is no background
        near = np.linalg.norm(np.median(photo[island], axis=0) - neck_colour) < ISLAND_COLOUR
        if near and (binary_dilation(island, iterations=2) & neck).any():
            empty &= ~island
    torso |= grown & empty
    for island in smaller_islands(empty & ~torso):  # background that the torso encloses
        if not (binary_dilation(island, iterations=2) & ((labels == FACE) | neck)).any():
            torso |= island
    for island in smaller_islands(~torso & (alpha > 0)):  # foreground that hangs on the torso
        if (binary_dilation(island, iterations=2) & torso).any():
            torso |= island
    photo[torso] = 1
    return photo


def smaller_islands(mask: np.ndarray) -> list[np.ndarray]:
    """Masks of the connected parts of a mask (H, W), but the largest."""
    islands, count = label(mask)
    masks = [islands == island for island in range(1, count + 1)]
    return sorted(masks, key=np.count_nonzero)[:-1]


def read_release(folder: Path, size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One training sample the release's way: every file whole, then a square crop resized to size x size."""

    def read(name: str) -> np.ndarray:
        return cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)

    uv, ambient, normals, depth = (read(f"{name}.png") for name in ("uv", "ambient", "normals", "depth"))
    mask, alpha, labels = (read(f"{name}.png") for name in ("mask", "alpha", "labels"))
    photo = cv2.imread(str(folder / "photo.jpg")).astype(np.float32) / 255
    colour = np.eye(3, dtype=np.float32)
    photo = (photo @ colour + np.float32(0.01)).clip(0, 1)
    height, width = mask.shape
    alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
    photo = without_torso(photo, alpha.astype(np.float32) / 255, labels)
    side = int(width * rng.uniform(*CROP_SHARE))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))

    def resized(picture: np.ndarray, way: int = cv2.INTER_LINEAR_EXACT) -> np.ndarray:
        return cv2.resize(picture[top : top + side, left : left + side], (size, size), interpolation=way)

    angles = resized(normals).astype(np.float32) / 255
    theta, phi = angles[..., 1] * np.pi, (angles[..., 2] - 0.5) * 2 * np.pi
    directions = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    return {
        "uv": resized(uv).astype(np.float32) / 65535 * 2 - 1,
        "ambient": resized(ambient)[..., :2].astype(np.float32) / 255 * 2 - 1,
        "normals": directions,
        "depth": resized(depth).astype(np.float32) / 65535 * 2 - 1,
        "mask": resized(mask, cv2.INTER_NEAREST) > 0,
        "photo": resized(photo) * 2 - 1,
    }


def write_ours(folder: Path, views: list[View]) -> tuple[Path, Path, Path]:
    """Buffers, targets and track of a sequence with one camera, as the stages write them."""
    record = {"subject": "901", "sequence": "S", "start": 0, "stop": len(views), "cameras": ["a"]}
    axes = ("time", "camera", "row", "column", "channel")

    def write(kind: str, pictures: dict[str, list[np.ndarray]]) -> Path:
        arrays = {name: np.stack(each)[:, None] for name, each in pictures.items()}
        write_chunk(
            folder / f"{kind}.zarr.zip", {n: Array(a, axes[: a.ndim], "", "") for n, a in arrays.items()}, record
        )
        return folder / f"{kind}.zarr.zip"

    buffers = folder / "buffers.zarr.zip"
    steps = ({name: getattr(view, name)[None] for name in ("depth", "normals", "x_can")} for view in views)
    write_buffers(buffers, steps, (len(views), 1, *views[0].mask.shape), record)
    masks = [view.mask.astype(np.uint8) * 255 for view in views]
    photos = [np.where(view.mask[..., None], view.photo, 255) for view in views]
    track = folder / "track.zarr.zip"
    codes = np.zeros((len(views), CODE_SIZE), np.float32)
    write_chunk(track, {"z_exp": Array(codes, ("time", "code"), "", "")}, record)
    return buffers, write("targets", {"rgb": photos, "alpha": masks}), track


def timed(read: Callable[[int], object], index: int) -> float:
    """CPU seconds of one read."""
    started = time.process_time()
    read(index)
    return time.process_time() - started


def wait_share(read: Callable[[int], object], given: argparse.Namespace, threads: int) -> float:
    """The share of the time of some steps in which they wait for their batch, the first step left out."""
    steps = STEPS + 1
    ahead = Ahead(
        lambda step: [read(n % given.views) for n in range(given.batch)], steps, AHEAD * threads, threads or 1
    )
    try:
        for step in range(steps):
            if step == 1:
                ahead.waited, started = 0.0, time.perf_counter()
            ahead.take(step)
            time.sleep(given.step_ms / 1e3)
        return ahead.waited / (time.perf_counter() - started)
    finally:
        ahead.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=8, help="views on disk")
    parser.add_argument("--samples", type=int, default=24, help="crops read on each side")
    parser.add_argument("--size", type=int, default=512, help="side of the crops")
    parser.add_argument("--batch", type=int, default=8, help="crops of a step that reads ahead")
    parser.add_argument("--step-ms", type=float, default=400, help="what such a step takes without its crops")
    parser.add_argument("--height", type=int, default=880, help="of our pictures")
    parser.add_argument("--width", type=int, default=608)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    zarr.config.set({"threading.max_workers": 1})
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(given.views):
            write_release(folder / str(seed), View(*RELEASE_SIZE, seed))
        own = [View(given.height, given.width, seed) for seed in range(given.views)]
        buffers_path, targets_path, track = write_ours(folder, own)
        release_mb = sum(path.stat().st_size for path in folder.glob("*/*")) / 1e6 / given.views
        ours_mb = (buffers_path.stat().st_size + targets_path.stat().st_size) / 1e6 / given.views
        with open_reels([buffers_path]) as buffers, open_reels([targets_path]) as targets:
            pictures = Pictures(sequence_views(buffers["S"], targets["S"], track, [0]))
            pictures.fit_in_memory = False  # as of a whole capture: crops come from the files
            limits = given.height - given.size + 1, given.width - given.size + 1

            def ours(index: int) -> object:
                return pictures.cropped(index, *(int(rng.integers(limit)) for limit in limits), given.size, given.size)

            def release(index: int) -> object:
                return read_release(folder / str(index), given.size, rng)

            seconds = {ours: [], release: []}
            for sample in range(given.samples + 1):
                for read, spent in seconds.items():
                    spent.append(timed(read, sample % given.views))
            waits = {f"wait_share_{threads}_readers": wait_share(ours, given, threads) for threads in (0, 1, 2)}
            pictures.close()
    # The first read of each opens files and fills caches: left out.
    ours_s, release_s = (float(np.mean(spent[1:])) for spent in seconds.values())
    figures = {
        "ours_per_s": 1 / ours_s,
        "release_per_s": 1 / release_s,
        "ratio": release_s / ours_s,
        "ours_mb_per_view": ours_mb,
        "release_mb_per_view": release_mb,
        "views_that_fit_in_memory": CACHE_BYTES // (given.height * given.width * BYTES_PER_PIXEL),
        "samples": given.samples,
        **waits,
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
