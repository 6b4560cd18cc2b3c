"""What leaves the project, opened again with other people's libraries and compared."""

import io
import json
from pathlib import Path
from zipfile import ZipFile

import igl
import numpy as np
import pycolmap
import pytest
import torch
import trimesh

from pipeline.cameras.exchange import OPENGL_FROM_OPENCV, colmap, transforms
from pipeline.cameras.rig import Rig
from pipeline.capture.curves import ARKIT
from pipeline.head.model.arkit import SHIPPED, read_map
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.motion.unwrap import fill_in, roll_out
from pipeline.motion.wrap import filled, make_template, wrap
from pipeline.provenance import ROOT
from pipeline.raster.colours import UNSEEN
from pipeline.viewer.results import Results
from tests import in_process
from tests.test_rig import arc
from tests.viewer_results import PRIOR, SEQUENCE, STEPS, write_results

SPAN = f"{SEQUENCE}/000000-{STEPS:06d}.zarr.zip"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results to export from."""
    return write_results(tmp_path_factory.mktemp("results") / "9")


def export(folder: Path, kind: str, output: str, *more: object) -> Path:
    """Run the stage."""
    command = ["stages.export", "--settings", '{"voxel_mm": 10, "texture": 64}']
    command += ["--kind", kind, "--output", folder / output, *more]
    run = in_process.spawn if kind == "glb" else in_process.run
    done = run(*command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder / output


def test_colmap_reads_the_cameras(tmp_path):
    for name, text in colmap(Rig(arc())).items():
        (tmp_path / name).write_text(text)
    found = pycolmap.Reconstruction(tmp_path)
    images = {image.name: image for image in found.images.values()}
    for camera in arc():
        image = images[f"{camera.name}.png"]
        np.testing.assert_allclose(image.cam_from_world().matrix(), camera.camera_from_world[:3], atol=1e-12)
        lens = found.cameras[image.camera_id]
        np.testing.assert_allclose(lens.calibration_matrix(), camera.intrinsics)
        assert (lens.width, lens.height) == (camera.width, camera.height)


def test_transforms_are_opengl_cameras():
    for frame, camera in zip(json.loads(transforms(Rig(arc())))["frames"], arc(), strict=True):
        pose = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(pose @ OPENGL_FROM_OPENCV @ camera.camera_from_world, np.eye(4), atol=1e-12)
        assert frame["fl_x"] == camera.intrinsics[0, 0]


def test_clouds_open_as_ply(finished):
    path = export(finished, "ply", "export/SMILE.ply.zip", "--clouds", finished / "clouds" / SPAN)
    with ZipFile(path) as archive:
        assert archive.namelist() == [f"{step:05d}.ply" for step in range(STEPS)]
        cloud = trimesh.load(io.BytesIO(archive.read("00001.ply")), file_type="ply")
    points, colours = Results(finished).cloud(SEQUENCE, 1)
    np.testing.assert_array_equal(cloud.vertices.astype(np.float32), points)
    np.testing.assert_array_equal(cloud.colors[:, :3], colours)


def test_meshes_open_as_obj_and_lie_on_those_of_the_motion(finished):
    track, identity = finished / f"tracks/{SEQUENCE}.zarr.zip", finished / "identity.safetensors"
    more = ("--prior", PRIOR, "--identity", identity, "--track", track, "--own", track)
    with ZipFile(export(finished, "obj", "export/SMILE.obj.zip", *more)) as archive:
        assert archive.namelist() == [f"{step:05d}.obj" for step in range(STEPS)]
        files = [io.BytesIO(archive.read(name)) for name in archive.namelist()]
    meshes = [trimesh.load(file, file_type="obj", process=False, maintain_order=True) for file in files]
    for step, mesh in enumerate(meshes):
        np.testing.assert_array_equal(mesh.faces, meshes[0].faces)
        own = Results(finished).mesh(SEQUENCE, step)
        squared = igl.point_mesh_squared_distance(
            mesh.vertices, own.vertices.astype(float), own.faces.astype(np.int64)
        )[0]
        assert np.sqrt(np.median(squared)) < 5e-4  # metres


def test_a_wrapped_template_lies_on_the_mesh_of_each_expression():
    prior, neck = load_prior(PRIOR), Plane(-0.35, 9)
    z_id = prior.z_id_from(torch.from_numpy(np.random.default_rng(0).normal(size=prior.config.identity_modes)).float())
    rest = prior.neutral.numpy()
    template = make_template(prior, z_id, prior.neutral, 8, neck)
    arkit, weights = read_map(SHIPPED, prior.config.exp), np.zeros(len(ARKIT))
    weights[[ARKIT.index(name) for name in ("jawOpen", "mouthSmileLeft")]] = 0.4, 0.8
    places, astray = wrap(prior, template, z_id, rest, rest + arkit.z_exp(weights))
    assert astray.mean() < 0.05
    code = torch.from_numpy(arkit.z_exp(weights))
    assert np.median(np.abs(prior.sdf(prior.warp(torch.from_numpy(places).float(), z_id, code), z_id).numpy())) < 0.002
    own = mesh_head(prior, z_id, code, np.eye(4), 8, neck)
    squared = igl.point_mesh_squared_distance(
        own.vertices[::20].astype(float), places.astype(float), template.faces.astype(np.int64)
    )[0]
    distance = 250 * np.sqrt(squared)
    assert np.median(distance) < 0.5  # mm
    assert np.linalg.norm(places - template.vertices, axis=1).max() * 250 > 5


def test_vertices_that_went_astray_follow_their_neighbours():
    mesh = trimesh.creation.icosphere(2)
    moves = mesh.vertices * 0.5
    astray = np.zeros(len(moves), bool)
    astray[[3, 50, 51]] = True
    broken = moves.copy()
    broken[astray] = 99
    assert np.abs(filled(broken, astray, mesh.faces) - moves).max() < 0.1


def test_rolled_out_head_has_no_face_across_the_seam():
    mesh = trimesh.creation.icosphere(3)
    corner, faces, uv = roll_out(mesh.vertices, mesh.faces)
    np.testing.assert_array_equal(corner[faces], mesh.faces)
    polar = (np.abs(mesh.vertices[mesh.faces][..., 1]) > 0.9).any(1)  # there a face may go all the way round
    assert np.ptp(uv[faces][~polar][..., 0], axis=1).max() <= 0.5
    assert uv.min() >= 0
    assert uv[:, 1].max() <= 1


def test_what_no_camera_sees_looks_like_what_is_beside_it_and_the_texture_repeats():
    colour, seen = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool)
    seen[:, :8], seen[:, 40:56] = True, True
    colour[:, :8], colour[:, 40:56] = 250, 50
    found = fill_in(colour, seen)
    np.testing.assert_array_equal(found[seen], colour[seen])
    assert (found[:, 10] > 240).all()
    assert (found[:, 36] < 60).all()
    assert (found[:, 62] > 240).all()  # two texels left of the left edge


def test_glb_opens_with_its_shapes_texture_and_motion(finished):
    track, frames = finished / f"tracks/{SEQUENCE}.zarr.zip", finished / "frames" / SPAN
    more = ("--prior", PRIOR, "--map", SHIPPED, "--identity", finished / "identity.safetensors", "--track", track)
    more += ("--own", track, "--cameras", finished / "cameras.json", "--frames", frames, "--seen", track)
    path = export(finished, "glb", "export/SMILE.glb", *more)
    scene = trimesh.load(path)
    (mesh,) = scene.geometry.values()
    texture = np.asarray(mesh.visual.material.baseColorTexture)
    assert texture.shape == (64, 64, 3)
    assert not (texture == UNSEEN).all(-1).any()  # what no camera sees looks like what is beside it
    assert 0.2 < np.ptp(mesh.vertices[:, 1]) < 0.5  # metres
    document, arrays = read_glb(path)
    (whole,) = document["meshes"]
    names = whole["extras"]["targetNames"]
    assert set(names) == set(ARKIT) - {"tongueOut"}
    jaw = arrays[whole["primitives"][0]["targets"][names.index("jawOpen")]["POSITION"]]
    low = mesh.vertices[:, 1] < np.median(mesh.vertices[:, 1])
    assert jaw[low, 1].min() < -0.01  # the chin goes down by a centimetre at least
    assert np.abs(jaw[mesh.vertices[:, 1] > np.quantile(mesh.vertices[:, 1], 0.8)]).max() < 2e-3
    animation = document["animations"][0]
    paths = [channel["target"]["path"] for channel in animation["channels"]]
    motion = {path: arrays[sampler["output"]] for path, sampler in zip(paths, animation["samplers"], strict=True)}
    assert motion["weights"].size == STEPS * len(names)
    np.testing.assert_allclose(motion["translation"], 0, atol=1e-4)  # this head stands still
    np.testing.assert_allclose(np.abs(motion["rotation"][:, 3]), 1, atol=1e-5)
    assert "ICT-FaceKit" in document["asset"]["copyright"]


def read_glb(path: Path) -> tuple[dict, list[np.ndarray]]:
    """The JSON of a binary glTF file and all its arrays."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    assert int.from_bytes(data[8:12], "little") == len(data)
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        kind, width = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]], {"SCALAR": 1}.get(accessor["type"])
        width = width or int(accessor["type"][-1])
        flat = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"])
        arrays.append(flat.reshape(-1, width) if width > 1 else flat)
    return document, arrays
