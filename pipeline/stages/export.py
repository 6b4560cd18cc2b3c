"""export: cameras, clouds and moving heads in the forms of other tools, each a file of its own."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation
from trimesh.exchange.obj import export_obj

from pipeline import cli
from pipeline.avatar.data.chosen import single
from pipeline.cameras.exchange import colmap, transforms
from pipeline.cameras.rig import read_rig
from pipeline.capture.curves import ARKIT
from pipeline.errors import DataError
from pipeline.head.model import pose
from pipeline.head.model.arkit import read_map
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.motion.glb import Moving, write_glb
from pipeline.motion.retarget import home, resting
from pipeline.motion.unwrap import bake, roll_out
from pipeline.motion.wrap import Template, make_template, wrap
from pipeline.raster.backends.choose import make_rasterizer
from pipeline.settings.export import ExportSettings
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import publish, read_arrays
from pipeline.store.reel import open_reels

KINDS = {"colmap": ("cameras",), "transforms": ("cameras",), "ply": ("clouds",)}
OF_HEAD = ("prior", "identity", "track")
KINDS |= {"obj": OF_HEAD, "glb": (*OF_HEAD, "map", "own", "cameras", "frames", "seen")}
NOTICE = "Shapes: ICT-FaceKit, MIT licence, Copyright (c) 2020 USC Institute for Creative Technologies"


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, ExportSettings)
    result.add_argument("--kind", choices=sorted(KINDS), required=True, help="what is written")
    for name, about in (("prior", "head prior"), ("identity", "identity.safetensors"), ("track", "the motion's track")):
        result.add_argument(f"--{name}", type=cli.existing_file, help=about)
    result.add_argument("--map", type=cli.existing_file, help="arkit.safetensors, of ARKit's weights")
    result.add_argument("--cameras", type=cli.existing_file, help="cameras.json")
    result.add_argument("--seen", type=cli.existing_file, help="track of the sequence whose frames make the texture")
    result.add_argument(
        "--neck", type=MeshSettings.model_validate_json, default=MeshSettings(), help="section mesh, JSON"
    )
    for name, about in (("own", "the subject's own tracks"), ("clouds", "all spans"), ("frames", "for the texture")):
        result.add_argument(f"--{name}", type=cli.existing_file, nargs="+", help=about)
    result.add_argument("--rate", type=float, default=24, help="time steps in a second")
    result.add_argument("--output", type=Path, required=True, help="export/...")
    given = result.parse_args()
    for name in KINDS[given.kind]:
        if not getattr(given, name):
            raise DataError(f"--{name} is needed for --kind {given.kind}")
    return given


def clouds(given: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """A PLY file per time step: points with normals and colours, world metres."""
    with open_reels(given.clouds) as reels:
        reel = single(reels)
        for step in range(reel.steps):
            points, normals, colours = reel.rows(step, "offsets", "points", "normals", "colors")
            yield f"{step:05d}.ply", ply(points, normals, colours)


def ply(points: np.ndarray, normals: np.ndarray, colours: np.ndarray) -> bytes:
    """A binary PLY file of points and normals (N, 3) float32 and colours (N, 3) uint8."""
    kinds = {"float": ("x", "y", "z", "nx", "ny", "nz"), "uchar": ("red", "green", "blue")}
    fields = [(name, {"float": "<f4", "uchar": "u1"}[kind]) for kind, names in kinds.items() for name in names]
    rows = np.empty(len(points), fields)
    for (name, _), values in zip(fields, np.concatenate([points, normals, colours], 1).T, strict=True):
        rows[name] = values
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {kind} {name}" for kind, names in kinds.items() for name in names]
    return "\n".join([*lines, "end_header", ""]).encode() + rows.tobytes()


class Wrapped:
    """The head of the command line: template, codes and poses of the motion."""

    def __init__(self, given: argparse.Namespace):
        self.prior, self.identity = load_prior(given.prior), read_identity(given.identity)
        if self.identity.prior != file_digest(given.prior):
            raise DataError(f"{given.identity}: fitted with another head prior than {given.prior}")
        self.codes, self.poses = read_arrays(given.track, "z_exp", "head_from_world")
        own = [read_arrays(path, "z_exp")[0] for path in given.own or []]
        neutral = self.prior.neutral.numpy()
        self.rest = resting(np.concatenate(own), neutral).astype(np.float32) if own else neutral
        self.z_id = torch.from_numpy(self.identity.z_id)
        neck = Plane(given.neck.neck_offset, given.neck.neck_tilt_degrees)
        voxel_mm = given.settings.voxel_mm
        self.template: Template = make_template(self.prior, self.z_id, torch.from_numpy(self.rest), voxel_mm, neck)

    def vertices(self, z_exp: np.ndarray) -> np.ndarray:
        """The template (V, 3), head units, under a code (E,)."""
        places, astray = wrap(self.prior, self.template, self.z_id, self.rest, z_exp)
        if astray.mean() > 0.05:
            cli.log.warning(
                "%.1f %% of the template's vertices did not converge and move with their neighbours",
                100 * astray.mean(),
            )
        return places

    def world(self, step: int) -> np.ndarray:
        """The template (V, 3) at a time step, world metres."""
        return pose.apply(np.linalg.inv(self.poses[step]), self.vertices(self.codes[step]))


def meshes(given: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """An OBJ file per time step, all with the same vertices and faces, world metres."""
    head = Wrapped(given)
    progress = cli.Progress(len(head.codes), "steps")
    for step in range(len(head.codes)):
        mesh = trimesh.Trimesh(head.world(step), head.template.faces, process=False)
        yield f"{step:05d}.obj", export_obj(mesh, digits=6).encode()
        progress.update(step + 1)


def glb(given: argparse.Namespace) -> Moving:
    """The head with ARKit's shapes as morph targets, a texture of the quietest step seen, and the motion."""
    head, rasterizer, cameras = Wrapped(given), make_rasterizer("embree"), read_rig(given.cameras).cameras
    arkit = read_map(given.map, head.prior.config.exp)
    metres = 1 / float(head.identity.scale[0])
    moved = np.flatnonzero(arkit.z_exp_from_weights.any(0))  # all but those of which the prior knows nothing
    corner, faces, uv = rolled = roll_out(head.template.vertices, head.template.faces)
    progress, targets = cli.Progress(len(moved), "shapes"), []
    for place in moved:
        there = head.vertices(head.rest + arkit.z_exp_from_weights[:, place])
        targets.append(metres * (there - head.template.vertices)[corner])
        progress.update(len(targets))
    with open_reels(given.frames) as reels:
        reel = single(reels)
        codes, poses = read_arrays(given.seen, "z_exp", "head_from_world")
        quiet = int(np.linalg.norm(codes[: reel.steps] - head.rest, axis=1).argmin())
        pictures, person = reel.pictures("rgb", quiet), reel.pictures("alpha", quiet) > 127
    world = pose.apply(np.linalg.inv(poses[quiet]), head.vertices(codes[quiet]))
    texture = bake(rasterizer, world, head.template.faces, rolled, cameras, pictures, person, given.settings.texture)
    rest_from_head = home(head.identity) @ np.linalg.inv(head.poses)  # (T, 4, 4), in the axes of the head at rest
    turns = rest_from_head[:, :3, :3] / pose.scale_of(rest_from_head)[:, None, None]
    return Moving(
        metres * head.template.vertices[corner],
        faces,
        uv,
        texture,
        tuple(ARKIT[place] for place in moved),
        np.stack(targets),
        arkit.weights(head.codes - head.rest)[:, moved],
        Rotation.from_matrix(turns).as_quat(),
        metres * rest_from_head[:, :3, 3],
    )


def write_zip(path: Path, files: Iterator[tuple[str, bytes | str]]) -> None:
    """Publish files by name in one zip."""
    with publish(path) as partial, ZipFile(partial, "w", ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)


def main() -> None:
    """Write one file of one kind."""
    given = arguments()
    torch.set_flush_denormal(True)
    if given.kind == "glb":
        write_glb(given.output, glb(given), given.rate, NOTICE)
    elif given.kind == "transforms":
        with publish(given.output) as partial:
            partial.write_text(transforms(read_rig(given.cameras)))
    else:
        many = {"ply": clouds, "obj": meshes, "colmap": lambda given: colmap(read_rig(given.cameras)).items()}
        write_zip(given.output, many[given.kind](given))


if __name__ == "__main__":
    cli.run(main)
