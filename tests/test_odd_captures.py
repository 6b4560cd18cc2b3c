"""Captures as people have them: what is read for what it is, and what is refused in one line, at the first command."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import numbers, open_capture
from pipeline.capture.formats.base import Film, Stills
from pipeline.capture.new import check_words, lines, look
from pipeline.capture.pictures.cover import check_alpha
from pipeline.capture.pictures.decode import cut_short, read_grey, read_source
from pipeline.capture.pictures.ingest import Developer
from pipeline.capture.pictures.video import probe
from pipeline.errors import DataError, PipelineError
from tests.other_captures import write_colmap, write_transforms
from tests.tiny_videos import decode_all

SEQUENCE = "EXP-5-mouth"


def edited(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def of_frames(change: Callable[[dict], object]) -> Callable[[dict], object]:
    return lambda content: [change(frame) for frame in content["frames"]]


@pytest.fixture(scope="module")
def made(tiny_capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny capture as transforms.json, COLMAP model, pictures and videos alone; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_transforms(tiny_capture, folder / "transforms", SEQUENCE)
    write_colmap(tiny_capture, folder / "colmap", SEQUENCE, "OPENCV", False)
    shutil.copytree(folder / "colmap/images", folder / "pictures/images")
    (folder / "films/videos").mkdir(parents=True)
    for video in (tiny_capture / "sequences" / SEQUENCE / "images").iterdir():
        shutil.copy(video, folder / "films/videos")
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of them that a test may change."""
    return lambda kind: Path(shutil.copytree(made / kind, tmp_path / kind))


def test_a_pose_that_scales_says_so() -> None:
    with pytest.raises(DataError, match=r"pose does not rotate: .*: it also scales by 1\.5"):
        numbers.pose(np.diag([1.5, 1.5, 1.5, 1]), "pose")
    with pytest.raises(DataError, match=r"3x3 part$"):
        numbers.pose(np.diag([1.5, 1, 1, 1]), "pose")


@pytest.mark.parametrize(("subject", "folder"), [("a/b", "x"), ("#1", "x"), (".me", "x"), ("me", "x{1}"), ("a~b", "x")])
def test_names_that_mean_something_else_are_refused(subject: str, folder: str) -> None:
    with pytest.raises(DataError, match=r"has a '[/#.{~]'"):
        check_words(subject, Path(folder))


def drop_ids(frame: dict, **more: object) -> None:
    for key in ("timestep_index", "camera_index", "camera_id"):
        frame.pop(key, None)
    frame.update(more)


WRONG_TRANSFORMS = {
    "two pictures at one time": (
        lambda c: c["frames"][0].update(timestep_index=1),
        "00000_00.png and 00001_00.png are both camera 220700191, time step 1; expected one picture",
    ),
    "a time that is none": (
        lambda c: c["frames"][0].update(timestep_index=None),
        "00000_00.png: timestep_index None; expected a number",
    ),
    "a lens that changes": (
        lambda c: c["frames"][1].update(fl_x=1500.0, fl_y=1500.0),
        "00001_00.png, camera 220700191 of sequence .* has another lens than .*00000_00.png.*1500 and 8",
    ),
    "a panorama": (lambda c: c.update(camera_model="EQUIRECTANGULAR"), "camera_model 'EQUIRECTANGULAR'; expected"),
    "coefficients of another lens": (
        lambda c: c.update(distortion_params=[0.1] * 12),
        r"distortion_params \[0.1.* is not read; expected a lens of k1",
    ),
    "a moving head before one camera": (
        lambda c: [drop_ids(f, exp_path=f"exp/{n}.txt") for n, f in enumerate(c["frames"])],
        "every picture has its own exp_path, as of one camera",
    ),
    "times without cameras": (
        lambda c: [drop_ids(f, time=n / 9) for n, f in enumerate(c["frames"])],
        "several time steps but no camera_index",
    ),
    "pictures on their side": (
        of_frames(lambda f: f.update(w=f["h"], h=f["w"], cx=f["cy"], cy=f["cx"])),
        "camera 220700191 recorded 256x384, and is calibrated for 384x256; expected one shape: turned by its EXIF",
    ),
    "cameras in one place": (
        of_frames(lambda f: [row.__setitem__(3, 0.0) for row in f["transform_matrix"][:3]]),
        "all cameras stand at",
    ),
}


@pytest.mark.parametrize("case", WRONG_TRANSFORMS)
def test_a_wrong_transforms_file_is_refused_at_once(own: Callable[[str], Path], case: str) -> None:
    change, message = WRONG_TRANSFORMS[case]
    folder = own("transforms")
    edited(folder / SEQUENCE / "transforms.json", change)
    with pytest.raises(PipelineError, match=message):
        look(folder, "me")


def test_a_transforms_file_of_windows_is_read(own: Callable[[str], Path]) -> None:
    """A byte order mark, backslashes, no endings, dots in names, JPEG in capitals, times for time steps."""
    folder = own("transforms") / SEQUENCE

    def rename(frame: dict) -> None:
        path = folder / frame["file_path"]
        Image.open(path).save(folder / "images" / f"frame.{path.stem}.JPG", quality=98)
        frame.update(file_path=f"images\\frame.{path.stem}", time=0.5 * frame.pop("timestep_index"))
        frame["file_path"] += ".JPG" if frame["camera_index"] else ""
        frame["fg_mask_path"] = ".\\" + frame["fg_mask_path"]

    edited(folder / "transforms.json", of_frames(rename))
    for path in (folder / "images").glob("*.JPG"):
        if path.stem.endswith("_00"):
            path.rename(path.with_suffix(".jpg"))
    (folder / "transforms.json").write_bytes(b"\xef\xbb\xbf" + (folder / "transforms.json").read_bytes())
    found = look(folder, "me")
    assert (found.counts, len(found.names)) == ({"all": 3}, 5)
    assert [path.name for path in open_capture(folder).pictures("all")["220700191"].files()] == [
        f"frame.0000{step}_00.jpg" for step in range(3)
    ]


def test_a_frame_that_two_files_list_is_one(own: Callable[[str], Path]) -> None:
    folder = own("transforms") / SEQUENCE
    content = (folder / "transforms.json").read_text()
    (folder / "transforms.json").unlink()
    for name in ("train", "val"):
        (folder / f"transforms_{name}.json").write_text(content)
    assert look(folder, "me").counts == {"all": 3}


def test_steps_that_a_camera_lacks_are_one_line(own: Callable[[str], Path]) -> None:
    folder = own("transforms")
    edited(
        folder / SEQUENCE / "transforms.json",
        lambda c: c.update(frames=[f for f in c["frames"] if f["camera_index"] or not f["timestep_index"]]),
    )
    assert open_capture(folder).unused(SEQUENCE) == ["time step 1, 2 of 3, which camera 220700191 lacks"]


def test_pictures_of_half_the_calibrated_size_scale_their_camera(
    own: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = own("transforms")
    whole = read_rig_of(open_capture(folder), 1.0).cameras[0]
    for path in (folder / SEQUENCE / "images").iterdir():
        Image.open(path).resize((128, 192)).save(path)
    half = read_rig_of(open_capture(folder), 1.0).cameras[0]
    assert (half.width, half.height) == (128, 192)
    np.testing.assert_allclose(half.intrinsics[:2] * 2, whole.intrinsics[:2])
    assert "5 cameras are calibrated for other sizes than their pictures have, as 220700191 for 256x384" in caplog.text


def test_a_picture_of_another_shape_within_a_series_is_refused(made: Path) -> None:
    camera = read_rig_of(open_capture(made / "transforms"), 0.5).cameras[0]
    with pytest.raises(DataError, match="384x256; expected the shape of 128x192"):
        Developer(camera).shape(np.zeros((256, 384, 3), np.uint8))
    assert Developer(camera).shape(np.zeros((192, 128), np.uint8)).shape == (192, 128)


def test_transforms_come_before_the_model_that_they_were_made_of(own: Callable[[str], Path], made: Path) -> None:
    folder = own("transforms") / SEQUENCE
    shutil.copytree(made / "colmap/sparse", folder / "colmap/sparse")
    found = look(folder, "me")
    assert found.capture.kind == "transforms"
    assert any("colmap: not read; cameras and masks come from" in line for line in lines(found))


def disc(value: int, kind: type = np.uint8) -> np.ndarray:
    return cv2.circle(np.zeros((48, 32), kind), (16, 26), 11, value, -1)


MASKS = {
    "labels 0 and 1": disc(1),
    "16 bits": disc(65535, np.uint16),
    "16 bits, labels": disc(1, np.uint16),
    "two colours": np.dstack([disc(0), disc(0), disc(128)]),
    "an opaque alpha channel": np.dstack([disc(255)] * 3 + [np.full((48, 32), 255, np.uint8)]),
    "its alpha": np.dstack([np.full((48, 32, 3), 77, np.uint8), disc(255)]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_read_however_it_is_coded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), MASKS[kind])
    np.testing.assert_array_equal(read_grey(path, "a mask"), disc(255))


def test_a_floating_point_mask_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    cv2.imwrite(str(path), disc(1).astype(np.float32) * 0.5)
    np.testing.assert_array_equal(read_grey(path, "a mask"), disc(255))


def test_soft_masks_stay_soft_and_a_photograph_s_opaque_alpha_stays_its_mask(tmp_path: Path) -> None:
    soft = cv2.GaussianBlur(disc(255), (0, 0), 3) // 2
    cv2.imwrite(str(tmp_path / "soft.png"), soft)
    np.testing.assert_array_equal(read_grey(tmp_path / "soft.png", "a mask"), soft)
    colours = np.random.default_rng(0).integers(0, 255, (48, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), np.dstack([colours, np.full((48, 32), 255, np.uint8)]))
    assert read_grey(tmp_path / "photo.png", "a mask").min() == 255


WRONG_MASKS = {
    "labels": (disc(12), "the mask's values end at 12; expected the person in it, 255 where it surely is"),
    "the background": (255 - disc(255), "covers most of every border.*is it the other way round"),
    "the background, bust cut by the lower edge": (
        cv2.rectangle(255 - disc(255), (3, 26), (29, 48), 0, -1),
        "of the borders .* of the middle; expected the person, not the background",
    ),
}


@pytest.mark.parametrize("kind", WRONG_MASKS)
def test_a_mask_of_no_person_is_refused(kind: str) -> None:
    mask, message = WRONG_MASKS[kind]
    with pytest.raises(DataError, match=message):
        check_alpha(mask, True)


def test_masks_are_looked_at_before_anything_runs(own: Callable[[str], Path]) -> None:
    folder = own("transforms")
    path = folder / SEQUENCE / "mask_00000_03.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path), 0))
    with pytest.raises(DataError, match=r"mask_00000_03.png: camera 222200048: the alpha covers most"):
        look(folder, "me")


def test_a_jpeg_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture, thumb = (rng.integers(0, 255, (size, size, 3), np.uint8) for size in (64, 16))
    for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]):
        content, small = (cv2.imencode(".jpg", p, options)[1].tobytes() for p in (picture, thumb))
        whole = content[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2) + small + content[2:] + b"trailer \xff\xda"
        assert not cut_short(whole)
        assert cut_short(whole[: len(whole) // 2])
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a.jpg: the JPEG is cut short at \d+ bytes"):
        next(read_source(Stills((tmp_path / "a.jpg",)), range(1)))


def cameras_of(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


def as_heic(folder: Path) -> None:
    for path in cameras_of(folder)[1].iterdir():
        path.rename(path.with_suffix(".HEIC"))


def with_a_gap(folder: Path) -> None:
    (cameras_of(folder)[2] / "001.png").rename(cameras_of(folder)[2] / "003.png")


def twice(folder: Path) -> None:
    shutil.copy(cameras_of(folder)[0] / "001.png", cameras_of(folder)[0] / "001.bmp")


def with_films(folder: Path) -> None:
    shutil.copy(cameras_of(folder)[0] / "001.png", cameras_of(folder)[0] / "001.mov")


def with_other_masks(folder: Path) -> None:
    for camera in cameras_of(folder):
        shutil.copytree(camera, folder / "masks" / f"of {camera.name}")


def with_a_mask_too_few(folder: Path) -> None:
    shutil.copytree(folder / "images", folder / "masks")
    (folder / "masks/222200044/001.png").rename(folder / "masks/222200044/007.png")


def numbered_from(start: int) -> Callable[[Path], None]:
    """Number the pictures of one camera from another number than the others'."""

    def starts_late(folder: Path) -> None:
        for path in sorted(cameras_of(folder)[1].iterdir(), reverse=True):
            path.rename(path.with_stem(f"{int(path.stem) + start:03d}"))

    return starts_late


def by_moments(folder: Path) -> None:
    for camera in cameras_of(folder):
        for path in camera.iterdir():
            (folder / "turned" / f"frame_{path.stem}").mkdir(parents=True, exist_ok=True)
            path.rename(folder / "turned" / f"frame_{path.stem}" / f"{camera.name}.png")
    shutil.rmtree(folder / "images")
    (folder / "turned").rename(folder / "images")


WRONG_FOLDERS = {
    by_moments: "the folders frame_000, frame_001 ... are named as moments",
    as_heic: r"000.HEIC: HEIC pictures are not read \(3 here\); expected JPEG or PNG",
    with_a_gap: "camera 222200044: 002.png comes after 000.png; expected numbers that go on by 1, as those of camera",
    numbered_from(2): r"camera 222200037: its pictures are numbered from 2, those of camera 220700191 from 0; expected",
    twice: "001.bmp and 001.png have one name",
    with_films: "001.mov is a video and 000.png a picture",
    with_other_masks: "masks: has of 220700191.*; expected masks of 220700191",
    with_a_mask_too_few: "camera 222200044 has 3 masks, none of 001 and 3 pictures",
}


@pytest.mark.parametrize("change", WRONG_FOLDERS, ids=lambda change: change.__name__)
def test_a_folder_that_cannot_be_told_is_refused(own: Callable[[str], Path], change: Callable[[Path], None]) -> None:
    folder = own("pictures")
    change(folder)
    with pytest.raises(PipelineError, match=WRONG_FOLDERS[change]):
        look(folder, "me")


def test_a_camera_that_counts_by_itself_is_said(own: Callable[[str], Path]) -> None:
    folder = own("pictures")
    assert not look(folder, "me").capture.ignored()
    numbered_from(100)(folder)
    found = look(folder, "me")
    assert any(line.startswith("camera 222200037: its pictures are numbered from 100") for line in lines(found))


def test_frames_go_by_number_and_hidden_files_are_none(own: Callable[[str], Path]) -> None:
    folder = own("pictures")
    for camera in cameras_of(folder):
        for path, number in zip(sorted(camera.iterdir()), (1, 2, 10), strict=True):
            path.rename(camera / f"frame_{number}.png")
        (camera / "._frame_1.png").write_bytes(b"\0\5\x16\7")
        (camera / "frame_1.CR2").write_bytes(b"raw")  # beside what was made of it
    names = [path.name for path in open_capture(folder).pictures("all")["222200044"].files()]
    assert names == ["frame_1.png", "frame_2.png", "frame_10.png"]


@pytest.mark.parametrize("named", ["{}.png", "{}_mask", "mask_{}", "beside"])
def test_masks_by_other_names(own: Callable[[str], Path], named: str) -> None:
    folder = own("pictures")
    for camera in cameras_of(folder):
        for path in sorted(camera.iterdir()):
            mask = cv2.circle(np.zeros(cv2.imread(str(path)).shape[:2], np.uint8), (60, 90), 40, 255, -1)
            target = camera / f"{path.stem}_mask.png"
            if named != "beside":
                target = folder / "masks" / camera.name / f"{named.format(path.stem)}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), mask)
    found = look(folder, "me")
    assert found.counts == {"all": 3}
    assert len(found.capture.masks("all")) == 5


def test_cameras_beside_their_masks(own: Callable[[str], Path]) -> None:
    folder = own("pictures")
    for camera in cameras_of(folder):
        shutil.copytree(camera, folder / "masks" / camera.name)
        camera.rename(folder / camera.name)
    (folder / "images").rmdir()
    (folder / "cameras.xml").touch()
    capture = open_capture(folder)
    assert (capture.sequences(), len(capture.cameras()), len(capture.masks("all"))) == (["all"], 5, 5)
    assert capture.ignored() == [f"{folder}/cameras.xml: not read; see docs/captures for what is"]


def test_the_largest_of_several_models_is_taken(own: Callable[[str], Path]) -> None:
    folder = own("colmap")
    model = pycolmap.Reconstruction(str(folder / "sparse/0"))
    (folder / "sparse/0").rename(folder / "sparse/1")
    for number in (3, 4, 5):
        model.deregister_frame(model.image(number).frame_id)
    (folder / "sparse/0").mkdir()
    model.write_text(str(folder / "sparse/0"))
    found = look(folder, "me")
    assert len(found.names) == 5
    assert f"{folder}/sparse/0: not read (2 images); {folder}/sparse/1 has 5" in lines(found)


def test_half_a_model_is_refused(own: Callable[[str], Path]) -> None:
    folder = own("colmap")
    (folder / "sparse/0/cameras.txt").rename(folder / "sparse/0/cameras.bin")
    with pytest.raises(
        DataError, match=r"sparse/0: has cameras\.bin, images\.txt, points3D\.txt; expected .* all \.bin or"
    ):
        look(folder, "me")


def test_a_text_model_without_lines_of_points_is_refused(own: Callable[[str], Path]) -> None:
    path = own("colmap") / "sparse/0/images.txt"
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if line))
    with pytest.raises(DataError, match=r"images\.txt: not the images of a COLMAP model .expected an image's points"):
        look(path.parents[2], "me")


def test_a_model_of_panoramas_is_refused(own: Callable[[str], Path]) -> None:
    path = own("colmap") / "sparse/0/cameras.txt"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("3 ")]
    path.write_text("\n".join([*kept, "3 EQUIRECTANGULAR 256 384 256 384", ""]))
    with pytest.raises(DataError, match=r"image 222200044\.png: camera model EQUIRECTANGULAR; expected one of persp"):
        look(path.parents[2], "me")


def recoded(path: Path, rate: int = 24, pixels: str = "yuv420p", turned: int = 0, **codec: object) -> None:
    """Write a video anew, with other properties of its stream."""
    frames = decode_all(path)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=codec.pop("options", {"qp": "0"}))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pixels
        stream.set_display_rotation(turned)
        for name, value in codec.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, rate), 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def film(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(next((made / "films/videos").iterdir()), tmp_path / "film.mp4"))


@pytest.mark.parametrize("turned", [90, -90, 180])
def test_a_video_is_turned_as_it_is_shown(film: Path, turned: int) -> None:
    before = list(read_source(Film(film), range(3)))
    recoded(film, turned=turned)
    after, info = [*read_source(Film(film), range(2)), *read_source(Film(film), range(2, 3))], probe(film)
    assert (info.height, info.width) == after[0].shape[:2]
    # the angle is counted against the clock
    np.testing.assert_array_equal(after, [np.rot90(picture, turned // 90) for picture in before])


UNFIT = {
    "HDR": ({"pixels": "yuv420p10le", "color_trc": 18}, r"film.mp4: HDR \(HLG\).*expected SDR: ffmpeg"),
    "interlaced": ({"options": {"flags": "+ildct+ilme"}}, "film.mp4: interlaced"),
    "wide pixels": ({"sample_aspect_ratio": Fraction(4, 3)}, "pixels 1.33 times as wide as high"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_video_of_no_plain_pictures_is_refused(film: Path, kind: str) -> None:
    options, message = UNFIT[kind]
    recoded(film, **options)
    with pytest.raises(DataError, match=message):
        probe(film)


def test_ten_bits_alone_are_read(film: Path) -> None:
    before = next(read_source(Film(film), range(1))).astype(int)
    recoded(film, pixels="yuv420p10le")
    assert np.abs(next(read_source(Film(film), range(1))) - before).mean() < 1


def test_a_camera_of_another_rate_is_named(own: Callable[[str], Path]) -> None:
    folder = own("films")
    recoded(folder / "videos/cam_222200044.mp4", rate=12)
    with pytest.raises(DataError, match=r"the 3 frames of camera cam_222200044 last 0\.16.* expected 0\.08"):
        look(folder, "me")


def test_one_video_says_what_to_do_with_it(own: Callable[[str], Path]) -> None:
    folder = own("films")
    for path in sorted((folder / "videos").iterdir())[1:]:
        path.unlink()
    with pytest.raises(
        DataError, match=r"one video; .* ffmpeg -i cam_220700191.mp4 -vf fps=2 images/%03d.jpg: 1 cameras"
    ):
        look(folder, "me")


def test_the_sequence_that_lacks_cameras_is_named(own_capture: Path) -> None:
    for path in sorted((own_capture / "sequences/EXP-2-eyes/images").iterdir())[2:]:
        path.unlink()
    with pytest.raises(DataError, match="sequence EXP-2-eyes has 2 of 5 cameras: leave it out"):
        look(own_capture, "me")
