"""Captures of other people's tools: transforms.json, COLMAP models, no cameras at all; lenses, sizes, masks."""

import json
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cameras.camera import Camera, Lens
from pipeline.cameras.distortion import Straightener, bent, without_lens
from pipeline.cameras.rig import Rig, read_rig, write_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.pictures.ingest import check_recording, read_span
from pipeline.errors import ConfigError, DataError
from tests.other_captures import write_colmap, write_transforms

SEQUENCE = "EXP-5-mouth"


def middle(picture: np.ndarray) -> np.ndarray:
    """A person in the middle half of a picture."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.float32)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return mask


def span(capture, rig, frames=3):
    """Pictures and alpha of a whole sequence as ingest reads them."""
    sequence = capture.sequences()[0]
    check_recording(capture, sequence, rig, frames)
    rgb = np.zeros((frames, *rig.padded_shape, 3), np.uint8)
    alpha = np.zeros((frames, *rig.padded_shape), np.uint8)
    everywhere = read_span(capture, sequence, rig, range(frames), (10, 30), middle)
    for t, c, picture, cover in everywhere:
        rgb[t, c], alpha[t, c] = rig.padded(picture), rig.padded(cover)
    return rgb, alpha


def test_transforms_has_the_cameras_and_masks_of_the_capture(tiny_capture: Path, tmp_path: Path) -> None:
    truth = write_transforms(tiny_capture, tmp_path, SEQUENCE)
    capture = open_capture(tmp_path)
    assert (capture.kind, capture.sequences(), capture.frames(SEQUENCE)) == ("transforms", [SEQUENCE], 3)
    rig = read_rig_of(capture, 1.0)
    for camera, true in zip(rig.cameras, truth.cameras, strict=True):
        assert camera.name == true.name
        np.testing.assert_allclose(camera.camera_from_world, true.camera_from_world, atol=1e-12)
        np.testing.assert_allclose(camera.intrinsics, true.intrinsics)
    _, alpha = span(capture, rig)
    assert alpha[2, 4, 180, 128] == 255
    assert alpha[2, 4, 10, 10] == 0
    assert abs((alpha[0, 0] > 127).sum() - np.pi * 90**2) < 300


@pytest.mark.parametrize(("size", "factor", "axis"), [((256, 256), "1.500", "y"), ((192, 384), "0.750", "x")])
def test_pictures_that_were_squashed_are_stretched(
    tiny_capture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, size: tuple[int, int], factor: str, axis: str
) -> None:
    """Made square of 256x384, as those who edit scenes do, or narrower; the focal lengths tell."""
    truth = write_transforms(tiny_capture, tmp_path, SEQUENCE)
    cover = span(open_capture(tmp_path), truth)[1]
    share = min(size[0] / 256, size[1] / 384)

    def squash(content: dict) -> None:
        for frame in content["frames"]:
            frame |= {name: share * frame[name] for name in (f"fl_{axis}", f"c{axis}")}
            frame |= {"w": size[0], "h": size[1]}
            for name in ("file_path", "fg_mask_path"):
                path = str(tmp_path / SEQUENCE / frame[name])
                picture = cv2.imread(path, cv2.IMREAD_UNCHANGED)
                cv2.imwrite(path, cv2.resize(picture, size, interpolation=cv2.INTER_AREA))

    edited(tmp_path / SEQUENCE / "transforms.json", squash)
    capture = open_capture(tmp_path)
    rig = read_rig_of(capture, 1.0)
    assert f"as 220700191 by a factor of {factor}, so their pictures were squashed: {size[0]}x{size[1]}" in caplog.text
    for camera, true in zip(rig.cameras, truth.cameras, strict=True):
        assert (camera.width, camera.height) == (256, 384)
        np.testing.assert_allclose(camera.intrinsics, true.intrinsics)
    alpha = span(capture, rig)[1]
    assert ((alpha > 127) == (cover > 127)).mean() > 0.995


def read_all(folder: Path) -> None:
    """Everything that calibrate and ingest read."""
    capture = open_capture(folder)
    span(capture, read_rig_of(capture, 1.0))


def edited(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


FAULTS = {
    "a camera that moves": (
        lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(3, 9.0),
        DataError,
        r"00001_00.png, camera 220700191 .* has moved since .*00000_00.png",
    ),
    "a pose that is none": (
        lambda c: c["frames"][0]["transform_matrix"][0].__setitem__(0, 3.0),
        DataError,
        "00000_00.png, camera 220700191: transform_matrix does not rotate",
    ),
    "no focal length": (lambda c: c["frames"][0].pop("fl_x"), DataError, "camera 220700191: KeyError.*expected fl_x"),
    "a mask too few": (lambda c: c["frames"][0].pop("fg_mask_path"), ConfigError, "00000_00.png has no mask"),
    "a fisheye's k4": (lambda c: c.update(k1=0.1, k4=0.2), DataError, "k4 0.2 of a camera that is no fisheye"),
    "no pose": (lambda c: c["frames"][0].pop("transform_matrix"), ConfigError, "some without picture or pose"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_transforms_file_is_one_line(tiny_capture: Path, tmp_path: Path, fault: str) -> None:
    change, kind, message = FAULTS[fault]
    write_transforms(tiny_capture, tmp_path, SEQUENCE)
    edited(tmp_path / SEQUENCE / "transforms.json", change)
    with pytest.raises(kind, match=message):
        read_all(tmp_path)


def test_photographs_without_cameras_ids_are_a_camera_each(tiny_capture: Path, tmp_path: Path) -> None:
    """As nerfstudio writes it: shared intrinsics with a lens, one moment, no index at all."""
    write_transforms(tiny_capture, tmp_path, SEQUENCE, fl_x=800, cx=128, cy=192, w=256, h=384, k1=-0.1, p1=1e-3)

    def strip(content: dict) -> None:
        content["frames"] = [{k: f[k] for k in ("file_path", "transform_matrix")} for f in content["frames"][::3]]

    edited(tmp_path / SEQUENCE / "transforms.json", strip)
    capture = open_capture(tmp_path / SEQUENCE)
    assert capture.cameras() == [f"00000_{index:02d}" for index in range(5)]
    assert (capture.sequences(), capture.frames("all")) == (["all"], 1)
    lens = read_rig_of(capture, 0.5).cameras[0].lens
    assert lens == Lens("OPENCV", 256, 384, (800, 800, 128, 192, -0.1, 0, 1e-3, 0))


@pytest.mark.parametrize(("model", "binary"), [("OPENCV", False), ("SIMPLE_RADIAL", True)])
def test_colmap_with_a_lens_and_a_smaller_camera(tiny_capture: Path, tmp_path: Path, model: str, binary: bool) -> None:
    truth = write_colmap(tiny_capture, tmp_path, SEQUENCE, model, binary)
    capture = open_capture(tmp_path)
    assert (capture.kind, capture.metric, capture.frames("all")) == ("colmap", False, 3)
    rig = read_rig_of(capture, 1.0)
    assert [(c.width, c.height) for c in rig.cameras][:2] == [(256, 384), (128, 192)]
    np.testing.assert_allclose(rig.cameras[3].camera_from_world, truth.cameras[3].camera_from_world, atol=1e-7)
    write_rig(tmp_path / "cameras.json", rig)
    assert read_rig(tmp_path / "cameras.json").cameras[1].lens == rig.cameras[1].lens
    rgb, alpha = span(capture, rig)
    assert rgb.shape == (3, *rig.padded_shape, 3) == (3, 5, 384, 256, 3)
    small = rig.cameras[1]
    assert small.own(rgb[0, 1]).shape == (192, 128, 3)
    assert small.own(rgb[0, 1]).mean() > 50
    assert (alpha[:, 1] > 0).sum() == sum((small.own(one) > 0).sum() for one in alpha[:, 1])  # nothing beyond its own
    assert small.own(alpha[0, 1])[96, 64] == 255


def test_cameras_that_a_colmap_model_lacks_are_named(tiny_capture: Path, tmp_path: Path) -> None:
    write_colmap(tiny_capture, tmp_path, SEQUENCE, "OPENCV", True)
    (tmp_path / "images/222200037").rename(tmp_path / "images/another")
    capture = open_capture(tmp_path)
    assert "222200037" not in read_rig_of(capture, 1.0).names
    assert list(capture.pictures("all")) == read_rig_of(capture, 1.0).names
    assert capture.unused("all") == ["another, which the model does not place"]
    for number, folder in enumerate(sorted((tmp_path / "images").iterdir())):
        folder.rename(tmp_path / f"images/{number}")
    with pytest.raises(DataError, match=r"no image of camera 0, 1, 2, 3, 4; the model has 2207"):
        read_rig_of(open_capture(tmp_path), 1.0)


@pytest.mark.parametrize("binary", [False, True])
def test_names_in_a_colmap_model_may_hold_spaces(tiny_capture: Path, tmp_path: Path, binary: bool) -> None:
    truth = write_colmap(tiny_capture, tmp_path, SEQUENCE, "SIMPLE_RADIAL", False)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("222200037.png", "Kamera 2 süd/000.png"))
    (tmp_path / "images/222200037").rename(tmp_path / "images/Kamera 2 süd")
    if binary:
        model = pycolmap.Reconstruction(str(tmp_path / "sparse/0"))
        path.unlink()
        model.image(2).name = "Kamera 2 süd/000.png"
        model.write_binary(str(tmp_path / "sparse/0"))
    rig = read_rig_of(open_capture(tmp_path), 1.0)
    camera = rig.cameras[rig.index("Kamera 2 süd")]
    np.testing.assert_allclose(camera.camera_from_world, truth.cameras[1].camera_from_world, atol=1e-7)


def test_a_field_of_view_alone_is_a_focal_length_for_the_picture_s_own_size(tiny_capture: Path, tmp_path: Path) -> None:
    """As renderers of synthetic data sets write it: no size, no endings, RGBA."""
    write_transforms(tiny_capture, tmp_path, SEQUENCE, camera_angle_x=0.3)
    keys = ("file_path", "transform_matrix")

    def strip(content: dict) -> None:
        content["frames"] = [{key: f[key].removesuffix(".png") if key == "file_path" else f[key] for key in keys}
                             for f in content["frames"][::3]]  # fmt: skip

    edited(tmp_path / SEQUENCE / "transforms.json", strip)
    camera = read_rig_of(open_capture(tmp_path / SEQUENCE), 1.0).cameras[0]
    np.testing.assert_allclose(
        camera.intrinsics, [[128 / np.tan(0.15), 0, 128], [0, 128 / np.tan(0.15), 192], [0, 0, 1]]
    )


def test_the_pictures_own_alpha_is_their_mask_unless_it_is_opaque(tmp_path: Path) -> None:
    for name, alpha in (("clear", 0), ("opaque", 255)):
        (tmp_path / name).mkdir()
        picture = np.full((8, 8, 4), 255, np.uint8)
        picture[:2, :, 3] = alpha
        for number in range(3):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), picture)
    assert list(open_capture(tmp_path / "clear").masks("all")) == ["0", "1", "2"]
    assert open_capture(tmp_path / "opaque").masks("all") == {}


def test_time_steps_that_a_camera_lacks_are_named(tiny_capture: Path, tmp_path: Path) -> None:
    write_transforms(tiny_capture, tmp_path, SEQUENCE)
    edited(tmp_path / SEQUENCE / "transforms.json", lambda content: content["frames"].pop(1))
    capture = open_capture(tmp_path)
    assert (capture.frames(SEQUENCE), capture.unused(SEQUENCE)) == (
        2,
        ["time step 1 of 3, which camera 220700191 lacks"],
    )


def test_recordings_without_cameras_are_recognised_last(tiny_capture: Path, tmp_path: Path) -> None:
    write_colmap(tiny_capture, tmp_path, SEQUENCE, "OPENCV", True)
    assert open_capture(tmp_path).kind == "colmap"
    (tmp_path / "sparse").rename(tmp_path / "elsewhere")
    capture = open_capture(tmp_path)
    assert (capture.kind, capture.posed, len(capture.cameras())) == ("unposed", False, 5)


MODELS = {
    "SIMPLE_RADIAL": (300, 80, 60, -0.1),
    "RADIAL": (300, 80, 60, -0.1, 0.05),
    "OPENCV": (300, 310, 80, 60, 0.15, -0.05, 0.002, -0.003),
    "FULL_OPENCV": (300, 310, 80, 60, -0.1, 0.05, 0.001, 0.002, 0.01, 0, 0, 0),
    "OPENCV_FISHEYE": (300, 310, 80, 60, 0.05, 0.01, 0, 0),
    "FOV": (300, 310, 80, 60, 0.3),
    "THIN_PRISM_FISHEYE": (300, 310, 80, 60, 0.05, 0.01, 0.001, 0.002, 0, 0, 0.001, 0.001),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_straightened_picture_is_what_a_pinhole_camera_sees(model: str) -> None:
    """A pattern in the world, drawn through the lens and without: slow reference for every model."""
    lens = Lens(model, 160, 120, tuple(map(float, MODELS[model])))
    camera = without_lens(Camera("a", 160, 120, np.eye(3), np.eye(4), np.eye(3), lens))
    pinhole = camera.rays().reshape(-1, 3)

    def pattern(rays: np.ndarray) -> np.ndarray:
        x, y = rays[:, 0] / rays[:, 2], rays[:, 1] / rays[:, 2]
        return np.rint(127 + 60 * np.sin(40 * x) + 60 * np.cos(35 * y)).astype(np.uint8)

    # the recorded picture: each of its pixels shows the ray whose bent place it is, found on a fine grid
    fine = Camera("b", 640, 480, np.diag([4.0, 4, 1]) @ camera.intrinsics * 1.0, np.eye(4), np.eye(3))
    wide = fine.crop(-160, -120, 1, 960, 720)
    rays = wide.rays().reshape(-1, 3)
    places = bent(lens, camera.intrinsics, (rays @ camera.intrinsics.T)[:, :2])
    total, number = np.zeros((120, 160)), np.zeros((120, 160))
    column, row = np.floor(places).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < 160) & (row < 120)
    np.add.at(total, (row[inside], column[inside]), pattern(rays)[inside])
    np.add.at(number, (row[inside], column[inside]), 1)
    assert number.min() > 0
    straight = Straightener(camera)((total / number).round().astype(np.uint8))
    error = straight.astype(float) - pattern(pinhole).reshape(120, 160)
    assert np.abs(error[2:-2, 2:-2]).mean() < 1.5
    assert np.abs(cv2.blur(error, (5, 5))).max() < 6


@given(k1=st.floats(-0.3, 0.3), k2=st.floats(-0.1, 0.1), shift=st.floats(-10, 10))
@settings(max_examples=25)
def test_a_straightened_picture_has_no_blank(k1: float, k2: float, shift: float) -> None:
    lens = Lens("RADIAL", 256, 384, (600.0, 128 + shift, 192 - shift, k1, k2))
    camera = without_lens(Camera("a", 256, 384, np.eye(3), np.eye(4), np.eye(3), lens))
    corners = np.array([[0.5, 0.5], [255.5, 0.5], [0.5, 383.5], [255.5, 383.5]])
    seen = bent(lens, camera.intrinsics, corners)
    assert ((seen >= 0) & (seen <= (256, 384))).all()


def test_a_lens_that_colmap_does_not_know_is_one_line() -> None:
    for lens, message in (
        (Lens("NOPE", 8, 8, (1.0,)), "expected one of COLMAP's"),
        (Lens("OPENCV", 8, 8, (1.0,)), "1 param"),
    ):
        with pytest.raises(DataError, match=message):
            without_lens(Camera("a", 8, 8, np.eye(3), np.eye(4), np.eye(3), lens))


def test_padded_pictures_of_a_rig_of_many_sizes() -> None:
    cameras = [Camera(str(n), *size, np.eye(3), np.eye(4), np.eye(3)) for n, size in enumerate(((4, 6), (5, 3)))]
    assert Rig(tuple(cameras)).padded_shape == (2, 6, 5)
    assert cameras[1].own(np.zeros((6, 5, 3))).shape == (3, 5, 3)
