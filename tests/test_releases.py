"""Data that others have released, in small folders of their layout: NeRSemble's benchmark, DiffusionAvatars' own."""

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cameras.rig import Rig, write_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.numbers import rotation
from pipeline.capture.pictures.ingest import check_recording, read_span
from pipeline.errors import ConfigError, DataError
from pipeline.planning.plan import Plan
from pipeline.planning.table import read_table
from pipeline.stereo.given import CELL, given_cloud, read_pcd
from pipeline.store.chunk import read_arrays
from tests import in_process
from tests.fit_data import WEIGHTS
from tests.other_captures import pictures_of
from tests.tiny_videos import encode

SEQUENCE, FRAMES, HELD_OUT = "EXP-5-mouth", 3, "222200046"
SHRUNK = 2


def disc(size: tuple[int, int]) -> np.ndarray:
    """A person (H, W) uint8 of a (width, height)."""
    return cv2.circle(np.zeros(size[::-1], np.uint8), (size[0] // 2, size[1] // 2), size[0] // 3, 255, -1)


def write_pcd(path: Path, points: np.ndarray, coding: str) -> None:
    """Points (n, 3) with normals along z and orange all over, as PCD."""
    names = ("x", "y", "z", "rgb", "normal_x", "normal_y", "normal_z")
    table = np.zeros(len(points), [(name, "<f4") for name in names])
    for axis, name in enumerate("xyz"):
        table[name] = points[:, axis]
    table["normal_z"] = -2
    table["rgb"] = np.array([0xFF8020], np.uint32).view(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(points)
    header = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7", f"FIELDS {' '.join(names)}"]
    header += ["SIZE 4 4 4 4 4 4 4", "TYPE F F F F F F F", "COUNT 1 1 1 1 1 1 1", f"WIDTH {count}", "HEIGHT 1"]
    header += ["VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {count}", f"DATA {coding}"]
    rows = [" ".join(f"{value:.9g}" for value in row) for row in table.tolist()]
    body = table.tobytes() if coding != "ascii" else ("\n".join(rows) + "\n").encode()
    path.write_bytes(("\n".join(header) + "\n").encode() + body)


@pytest.fixture
def benchmark(tiny_capture: Path, tmp_path: Path) -> tuple[Path, Rig]:
    """A participant of the benchmark, all of its clouds downloaded; one calibrated camera recorded nothing."""
    rig = read_rig_of(open_capture(tiny_capture), 1.0)
    folder = tmp_path / "388"
    images = folder / "sequences" / SEQUENCE / "images"
    shutil.copytree(tiny_capture / "sequences" / SEQUENCE / "images", images)
    poses = {camera.name: camera.camera_from_world.tolist() for camera in rig.cameras}
    lenses = {camera.name: camera.intrinsics.tolist() for camera in rig.cameras}
    poses[HELD_OUT], lenses[HELD_OUT] = poses[rig.names[0]], lenses[rig.names[0]]
    (folder / "calibration").mkdir()
    content = {"world_2_cam": poses, "intrinsics": lenses}
    (folder / "calibration/camera_params.json").write_text(json.dumps(content))
    for camera in rig.cameras:
        mask = av.VideoFrame.from_ndarray(np.repeat(disc((camera.width, camera.height))[..., None], 3, 2), "rgb24")
        maps = folder / "sequences" / SEQUENCE / "alpha_maps" / f"cam_{camera.name}.mp4"
        encode(maps, [mask.reformat(format="yuv420p") for _ in range(FRAMES)])
    return folder, rig


def cloud_before(rig: Rig) -> np.ndarray:
    """Points (n, 3) round where all cameras look, and one far beside it."""
    axes = np.stack([camera.camera_from_world[2, :3] for camera in rig.cameras]).mean(0)
    middle = np.mean([camera.centre for camera in rig.cameras], 0) + axes
    grid = np.stack(np.meshgrid(*3 * [np.linspace(-0.01, 0.01, 5)]), -1).reshape(-1, 3)
    return np.concatenate([middle + grid, middle[None] + 5]).astype(np.float32)


def test_the_benchmark_brings_alpha_and_clouds(benchmark: tuple[Path, Rig], tmp_path: Path) -> None:
    """From its folder to a chunk of clouds by the stages themselves, nothing matched and nothing matted."""
    folder, rig = benchmark
    points = cloud_before(rig)
    for frame in range(FRAMES):
        write_pcd(folder / "sequences" / SEQUENCE / "pointclouds" / f"frame_{frame:05d}.pcd", points, "binary")
    table = tmp_path / "captures.tsv"
    table.write_text(f"subject\tsequence\tfolder\tframes\n388\t{SEQUENCE}\t{folder}\t{FRAMES}\n")
    plan = Plan(read_table(table), 1, FRAMES, [], [])
    assert plan.capture("388").kind == "nersemble_benchmark"
    assert plan.left_out("388") == {HELD_OUT: SEQUENCE}
    own = plan.clouds("388", SEQUENCE, plan.spans("388", SEQUENCE)[0])
    assert [path.name for path in own] == ["frame_00000.pcd", "frame_00001.pcd", "frame_00002.pcd"]

    cameras, frames, clouds = (tmp_path / name for name in ("cameras.json", "frames.zarr.zip", "clouds.zarr.zip"))
    write_rig(cameras, read_rig_of(open_capture(folder), 1.0, rig.names))
    span = ["--subject", "388", "--sequence", SEQUENCE, "--start", 0, "--stop", FRAMES, "--cameras", cameras]
    stage("ingest", *span, "--capture", folder, "--frames", FRAMES, "--output", frames)
    alpha = read_arrays(frames, "alpha")[0]
    assert np.abs(alpha[1, 2].astype(int) - disc(alpha.shape[:1:-1])).mean() < 1
    stage("pointcloud", *span, "--frames", frames, "--given", *own, "--prior", WEIGHTS, "--output", clouds)
    found, normals, colors, offsets = read_arrays(clouds, "points", "normals", "colors", "offsets")
    assert offsets.tolist() == [0, 125, 250, 375]
    np.testing.assert_array_equal(found[125:250], points[:-1])
    assert (normals == [0, 0, -1]).all()
    assert (colors == [255, 128, 32]).all()


def stage(name: str, *arguments: object) -> None:
    """Run a stage."""
    in_process.run_well(f"stages.{name}", *arguments)


def test_clouds_are_matched_where_one_was_not_downloaded(benchmark: tuple[Path, Rig], tmp_path: Path) -> None:
    """The default download has the first frame's only."""
    folder, rig = benchmark
    write_pcd(folder / "sequences" / SEQUENCE / "pointclouds/frame_00000.pcd", cloud_before(rig), "binary")
    table = tmp_path / "captures.tsv"
    table.write_text(f"subject\tsequence\tfolder\tframes\n388\t{SEQUENCE}\t{folder}\t{FRAMES}\n")
    plan = Plan(read_table(table), 1, 1, [], [])
    assert [len(plan.clouds("388", SEQUENCE, span)) for span in plan.spans("388", SEQUENCE)] == [1, 0, 0]


def test_pcd_files_of_both_codings_are_alike(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    for coding in ("ascii", "binary"):
        write_pcd(tmp_path / coding, points, coding)
    ascii_, binary = (read_pcd(tmp_path / coding) for coding in ("ascii", "binary"))
    np.testing.assert_allclose(ascii_.points, binary.points, rtol=1e-6)
    np.testing.assert_array_equal(binary.points, points)
    np.testing.assert_array_equal(ascii_.colors, binary.colors)


FAULTS = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "expected a PCD file"),
    "compressed": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"DATA binary", b"DATA binary_compressed")),
        "DATA binary_compressed",
    ),
    "no PCD": (lambda path: path.write_bytes(b"ply\nformat"), "expected a PCD file"),
    "missing": (lambda path: path.unlink(), "no such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_cloud_is_one_line(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "frame_00000.pcd"
    write_pcd(path, np.zeros((20, 3), np.float32), "binary")
    spoil, message = FAULTS[fault]
    spoil(path)
    with pytest.raises(DataError, match=rf"frame_00000\.pcd.*{message}"):
        read_pcd(path)


def test_a_cloud_is_thinned_to_one_point_a_cell(benchmark: tuple[Path, Rig], tmp_path: Path) -> None:
    _, rig = benchmark
    middle = np.round(cloud_before(rig)[62] / CELL) * CELL + CELL / 2
    near = middle + np.random.default_rng(0).uniform(-0.4 * CELL, 0.4 * CELL, (100, 3))
    write_pcd(tmp_path / "dense.pcd", near.astype(np.float32), "binary")
    alpha = np.stack([disc((camera.width, camera.height)) for camera in rig.cameras])
    assert len(given_cloud(tmp_path / "dense.pcd", alpha, rig.cameras).points) == 1
    with pytest.raises(DataError, match="none of 1 points lies inside all silhouettes"):
        given_cloud(tmp_path / "dense.pcd", np.zeros_like(alpha), rig.cameras)


@pytest.fixture
def release(tiny_capture: Path, tmp_path: Path) -> tuple[Path, Rig]:
    """A person of the release: every third frame as a JPEG of half the calibrated size, whole alpha, colours."""
    rig = read_rig_of(open_capture(tiny_capture), 1.0)
    folder = tmp_path / "018"
    (folder / "calibration").mkdir(parents=True)
    order = rig.names[::-1]
    cameras = [rig.cameras[rig.index(name)] for name in order]
    vectors = [cv2.Rodrigues(camera.camera_from_world[:3, :3])[0].ravel().tolist() for camera in cameras]
    full = SHRUNK * cameras[0].intrinsics
    lens = {"fx": full[0, 0], "fy": full[1, 1], "cx": full[0, 2], "cy": full[1, 2]}
    found = {"rs": vectors, "ts": [c.camera_from_world[:3, 3].tolist() for c in cameras], "intrinsics": [lens]}
    (folder / "calibration/calibration_result.json").write_text(json.dumps({"params_result": found}))
    (folder / "calibration/config.json").write_text(json.dumps({"serials": order, "image_size": [2200, 3208]}))
    for camera in rig.cameras:
        for step, picture in enumerate(pictures_of(tiny_capture, SEQUENCE, camera.name)):
            frame = folder / f"sequences/{SEQUENCE}/timesteps/frame_{3 * step:05d}"
            for name in ("images-2x", "alpha_map"):
                (frame / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(frame / f"images-2x/cam_{camera.name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
            large = disc((camera.width, camera.height)).repeat(SHRUNK, 0).repeat(SHRUNK, 1)
            cv2.imwrite(str(frame / f"alpha_map/cam_{camera.name}.png"), large)
    tint = np.eye(4)
    tint[0, 1], tint[:3, 3] = 0.25, 0.1  # green gains a quarter of red; all gain a tenth
    annotations = folder / f"sequences/{SEQUENCE}/annotations/color_correction"
    annotations.mkdir(parents=True)
    np.save(annotations / f"{rig.names[1]}.npy", tint)
    return folder, rig


def test_the_release_has_the_cameras_alpha_and_colours_of_the_capture(
    release: tuple[Path, Rig], tiny_capture: Path
) -> None:
    folder, truth = release
    capture = open_capture(folder)
    assert (capture.kind, capture.sequences(), capture.frames(SEQUENCE)) == ("diffusion_avatars", [SEQUENCE], FRAMES)
    rig = read_rig_of(capture, 1.0)
    assert rig.names == truth.names
    for camera, true in zip(rig.cameras, truth.cameras, strict=True):
        np.testing.assert_allclose(camera.camera_from_world, true.camera_from_world, atol=1e-6)  # of the capture's own
        np.testing.assert_allclose(camera.intrinsics, true.intrinsics, atol=1e-9)
        assert (camera.width, camera.height) == (true.width, true.height)
    check_recording(capture, SEQUENCE, rig, FRAMES)
    found = {(t, c): (rgb, alpha) for t, c, rgb, alpha in read_span(capture, SEQUENCE, rig, range(FRAMES), (10, 30))}
    np.testing.assert_array_equal(found[2, 0][1], disc((rig.cameras[0].width, rig.cameras[0].height)))
    recorded = pictures_of(tiny_capture, SEQUENCE, rig.names[1])[1][..., ::-1].astype(float)
    corrected = recorded + 25.5 + 0.25 * recorded[..., :1] * [0, 1, 0]
    assert np.abs(found[1, 1][0] - np.clip(corrected, 0, 255)).mean() < 2
    plain = pictures_of(tiny_capture, SEQUENCE, rig.names[0])[1][..., ::-1].astype(float)
    assert np.abs(found[1, 0][0] - plain).mean() < 2
    assert capture.tints(SEQUENCE)[rig.names[1]] in capture.files(SEQUENCE)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_a_rodrigues_vector_is_opencvs(vector: list[float]) -> None:
    np.testing.assert_allclose(rotation(np.array(vector)), cv2.Rodrigues(np.array(vector))[0], atol=1e-9)


WRONG = {
    "a pose too few": ("calibration_result", lambda c: c["params_result"]["rs"].pop(), "4 poses; expected 5"),
    "no lens": ("calibration_result", lambda c: c["params_result"]["intrinsics"][0].pop("fx"), "expected fx, fy, cx"),
    "no result": ("calibration_result", lambda c: c.clear(), "no params_result"),
    "no serials": ("config", lambda c: c.clear(), "expected serials"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_calibration_of_the_release_is_one_line(release: tuple[Path, Rig], fault: str) -> None:
    name, change, message = WRONG[fault]
    edit(release[0] / f"calibration/{name}.json", change)
    with pytest.raises((ConfigError, DataError), match=rf"{name}\.json.*{message}"):
        read_rig_of(open_capture(release[0]), 1.0)


def test_a_wrong_colour_file_is_one_line(release: tuple[Path, Rig]) -> None:
    folder, rig = release
    path = folder / f"sequences/{SEQUENCE}/annotations/color_correction/{rig.names[0]}.npy"
    np.save(path, np.eye(3))
    capture = open_capture(folder)
    with pytest.raises(DataError, match=rf"{rig.names[0]}\.npy: shape \(3, 3\)"):
        next(read_span(capture, SEQUENCE, rig, range(FRAMES), (10, 30)))
