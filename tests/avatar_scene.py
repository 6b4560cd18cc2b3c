"""A tiny scene in the real file formats: a coloured ball that moves, seen by three cameras."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.avatar.data.pictures import Pictures, sequence_views
from pipeline.raster.buffers import write_buffers
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.reel import open_reels

CAMERAS = ["left", "front", "right"]
SIZE = 16
TINY = {"channels": [8, 8], "groups": 4, "heads": 2, "token_width": 8, "attention_levels": 1} | {
    "plane_size": 8,
    "plane_features": 3,
}


def ball(step: int, camera: int) -> dict[str, np.ndarray]:
    """Buffers and target of one view, each (16, 16, ...)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    u, v = (x - 8 - step) / 6, (y - 8) / 6
    inside = u**2 + v**2 < 1
    z = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    turn = 0.5 * (camera - 1)
    point = np.stack([u * np.cos(turn) + z * np.sin(turn), -v, z * np.cos(turn) - u * np.sin(turn)], -1)
    x_can = np.concatenate([point * 0.4, np.full((SIZE, SIZE, 2), 0.05 * step)], -1)
    colour = np.clip(128 + 100 * point, 0, 255)
    where = inside[..., None]
    return {
        "depth": np.where(inside, 1 - 0.1 * z, 0).astype(np.float32),
        "normals": np.where(where, point, 0).astype(np.float16),
        "x_can": np.where(where, x_can, 0).astype(np.float32),
        "mask": (inside * 255).astype(np.uint8),
        "alpha": (inside * 255).astype(np.uint8),
        "rgb": np.where(where, colour, 255).astype(np.uint8),
    }


def write_scene(folder: Path, sequence: str = "SPIN", steps: int = 3, spans: int = 1) -> dict[str, list[Path]]:
    """Write buffers, targets (in `spans` pieces) and the track of one sequence; returns their paths by kind."""
    views = [[ball(step, camera) for camera in range(len(CAMERAS))] for step in range(steps)]
    paths = {"buffers": [], "targets": [], "tracks": [folder / "tracks" / f"{sequence}.zarr.zip"]}
    edges = np.linspace(0, steps, spans + 1).astype(int)
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        record = {"subject": "tiny", "sequence": sequence, "start": start, "stop": stop, "cameras": CAMERAS}
        span = views[start:stop]
        path = {kind: folder / kind / sequence / f"{start:06d}-{stop:06d}.zarr.zip" for kind in ("buffers", "targets")}
        geometry = ({n: np.array([view[n] for view in row]) for n in ("depth", "normals", "x_can")} for row in span)
        write_buffers(path["buffers"], geometry, (stop - start, len(CAMERAS), SIZE, SIZE), record)
        axes = ("time", "camera", "row", "column", "channel")
        pictures = {name: np.array([[view[name] for view in row] for row in span]) for name in ("rgb", "alpha")}
        arrays = {name: Array(values, axes[: values.ndim], "", "") for name, values in pictures.items()}
        write_chunk(path["targets"], arrays, record)
        for kind, made in path.items():
            paths[kind].append(made)
    codes = np.linspace(-1, 1, steps * 4, dtype=np.float32).reshape(steps, 4)
    track = {"subject": "tiny", "sequence": sequence, "start": 0, "stop": steps}
    gaze = np.linspace(-0.3, 0.4, steps * 4, dtype=np.float32).reshape(steps, 2, 2)
    lids = np.linspace(1, 9, steps * 2, dtype=np.float32).reshape(steps, 2)
    eyeballs = np.array([[0.15, 0.1, 0.25, 0.12], [-0.15, 0.1, 0.25, 0.12]], np.float32)
    arrays = {
        "z_exp": Array(codes, ("time", "code"), "", ""),
        "gaze": Array(gaze, ("time", "eye", "angle"), "", ""),
        "lids": Array(lids, ("time", "eye"), "", ""),
        "eyeballs": Array(eyeballs, ("eye", "sphere"), "", ""),
    }
    write_chunk(paths["tracks"][0], arrays, track)
    return paths


@contextmanager
def open_pictures(scene: dict[str, list[Path]], cameras: Sequence[int] = (0, 1, 2)) -> Iterator[Pictures]:
    """All views of some cameras of what `write_scene` wrote of SPIN."""
    with open_reels(scene["buffers"]) as buffers, open_reels(scene["targets"]) as targets:
        yield Pictures(sequence_views(buffers["SPIN"], targets["SPIN"], scene["tracks"][0], list(cameras)))
