"""A capture of full size made from a small rendered one: enlarged, with detail on the skin and noise of its own.

    python -m benchmarks.full_capture FOLDER --frames 8

Detail is a sum of waves, 0.4 to 4 mm long, of where a point lies on the neutral head, so that all cameras see the same
pores in the same places. Clothes, hair and wall only get noise. The layout is that of the small capture: H.264, a plate
per camera, calibration.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.truth_error import truth_head
from pipeline.cameras.camera import Camera
from pipeline.capture.calibration import read_rig_of, scaled
from pipeline.capture.formats import open_capture
from pipeline.capture.pictures.decode import read_picture
from pipeline.capture.pictures.video import read_frames
from pipeline.mesh.mesh import Mesh
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.buffers import rasterize

WIDTH = 2200
TRACED = 4  # rays are shot through every fourth pixel, both ways; places between are interpolated
WAVES, SHORTEST, LONGEST, DETAIL = 12, 0.4e-3, 4e-3, 5.0  # metres, and sRGB levels of standard deviation
NOISE = 2.0  # sRGB levels
QUALITY = {"crf": "18", "preset": "veryfast"}
RATE = 24


def waves(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Wave vectors (WAVES, 3) float32 in radians a metre, and phases (WAVES,)."""
    rng = np.random.default_rng(seed)
    lengths = np.geomspace(SHORTEST, LONGEST, WAVES)
    ways = rng.standard_normal((WAVES, 3))
    ways *= 2 * np.pi / lengths[:, None] / np.linalg.norm(ways, axis=1, keepdims=True)
    return ways.astype(np.float32), rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)


def detail(places: np.ndarray, seen: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Levels (H, W) float32 to add, from places (h, w, 3) on the neutral head in metres and where there are any."""
    large = cv2.resize(places, size, interpolation=cv2.INTER_LINEAR)
    inside = cv2.resize(cv2.erode(seen.astype(np.uint8), np.ones((3, 3))), size, interpolation=cv2.INTER_NEAREST) > 0
    points, total = large[inside], np.zeros(size[::-1], np.float32)
    ways, phases = waves()
    levels = np.zeros(len(points), np.float32)
    for way, phase in zip(ways, phases, strict=True):
        levels += np.sin(points @ way + phase)
    total[inside] = levels * np.float32(DETAIL * np.sqrt(2 / WAVES))
    return total


def noisy(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) float32 with noise, as uint8."""
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(NOISE)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def enlarged(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (h, w, 3) uint8 at another size, float32."""
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)


def places_on_head(truth: Path, sequence: str, frames: int, cameras: list[Camera]) -> Iterator[dict[str, np.ndarray]]:
    """What every camera sees of the head in every frame: x_can is the place on the neutral head, metres."""
    with np.load(truth / "model.npz") as model:
        neutral = model["neutral"].astype(np.float32) / 100
    rasterizer = EmbreeRasterizer()
    for frame in range(frames):
        head = truth_head(truth, sequence, frame)
        mesh = Mesh(head.vertices.astype(np.float32), np.pad(neutral, ((0, 0), (0, 2))), head.faces.astype(np.int32))
        yield rasterize(rasterizer, mesh, cameras)


def make(source: Path, truth: Path, folder: Path, sequence: str, frames: int) -> None:
    """Write the capture; the whole folder appears at the end."""
    capture, partial = open_capture(source), folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    images, plates = partial / "sequences" / sequence / "images", partial / "sequences/BACKGROUND"
    for path in (images, plates, partial / "calibration"):
        path.mkdir(parents=True)
    rig = read_rig_of(capture, 1.0)
    factor = WIDTH / rig.cameras[0].width
    size = (WIDTH, round(rig.cameras[0].height * factor))
    calibration = json.loads((source / "calibration/camera_params.json").read_text())
    calibration["intrinsics"] = (np.diag([factor, factor, 1]) @ calibration["intrinsics"]).tolist()
    (partial / "calibration/camera_params.json").write_text(json.dumps(calibration))
    shutil.copy(source / "calibration/color_calibration.json", partial / "calibration")

    rng = np.random.default_rng(0)
    for name, path in capture.plates().items():
        plate = noisy(enlarged(read_picture(path, "a plate"), size), rng)
        cv2.imwrite(str(plates / f"image_{name}.jpg"), plate[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    traced = [_traced(camera, size) for camera in rig.cameras]
    films = [av.open(str(images / f"cam_{camera.name}.mp4"), "w") for camera in rig.cameras]
    streams = [_stream(film, size) for film in films]
    pictures = [
        read_frames(source / "sequences" / sequence / "images" / f"cam_{camera.name}.mp4", range(frames))
        for camera in rig.cameras
    ]
    for rasterized in places_on_head(truth, sequence, frames, traced):
        for c, stream in enumerate(streams):
            added = detail(rasterized["x_can"][c, ..., :3], rasterized["mask"][c], size)
            picture = noisy(enlarged(next(pictures[c]), size) + added[..., None], rng)
            films[c].mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    for film, stream in zip(films, streams, strict=True):
        film.mux(stream.encode(None))
        film.close()
    partial.rename(folder)


def _traced(camera: Camera, size: tuple[int, int]) -> Camera:
    large = scaled(replace(camera, lens=None), size[0] / camera.width)
    return scaled(large, 1 / TRACED)


def _stream(film: av.container.OutputContainer, size: tuple[int, int]) -> av.VideoStream:
    stream = film.add_stream("libx264", rate=RATE, options=QUALITY)
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def main() -> None:
    """Make it from a sequence of a capture with known geometry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the capture appears")
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--sequence", default="EXP-5-mouth")
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    make(options.capture, options.truth, options.folder, options.sequence, options.frames)


if __name__ == "__main__":
    main()
