"""A subject's results as a viewer finds them, in seconds: known codes, their meshes, an untrained avatar."""

from pathlib import Path

import numpy as np
import torch

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import describe, trained_tensors, write_avatar, write_tensors
from pipeline.cameras.rig import Rig, write_rig
from pipeline.head.model import pose
from pipeline.head.model.identity import Identity, file_digest, write_identity
from pipeline.head.model.prior import load_prior
from pipeline.mesh.mesh import write_meshes
from pipeline.settings.architecture import Architecture
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import Array, write_chunk
from pipeline.viewer.render import Head
from pipeline.viewer.results import Results
from tests.test_rig import HEAD, arc

PRIOR = Path(__file__).resolve().parents[1] / "pipeline/head/weights/head_prior.safetensors"
SEQUENCE, STEPS = "SMILE", 3
TINY = {
    "channels": [16, 32],
    "attention_levels": 1,
    "groups": 8,
    "token_width": 16,
    "plane_size": 32,
    "plane_features": 4,
}


def write_results(folder: Path, stages: tuple[str, ...] = ("frames", "clouds", "fit", "meshes", "avatar")) -> Path:
    """What the named stages, and calibrate, would have left in a folder."""
    prior = load_prior(PRIOR)
    w = np.random.default_rng(0).normal(size=prior.config.identity_modes)
    z_id = prior.z_id_from(torch.as_tensor(w).float()).numpy()
    place = [part.astype(np.float32) for part in (HEAD.centre, HEAD.up, HEAD.front)]
    identity = Identity(z_id, w, np.array([4.0], np.float32), *place, file_digest(PRIOR), ("SMILE:0",), (1.0,))
    write_rig(folder / "cameras.json", Rig(arc()))
    about = {"subject": "9", "sequence": SEQUENCE, "start": 0, "stop": STEPS}
    codes = 0.2 * np.random.default_rng(1).random((STEPS, prior.config.exp)).astype(np.float32)
    poses = np.stack([pose.similarity(HEAD.centre, HEAD.up, HEAD.front, 4.0)] * STEPS)
    head = Head(prior, identity, MeshSettings(voxel_mm=8))
    meshes = [head.mesh(code, at) for code, at in zip(codes, poses, strict=True)]
    span = f"{SEQUENCE}/000000-{STEPS:06d}.zarr.zip"
    if "frames" in stages:
        rgb = np.random.default_rng(2).integers(0, 255, (STEPS, 5, 96, 64, 3), dtype=np.uint8)
        axes = ("time", "camera", "row", "column", "channel")
        alpha = Array(np.full(rgb.shape[:4], 255, np.uint8), axes[:4], "0..255", "the person is everywhere")
        write_chunk(folder / "frames" / span, {"rgb": Array(rgb, axes, "sRGB", "noise"), "alpha": alpha}, about)
    if "clouds" in stages:
        write_clouds(folder, 0, [mesh.vertices for mesh in meshes])
    if "fit" in stages:
        write_identity(folder / "identity.safetensors", identity)
        track = {
            "z_exp": Array(codes, ("time", "code"), "1", "codes"),
            "head_from_world": Array(poses, ("time", "row", "column"), "head unit / m", "poses"),
        }
        write_chunk(folder / f"tracks/{SEQUENCE}.zarr.zip", track, about)
    if "meshes" in stages:
        settings = {"settings": head.settings.model_dump(mode="json")}
        write_meshes(folder / "meshes" / span, meshes, about | settings)
    if "avatar" in stages:
        avatar = tiny_avatar(prior.config.exp)
        write_avatar(folder / "avatar.safetensors", avatar, trained_tensors(avatar), 1)
    return folder


def write_clouds(folder: Path, start: int, clouds: list[np.ndarray]) -> Path:
    """A span of the sequence's clouds (N, 3) from a time step on."""
    points, stop = np.concatenate(clouds), start + len(clouds)
    offsets = np.concatenate([[0], np.cumsum([len(cloud) for cloud in clouds])])
    colour = np.full(points.shape, 99, np.uint8)
    rows = {"points": (points, "m"), "normals": (points, "1"), "colors": (colour, "sRGB")}
    cloud = {name: Array(values, ("point", "xyz"), unit, name) for name, (values, unit) in rows.items()}
    path = folder / f"clouds/{SEQUENCE}/{start:06d}-{stop:06d}.zarr.zip"
    about = {"subject": "9", "sequence": SEQUENCE, "start": start, "stop": stop}
    write_chunk(path, cloud | {"offsets": Array(offsets, ("step",), "1", "offsets")}, about)
    return path


def tiny_avatar(code_size: int) -> Avatar:
    """An avatar of the demo's kind that has learned nothing."""
    torch.manual_seed(0)
    return Avatar(Architecture.model_validate(TINY), code_size)


def write_training(folder: Path, code_size: int) -> Path:
    """The saved state of a training."""
    avatar = tiny_avatar(code_size)
    tensors = {f"average/{name}": tensor for name, tensor in trained_tensors(avatar).items()}
    write_tensors(folder / "abc/state.safetensors", tensors, describe(avatar) | {"step": 3})
    return folder


def results(folder: Path) -> Results:
    """The results of `write_results`."""
    return Results(write_results(folder))
