"""A ball for a head: every file that evaluation and the report read, made analytically in the project's formats."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import trimesh
from safetensors.numpy import save_file

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig, write_rig
from pipeline.mesh.mesh import Mesh, write_meshes
from pipeline.raster.buffers import write_buffers
from pipeline.store.chunk import Array, write_chunk

RADIUS = 0.1  # metres
SCALE = 4.0  # head units per metre
SEQUENCES = {"SMILE": 4, "TURN": 3}
SPAN = 2
HELD_OUT_CAMERA = "camera1"
HELD_OUT_SEQUENCE = "TURN"
PICTURE = ("time", "camera", "row", "column", "channel")


@dataclass(frozen=True)
class View:
    """What one camera sees in one step: mask (h, w) bool; depth (h, w); normals, x_can, rgb (h, w, 3)."""

    mask: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    x_can: np.ndarray
    rgb: np.ndarray


def make_rig(cameras: int, width: int, height: int) -> Rig:
    """Cameras on an arc of a metre in front of the ball (which looks along world -y, up is world z)."""
    focal = 0.8 * height / (2 * RADIUS)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    result = []
    for index, angle in enumerate(np.linspace(-0.9, 0.9, cameras)):
        centre = np.array([np.sin(angle), -np.cos(angle), 0.1])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = -pose[:3, :3] @ centre
        result.append(Camera(f"camera{index}", width, height, intrinsics, pose, np.eye(3)))
    return Rig(tuple(result))


def head_from_world(step: int) -> np.ndarray:
    """(4, 4) similarity: x to the subject's left, y up, z to the front; the head turns a little each step."""
    turn = 0.1 * step
    axes = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    spin = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    result = np.eye(4)
    result[:3, :3] = SCALE * spin @ axes
    return result


def z_exp(sequence: str, step: int) -> np.ndarray:
    """(2,) float32 expression code: how dark the mouth is, and a constant."""
    return np.array([np.sin(step + 0.5 * list(SEQUENCES).index(sequence)), 0.1], np.float32)


def see(camera: Camera, sequence: str, step: int) -> View:
    """Intersect the camera's rays with the ball and colour it by canonical place and expression."""
    rays = camera.rays()
    centre = camera.centre
    a, b = (rays**2).sum(-1), rays @ centre
    root = b**2 - a * (centre @ centre - RADIUS**2)
    mask = root > 0
    depth = np.where(mask, (-b - np.sqrt(np.maximum(root, 0))) / a, 0)
    points = centre + depth[..., None] * rays
    x_can = points @ head_from_world(step)[:3, :3].T
    mouth = np.exp(-(((x_can - [0, -0.15, 0.37]) / 0.12) ** 2).sum(-1))
    rgb = 128 + 90 * np.stack([np.sin(9 * x_can[..., 0]), np.sin(7 * x_can[..., 1]), np.cos(8 * x_can[..., 2])], -1)
    rgb = rgb - (mouth * 80 * z_exp(sequence, step)[0])[..., None]
    rgb = np.where(mask[..., None], np.clip(rgb, 0, 255), 255).astype(np.uint8)
    inside = mask[..., None]
    return View(mask, depth, np.where(inside, points / RADIUS, 0), np.where(inside, x_can, 0), rgb)


def write_pictures(path: Path, arrays: dict[str, np.ndarray], **attributes: object) -> Path:
    """Write arrays with axes (time, camera, row, column, ...) as a chunk."""
    named = {name: Array(values, PICTURE[: values.ndim], "-", "synthetic") for name, values in arrays.items()}
    write_chunk(path, named, {"subject": "ball", **attributes})
    return path


def write_span(root: Path, rig: Rig, sequence: str, start: int, stop: int) -> None:
    """Frames, cloud, meshes, buffers and targets of one span."""
    views = [[see(camera, sequence, step) for camera in rig.cameras] for step in range(start, stop)]

    def stack(name: str) -> np.ndarray:
        return np.array([[getattr(view, name) for view in row] for row in views])

    mask = stack("mask").astype(np.uint8) * 255
    named = {"sequence": sequence, "start": start, "stop": stop}
    file = f"{start:06d}-{stop:06d}.zarr.zip"
    backdrop = np.where(mask[..., None] > 0, stack("rgb"), 120).astype(np.uint8)
    write_pictures(root / "frames" / sequence / file, {"rgb": backdrop, "alpha": mask}, **named)
    write_pictures(root / "targets" / sequence / file, {"rgb": stack("rgb"), "alpha": mask}, **named)
    buffers = {
        "depth": stack("depth"),
        "normals": stack("normals"),
        "x_can": np.concatenate([stack("x_can"), np.zeros((*mask.shape, 2))], -1),
    }
    steps = ({name: pictures[step] for name, pictures in buffers.items()} for step in range(stop - start))
    path = root / "buffers" / sequence / "capture" / file
    write_buffers(path, steps, mask.shape, {"subject": "ball", **named})
    write_cloud(root / "clouds" / sequence / file, rig, views, **named)
    neck = {"offset": -1.0, "tilt_degrees": 0.0}
    meshes = (ball_mesh(step) for step in range(start, stop))
    write_meshes(root / "meshes" / sequence / file, meshes, {"subject": "ball", "neck": neck, **named})


def ball_mesh(step: int) -> Mesh:
    """The ball as triangles."""
    sphere = trimesh.creation.icosphere(5, RADIUS)
    x_can = np.pad(sphere.vertices @ head_from_world(step)[:3, :3].T, ((0, 0), (0, 2)))
    return Mesh(sphere.vertices.astype(np.float32), x_can.astype(np.float32), sphere.faces.astype(np.int32))


def write_cloud(path: Path, rig: Rig, views: list[list[View]], **named: object) -> None:
    """Every pixel on the ball as a point."""
    per_step = []
    for row in views:
        parts = []
        for camera, view in zip(rig.cameras, row, strict=True):
            points = camera.centre + view.depth[..., None] * camera.rays()
            parts.append((points[view.mask], view.normals[view.mask], view.rgb[view.mask]))
        per_step.append([np.concatenate(columns) for columns in zip(*parts, strict=True)])
    points, normals, colors = (np.concatenate(columns) for columns in zip(*per_step, strict=True))
    offsets = np.cumsum([0, *(len(step[0]) for step in per_step)])
    arrays = {
        "points": Array(points.astype(np.float32), ("point", "xyz"), "m", "synthetic"),
        "normals": Array(normals.astype(np.float32), ("point", "xyz"), "1", "synthetic"),
        "colors": Array(colors, ("point", "channel"), "sRGB", "synthetic"),
        "offsets": Array(offsets.astype(np.int64), ("step",), "row", "synthetic"),
    }
    write_chunk(path, arrays, {"subject": "ball", **named})


def write_sequence(root: Path, rig: Rig, sequence: str, noise: float) -> None:
    """Track and renders of a whole sequence; the renders are the truth plus noise of `noise` levels."""
    steps = SEQUENCES[sequence]
    named = {"sequence": sequence, "start": 0, "stop": steps}
    tracks = {
        "z_exp": Array(np.stack([z_exp(sequence, step) for step in range(steps)]), ("time", "code"), "1", "synthetic"),
        "head_from_world": Array(
            np.stack([head_from_world(step) for step in range(steps)]), ("time", "row", "column"), "1", "synthetic"
        ),
        "residual_mm": Array(np.linspace(0.4, 0.9, steps, dtype=np.float32), ("time",), "mm", "synthetic"),
    }
    attributes = {"subject": "ball", "failed": [1] if sequence == "SMILE" else [], **named}
    write_chunk(root / "tracks" / f"{sequence}.zarr.zip", tracks, attributes)
    shown = rig.names if sequence == HELD_OUT_SEQUENCE else [HELD_OUT_CAMERA]
    pictures = np.array(
        [[see(rig.cameras[rig.index(name)], sequence, step).rgb for name in shown] for step in range(steps)]
    )
    disturbance = np.random.default_rng(0).normal(0, noise, pictures.shape)
    pictures = np.clip(pictures + disturbance, 0, 255).astype(np.uint8)
    write_pictures(root / "renders" / sequence / "capture.zarr.zip", {"rgb": pictures}, cameras=shown, **named)
    write_film(root / "renders" / sequence / "capture.mp4", pictures[:, 0])


def write_film(path: Path, pictures: np.ndarray) -> None:
    """Pictures (T, h, w, 3) as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_benchmark(path: Path, seconds: float) -> None:
    """A benchmark file as Snakemake writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ("s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time")
    values = (seconds, "0:00:00", 512.5, "NA", "NA", "NA", "0.00", "0.00", "0.00", 0.9 * seconds)
    path.write_text("\t".join(columns) + "\n" + "\t".join(map(str, values)) + "\n")


def write_ball(root: Path, cameras: int = 4, width: int = 24, height: int = 32, noise: float = 3.0) -> Path:
    """The results folder of the subject "ball", but for what evaluate and report write; returns it."""
    rig = make_rig(cameras, width, height)
    write_rig(root / "rigs" / "capture.json", rig)
    write_rig(root / "cameras.json", rig)
    for sequence, steps in SEQUENCES.items():
        for start in range(0, steps, SPAN):
            write_span(root, rig, sequence, start, min(start + SPAN, steps))
            write_benchmark(root / "benchmarks" / "pointcloud" / sequence / f"{start}.tsv", 5.5)
        write_sequence(root, rig, sequence, noise)
    write_benchmark(root / "benchmarks" / "train.tsv", 754.0)
    save_file({"weight": np.zeros(1, np.float32)}, root / "avatar.safetensors", {"config": '{"steps": 4321}'})
    return root
