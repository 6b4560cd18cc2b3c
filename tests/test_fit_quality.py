"""Figures of fit: against exact distances, on a ball whose figures are known, and what the stage refuses."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import trimesh
from synthetic_head import RADIUS, head_from_world, make_rig, write_ball

from pipeline.evaluate.measures.surface import compare, jitter_mm, nearest_on_surface, surface_samples
from pipeline.mesh.mesh import Mesh
from pipeline.store.chunk import Array, read_arrays, read_attributes, write_chunk
from tests import in_process

EYES = np.stack([camera.centre for camera in make_rig(4, 24, 32).cameras])


def ball(radius: float) -> Mesh:
    sphere = trimesh.creation.icosphere(5, radius)
    x_can = np.zeros((len(sphere.vertices), 5), np.float32)
    return Mesh(sphere.vertices.astype(np.float32), x_can, sphere.faces.astype(np.int32))


def front_of_the_ball(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors (N, 3) to where all of the cameras look."""
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions[directions[:, 1] < -0.5]


def test_nearest_is_the_nearest_of_all_triangles():
    knot = trimesh.creation.torus(0.35, 0.12, major_sections=60, minor_sections=30)
    points = np.random.default_rng(1).normal(0, 0.3, (300, 3))
    every = trimesh.triangles.closest_point(np.tile(knot.triangles, (300, 1, 1)), points.repeat(len(knot.faces), 0))
    exact = np.linalg.norm(every.reshape(300, -1, 3) - points[:, None], axis=-1).min(1)
    found = nearest_on_surface(points, knot.triangles.view(np.ndarray))
    assert (np.abs(found.distance - exact) < 1e-9).mean() > 0.98  # a far point may have its nearest triangle 9th
    np.testing.assert_allclose(found.distance, exact, rtol=0.02, atol=1e-4)


def test_samples_lie_on_the_surface_and_are_spread_by_area():
    triangles = np.array([[[0, 0, 0], [3, 0, 0], [0, 2, 0]], [[0, 0, 1], [1, 0, 1], [0, 2, 1]]], float)
    points, normals = surface_samples(triangles, 40_000, seed=0)
    assert (points[:, 2] == 0).mean() == pytest.approx(0.75, abs=0.01)
    lower = points[points[:, 2] == 0]
    np.testing.assert_allclose(lower.mean(0), [1, 2 / 3, 0], atol=0.02)
    np.testing.assert_allclose(normals, [[0, 0, 1]] * len(normals), atol=1e-12)


def test_a_ball_two_millimetres_too_large():
    outward = front_of_the_ball(40_000)
    figures = compare(outward * RADIUS, outward, ball(RADIUS + 2e-3), EYES, 5000, seed=0)
    assert figures["cloud_to_mesh_mm"] == pytest.approx(2, abs=0.05)
    assert figures["cloud_to_mesh_median_mm"] == pytest.approx(2, abs=0.05)
    assert figures["normal_consistency"] > 0.999
    assert figures["f_score_1mm"] == 0
    assert 0 < figures["f_score_2.5mm"] <= figures["f_score_5mm"] <= 1


def test_a_thin_cloud_covers_less_of_the_face_and_hair_is_none_of_it():
    """A ball whose front is its face: half of the cloud is missing there, and a centimetre of hair stands off it."""
    whole = ball(RADIUS)
    x_can = np.zeros((len(whole.vertices), 5), np.float32)
    x_can[:, 1], x_can[:, 2] = 4 * whole.vertices[:, 2], -4 * whole.vertices[:, 1]
    head = Mesh(whole.vertices, x_can, whole.faces)
    outward = front_of_the_ball(60_000)
    skin = outward[4 * RADIUS * outward[:, 2] < 0.3]
    hair = outward[4 * RADIUS * outward[:, 2] > 0.32] * (1 + 0.01 / RADIUS)
    full = np.concatenate([skin, hair])
    figures = compare(full * RADIUS, full, head, EYES, 5000, seed=0)
    thin = np.concatenate([skin[skin[:, 0] > 0], hair])
    thinner = compare(thin * RADIUS, thin, head, EYES, 5000, seed=0)
    for name in ("face_cloud_to_mesh_median_mm", "face_cloud_to_mesh_mm"):
        assert figures[name] < 0.1
        assert thinner[name] < 0.1
    assert figures["cloud_to_mesh_mm"] > 0.15
    assert thinner["face_coverage"] < 0.65 * figures["face_coverage"]


def test_what_no_camera_faces_does_not_count():
    """The cloud covers the front only, yet the mesh that it was taken from is not blamed for its back."""
    outward = np.random.default_rng(2).normal(size=(60_000, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    outward = outward[outward[:, 1] < 0.35]
    figures = compare(outward * RADIUS, outward, ball(RADIUS), EYES, 5000, seed=0)
    assert figures["mesh_to_cloud_mm"] < 1
    assert figures["f_score_2.5mm"] > 0.99


def test_jitter_of_a_shake_and_of_even_motion():
    even = np.stack([head_from_world(0)] * 9)
    even[:, :3, 3] = np.linspace(0, 1, 9)[:, None]
    assert jitter_mm(even) == pytest.approx(0, abs=1e-9)
    shaken = even.copy()
    shaken[::2, 0, 3] += 0.004  # one millimetre at 4 units per metre: second differences are 2 mm
    assert jitter_mm(shaken) == pytest.approx(2, rel=1e-6)
    assert jitter_mm(even[:2]) == 0


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_ball(tmp_path / "ball")


def call(root: Path, settings: dict) -> subprocess.CompletedProcess[str]:
    """Run the stage on the sequence TURN."""
    spans = {name: sorted(root.glob(f"{name}/TURN/*.zarr.zip")) for name in ("clouds", "meshes")}
    lists = [str(word) for name, paths in spans.items() for word in (f"--{name}", *paths)]
    one = {"track": "tracks/TURN.zarr.zip", "cameras": "cameras.json", "output": "quality/TURN.json"}
    options = [word for name, file in one.items() for word in (f"--{name}", str(root / file))]
    return in_process.run("stages.fit_quality", "--settings", json.dumps(settings), *lists, *options)


def test_stage_measures_every_step(results):
    path = results / "meshes/TURN/000002-000003.zarr.zip"
    names = ("vertices", "x_can", "faces", "vertex_offsets", "face_offsets")
    arrays = dict(zip(names, read_arrays(path, *names), strict=True))
    arrays["vertices"] = arrays["vertices"] * 1.1  # a centimetre too large
    attributes = {name: read_attributes(path)[name] for name in ("subject", "sequence", "start", "stop", "neck")}
    write_chunk(
        path,
        {name: Array(values, ("row", "column")[: values.ndim], "-", "-") for name, values in arrays.items()},
        attributes,
    )
    result = call(results, {"points": 2000})
    assert result.returncode == 0, result.stderr
    report = json.loads((results / "quality/TURN.json").read_text())
    assert report["failed"] == []
    assert report["steps"][2]["cloud_to_mesh_median_mm"] == pytest.approx(10, rel=0.05)
    assert [figures["cloud_to_mesh_median_mm"] < 0.2 for figures in report["steps"]] == [True, True, False]
    assert report["mean"]["cloud_to_mesh_mm"] == pytest.approx(10 / 3, rel=0.05)


def test_stage_refuses_meshes_that_end_early(results):
    (results / "meshes/TURN/000002-000003.zarr.zip").unlink()
    result = call(results, {})
    assert result.returncode == 1
    assert "do not end with the clouds, at step 3" in result.stderr
    assert "Traceback" not in result.stderr
