"""The mesh stage: sparse marching cubes against a dense grid, the neck cut, and the command line."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.spatial import KDTree
from skimage.measure import marching_cubes
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.errors import DataError
from pipeline.head.model.identity import Identity, file_digest, write_identity
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cubes import corner_points, march_there
from pipeline.mesh.cut import Plane, clip, compact, largest_piece
from pipeline.mesh.head import CHIN, cut_through_chin, mesh_head
from pipeline.mesh.mesh import Mesh, read_meshes, vertex_normals, write_meshes
from pipeline.mesh.sparse import extract, follow, grid_cells
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import Array, read_attributes, write_chunk
from tests import in_process

LOW, HIGH = np.array([-0.62, -0.5, -0.75]), np.array([0.62, 0.85, 0.5])
PRIOR = Path(__file__).parents[1] / "pipeline" / "head" / "weights" / "head_prior.safetensors"


def torus(points: torch.Tensor) -> torch.Tensor:
    """Signed distance of a torus in the xy plane."""
    return torch.hypot(torch.hypot(points[:, 0], points[:, 1]) - 0.35, points[:, 2]) - 0.12


def head(points: torch.Tensor) -> torch.Tensor:
    """Not quite a distance: an ellipsoid with a thin ear and a neck that leaves the box."""
    skull = 0.35 * ((points / torch.tensor([0.35, 0.45, 0.45])).norm(dim=1) - 1)
    ear = ((points - torch.tensor([0.37, 0, 0])) / torch.tensor([1, 2, 1])).norm(dim=1) - 0.025
    neck = torch.maximum(torch.hypot(points[:, 0], points[:, 2] + 0.05) - 0.2, points[:, 1])
    return torch.minimum(torch.minimum(skull, ear), neck)


def mouth(points: torch.Tensor) -> torch.Tensor:
    """A ball with a slit, thinner than any cell of the coarse lattices."""
    slit = torch.maximum((points[:, 1] - 0.01).abs() - 0.014, 0.1 - points[:, 2])
    return torch.maximum(points.norm(dim=1) - 0.4, -slit)


def dense_values(field, voxel: float) -> np.ndarray:
    """The field at every point of the grid, (X + 1, Y + 1, Z + 1)."""
    size = [n + 1 for n in grid_cells(HIGH - LOW, voxel)]
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(-1, 3)
    return field(torch.from_numpy((LOW + grid * voxel).astype(np.float32))).reshape(size).numpy()


def dense(field, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """The same surface from every point of the grid."""
    vertices, faces, _, _ = marching_cubes(dense_values(field, voxel), 0.0, gradient_direction="descent")
    return LOW + vertices * voxel, faces


def has_grains(values: np.ndarray) -> bool:
    """Whether points on one side hang together with others by a corner alone, not along the grid's edges."""
    return any(label(side)[1] != label(side, np.ones((3, 3, 3)))[1] for side in (values <= 0, values > 0))


def assert_same_points(one: np.ndarray, other: np.ndarray, voxel: float) -> None:
    """Same points (N, 3) but for their order, within 0.05 voxel."""
    assert len(one) == len(other)
    there, here = KDTree(other).query(one)[0], KDTree(one).query(other)[0]
    assert max(there.max(), here.max()) < 0.05 * voxel


def assert_same_surface(sparse: tuple, whole: tuple, voxel: float) -> None:
    """Same vertices and triangles but for their order, within 0.05 voxel."""
    assert_same_points(sparse[0], whole[0], voxel)
    assert_same_points(sparse[0][sparse[1]].mean(1), whole[0][whole[1]].mean(1), voxel)


@pytest.mark.parametrize("field", [torus, head, mouth])
@pytest.mark.parametrize("resolution", [20, 40, 64, 110])  # first lattices of 1, 2, 4 and 8 voxels
def test_sparse_is_dense(field, resolution):
    voxel = 1.35 / resolution
    assert_same_surface(extract(field, LOW, HIGH, voxel), dense(field, voxel), voxel)


@pytest.mark.parametrize(("wave", "height"), [(4, 2), (5, 1), (6, 1.5)])
def test_grains_are_found_where_coarser_values_are_doubtful(wave, height):
    """A ball with ripples of some voxels, so that single points stick out of it: nothing joins them to others."""
    voxel = 1.35 / 64

    def field(points: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=1) - 0.4 + height * voxel * torch.sin(2 * np.pi / (wave * voxel) * points).prod(1)

    assert has_grains(dense_values(field, voxel))
    assert_same_surface(extract(field, LOW, HIGH, voxel), dense(field, voxel), voxel)


@torch.inference_mode()
def test_sparse_is_dense_for_the_shipped_prior():
    prior, voxel = load_prior(PRIOR), 1.35 / 50
    z_id = prior.identity.mean
    for seed, spread in ((0, 0), (1, 1), (2, 2)):  # from the neutral face to one pulled as none is
        weights = torch.randn(prior.config.expression_modes, generator=torch.Generator().manual_seed(seed))
        z_exp = prior.z_exp_from(spread * weights)

        def field(points: torch.Tensor, z_exp: torch.Tensor = z_exp) -> torch.Tensor:
            return prior.sdf(prior.warp(points, z_id, z_exp), z_id)

        assert_same_points(extract(field, LOW, HIGH, voxel)[0], dense(field, voxel)[0], voxel)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.15, 0.3),
    st.lists(st.tuples(*[st.floats(-0.4, 0.4)] * 3, st.floats(0.003, 0.1)), max_size=5),
    st.floats(0, 0.02),
    st.floats(1, 40),
    st.integers(40, 72),
)
def test_the_largest_piece_is_whole_whatever_the_field(radius, balls, height, frequency, resolution):
    """A large ball with smaller ones on, in and beside it, rippled, so that lattices lead to expect little rightly."""

    def field(points: torch.Tensor) -> torch.Tensor:
        distance = points.norm(dim=1) - radius
        for *middle, size in balls:
            distance = torch.minimum(distance, (points - torch.tensor(middle)).norm(dim=1) - size)
        return distance + height * torch.sin(frequency * points).prod(1)

    def largest(mesh: tuple) -> tuple:
        return compact(mesh[0], largest_piece(mesh[1], len(mesh[0])))

    voxel = 1.35 / resolution
    assume(not has_grains(dense_values(field, voxel)))
    assert_same_surface(largest(extract(field, LOW, HIGH, voxel)), largest(dense(field, voxel)), voxel)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["rough", "smooth", "zeros", "mostly outside"]))
def test_a_gpu_would_make_scikit_images_triangles(seed, kind):
    """Of any numbers: cells that can be meshed in several ways, a plane through points, parts that leave the grid."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(7, 6, 5))
    if kind == "smooth":
        values = np.cos(np.indices(values.shape).T @ rng.normal(size=(3, 4)) + rng.normal(size=4)).sum(-1).T
    if kind == "zeros":
        values = np.indices(values.shape).sum(0) - rng.integers(3, 12)
    if kind == "mostly outside":
        values += 1
    values = torch.from_numpy(values.astype(np.float32))
    inside = values <= 0
    corners = torch.stack([inside[x : 6 + x, y : 5 + y, z : 4 + z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    cells = (corners.any(0) & ~corners.all(0)).nonzero()
    vertices, faces = (part.numpy() for part in march_there(values, cells[torch.randperm(len(cells))]))
    expected, whole, _, _ = marching_cubes(values.numpy(), 0.0, gradient_direction="descent")
    assert_same_points(vertices, expected, 1e-3)
    assert_same_corners(vertices[faces], expected[whole])


@pytest.mark.gpu
@pytest.mark.parametrize("field", [torus, head, mouth])
def test_a_gpu_meshes_what_a_cpu_does(field):
    def there(points: torch.Tensor) -> torch.Tensor:
        return field(points.cpu()).cuda()

    assert_same_surface(extract(there, LOW, HIGH, 0.02, "cuda"), extract(field, LOW, HIGH, 0.02), 0.02)


def assert_same_corners(one: np.ndarray, other: np.ndarray) -> None:
    """Same triangles (F, 3, 3), turned the same way, but for their order and which corner comes first."""

    def rows(triangles: np.ndarray) -> np.ndarray:
        turns = [np.roll(triangles, turn, axis=1).reshape(-1, 9) for turn in range(3)]
        return np.concatenate(turns)

    assert_same_points(rows(one), rows(other), 1e-3)


@pytest.mark.parametrize("field", [torus, head, mouth])
def test_few_points_are_asked_and_none_twice(field):
    asked = []

    def noted(points: torch.Tensor) -> torch.Tensor:
        asked.append(points)
        return field(points)

    _, cells = follow(noted, LOW, HIGH, 0.01)
    points = torch.cat(asked)
    assert len(points) == len(points.unique(dim=0))
    assert len(points) < 0.8 * len(corner_points(cells).unique(dim=0))


class Waits(TorchDispatchMode):
    """Counts operations whose result's size, or a number of it, a GPU's host has to wait for."""

    def __init__(self):
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        masked = name == "index" and any(at is not None and at.dtype == torch.bool for at in arguments[1])
        self.found += masked or name in ("nonzero", "_unique2", "_local_scalar_dense", "is_nonzero", "masked_select")
        return function(*arguments, **(options or {}))


def test_the_host_waits_five_times_a_question():
    questions = 0

    def noted(points: torch.Tensor) -> torch.Tensor:
        nonlocal questions
        questions += 1
        return mouth(points)

    with Waits() as waits:
        follow(noted, LOW, HIGH, 0.01)
    assert questions >= 3  # one for each lattice
    assert waits.found <= 5 * questions + 20


def test_closed_and_outward():
    vertices, faces = extract(torus, LOW, HIGH, 0.02)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(2 * np.pi**2 * 0.35 * 0.12**2, rel=0.02)


@pytest.mark.parametrize("value", [1.0, -1.0, np.nan])
def test_no_surface(value):
    vertices, faces = extract(lambda p: torch.full((len(p),), value), LOW, HIGH, 0.05)
    assert len(vertices) == len(faces) == 0


@settings(max_examples=20, deadline=None)
@given(st.floats(-0.8, 0.8), st.floats(-45, 45))
@example(0.0, 0.0)  # the plane meets vertices
@example(0.0, 2.2e-16)
@example(1e-12, 0.0)
def test_clip_leaves_a_cap_of_the_sphere(offset, tilt):
    ball, plane = trimesh.creation.icosphere(4), Plane(offset, tilt)
    vertices, faces = clip(np.asarray(ball.vertices), ball.faces, plane.height(np.asarray(ball.vertices)))
    vertices, faces = compact(vertices, faces)
    assert plane.height(vertices).min() > -2e-9
    cap = trimesh.Trimesh(vertices, faces, process=False)
    distance = offset * np.cos(np.radians(tilt))  # of the plane from the middle
    assert cap.area == pytest.approx(2 * np.pi * (1 - distance), rel=0.01)
    rim = np.unique(cap.edges_sorted[trimesh.grouping.group_rows(cap.edges_sorted, require_count=1)])
    assert np.abs(plane.height(vertices[rim])).max() < 2e-9  # one straight edge, welded
    outward = np.einsum("ij,ij->i", np.cross(*np.diff(cap.triangles, axis=1).swapaxes(0, 1)), cap.triangles_center)
    assert outward.min() > 0


def test_clip_interpolates_attributes_linearly():
    ball = trimesh.creation.icosphere(2)
    attributes = np.concatenate([ball.vertices, ball.vertices @ np.arange(15).reshape(3, 5) + 2], -1)
    clipped, _ = clip(attributes, ball.faces, ball.vertices[:, 1] - 0.3)
    np.testing.assert_allclose(clipped[:, 3:], clipped[:, :3] @ np.arange(15).reshape(3, 5) + 2, atol=1e-12)


def test_largest_piece_and_compact():
    large, small = trimesh.creation.icosphere(2), trimesh.creation.icosphere(1).apply_translation([3, 0, 0])
    vertices = np.concatenate([small.vertices, large.vertices])
    faces = np.concatenate([small.faces, large.faces + len(small.vertices)])
    kept, kept_faces = compact(vertices, largest_piece(faces, len(vertices)))
    np.testing.assert_array_equal(kept, large.vertices)
    np.testing.assert_array_equal(kept_faces, large.faces)


def test_normals_of_a_sphere():
    ball = trimesh.creation.icosphere(4)
    np.testing.assert_allclose(vertex_normals(np.asarray(ball.vertices), ball.faces), ball.vertices, atol=0.02)


def test_pack_and_read(tmp_path):
    rng = np.random.default_rng(0)
    meshes = [
        Mesh(
            rng.random((n, 3), np.float32), rng.random((n, 5), np.float32), rng.integers(0, n, (m, 3)).astype(np.int32)
        )
        for n, m in ((5, 3), (9, 14))
    ]
    write_meshes(tmp_path / "meshes.zarr.zip", meshes, {})
    for before, after in zip(meshes, read_meshes(tmp_path / "meshes.zarr.zip"), strict=True):
        for name in ("vertices", "x_can", "faces"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_empty_step_is_named(tmp_path):
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 5), np.float32), np.zeros((0, 3), np.int32))
    whole = Mesh(np.zeros((3, 3), np.float32), np.zeros((3, 5), np.float32), np.array([[0, 1, 2]], np.int32))
    write_meshes(tmp_path / "meshes.zarr.zip", [whole, nothing], {})
    with pytest.raises(DataError, match="step 1 of the span has no triangles"):
        list(read_meshes(tmp_path / "meshes.zarr.zip"))


def test_head_of_the_shipped_prior():
    prior = load_prior(PRIOR)
    z_id = prior.z_id_from(torch.zeros(prior.config.identity_modes)).detach()
    neck, pose = Plane(-0.35, 9), np.diag([4.0, 4.0, 4.0, 1.0])
    mesh = mesh_head(prior, z_id, prior.neutral, pose, 8, neck)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.19, 0.24, 0.2], abs=0.06)  # metres
    assert neck.height(mesh.x_can).min() > -1e-5
    np.testing.assert_allclose(mesh.x_can[:, :3], mesh.vertices * 4, atol=0.1)  # neutral: hardly moved
    with torch.inference_mode():
        head_points = torch.from_numpy(mesh.vertices * 4)
        again = prior.warp(head_points, z_id, prior.neutral)
        distance = prior.sdf(again, z_id).abs().median().item()
    assert distance < 0.1 * 0.032  # of a voxel
    np.testing.assert_allclose(mesh.x_can, again.numpy(), atol=2e-2)
    assert mesh.x_can.dtype == np.float32
    with pytest.raises(DataError, match="no surface above the neck"):
        mesh_head(prior, z_id, prior.neutral, pose, 16, Plane(0.84, 0))


def chins_cut(prior, neck: Plane) -> int:
    """Of how many of 20 random heads the cut takes some of the chin: the uncut mesh says where that is."""
    cut = 0
    for seed in range(20):
        w_id = torch.randn(prior.config.identity_modes, generator=torch.Generator().manual_seed(seed))
        z_id = prior.z_id_from(w_id).detach()
        whole, mesh = (mesh_head(prior, z_id, prior.neutral, np.eye(4), 8, plane) for plane in (Plane(-1, 0), neck))
        chin = whole.x_can[(whole.x_can[:, 2] > CHIN) & (np.abs(whole.x_can[:, 0]) < 0.1)]
        taken = bool((neck.height(chin) < 0).any())
        assert cut_through_chin(mesh, neck) == taken
        cut += taken
    return cut


def test_the_default_cut_spares_the_chin():
    prior, settings = load_prior(PRIOR), MeshSettings()
    assert chins_cut(prior, Plane(settings.neck_offset, settings.neck_tilt_degrees)) == 0
    assert chins_cut(prior, Plane(-0.35, 9)) == 12  # rising to the front, as it once did


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A folder with an identity and a track of three steps."""
    folder, prior = tmp_path_factory.mktemp("fitted"), load_prior(PRIOR)
    w_id, z_id = np.zeros(prior.config.identity_modes), prior.identity.mean.detach().numpy()
    axes = np.eye(3)
    identity = Identity(
        z_id, w_id, np.array([4.0]), np.zeros(3), axes[1], axes[2], file_digest(PRIOR), ("a:0",), (1.0,)
    )
    write_identity(folder / "identity.safetensors", identity)
    z_exp = np.repeat(prior.neutral.numpy()[None], 3, 0)
    poses = np.repeat(np.diag([4.0, 4.0, 4.0, 1.0])[None], 3, 0)
    poses[:, 0, 3] = [0, 0.1, 0.2]
    arrays = {
        "z_exp": Array(z_exp, ("time", "code"), "1", "codes"),
        "head_from_world": Array(poses, ("time", "row", "column"), "head unit / m", "similarity"),
    }
    write_chunk(folder / "track.zarr.zip", arrays, {})
    return folder


def run_mesh(fitted: Path, start: int, stop: int, output: Path) -> subprocess.CompletedProcess:
    """The stage as the workflow runs it, coarse."""
    command = ["stages.mesh", "--settings", '{"voxel_mm": 15}', "--prior", str(PRIOR)]
    command += ["--identity", str(fitted / "identity.safetensors"), "--track", str(fitted / "track.zarr.zip")]
    command += [
        "--subject",
        "x",
        "--sequence",
        "a",
        "--start",
        str(start),
        "--stop",
        str(stop),
        "--output",
        str(output),
    ]
    return in_process.run(*command)


def test_stage_whatever_the_span(fitted, tmp_path):
    whole, part = tmp_path / "whole.zarr.zip", tmp_path / "part.zarr.zip"
    for span, output in (((0, 3), whole), ((1, 2), part)):
        done = run_mesh(fitted, *span, output)
        assert done.returncode == 0, done.stderr
    meshes, (one,) = list(read_meshes(whole)), read_meshes(part)
    np.testing.assert_array_equal(meshes[1].vertices, one.vertices)
    np.testing.assert_allclose(meshes[0].vertices[:, 0] - meshes[2].vertices[:, 0], 0.05, atol=1e-6)
    assert read_attributes(whole)["neck"] == {"offset": MeshSettings().neck_offset, "tilt_degrees": 0}


def test_stage_names_a_span_beyond_the_track(fitted, tmp_path):
    done = run_mesh(fitted, 2, 5, tmp_path / "out.zarr.zip")
    assert done.returncode == 1
    assert "3 steps; asked for 2 to 5" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
