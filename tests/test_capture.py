"""The library under ingest: frames by number, colour correction against colour-science, alpha against truth."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from colour.characterisation import apply_matrix_colour_correction_Cheung2004
from colour.models import eotf_inverse_sRGB, eotf_sRGB
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.nersemble import TERMS
from pipeline.capture.pictures.colour import correct_color
from pipeline.capture.pictures.decode import read_picture
from pipeline.capture.pictures.ingest import read_span
from pipeline.capture.pictures.matting import alpha_from_plate, solve_alpha
from pipeline.capture.pictures.video import probe, read_frames
from pipeline.errors import DataError
from tests.tiny_videos import decode_all, encode

ALPHA = Path(__file__).parent / "data" / "alpha"
LEVELS = (10.0, 30.0)
FRAMES = 40


@pytest.fixture(scope="module", params=["closed", "open"])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A film of moving noise with key frames every 8 frames and B-frames, and its frames decoded from the first."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (48, 64 + FRAMES, 3), np.uint8)
    pictures = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[:, n : n + 64]), format="rgb24").reformat(
            format="yuv420p"
        )
        for n in range(FRAMES)
    ]
    gop = "open-gop=1" if request.param == "open" else "open-gop=0"
    encode(path, pictures, qp="10", bf="3", g="8", **{"x264-params": f"{gop}:scenecut=0:b-adapt=0"})
    return path, np.stack([frame.to_ndarray(format="rgb24") for frame in decode_all(path)])


@given(start=st.integers(0, FRAMES - 1), length=st.integers(1, 12), stride=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_frame_does_not_depend_on_the_span(
    film: tuple[Path, np.ndarray], start: int, length: int, stride: int
) -> None:
    path, all_frames = film
    numbers = range(start, min(start + length * stride, FRAMES), stride)
    assert np.array_equal(np.stack(list(read_frames(path, numbers))), all_frames[list(numbers)])


def test_probe(film: tuple[Path, np.ndarray]) -> None:
    info = probe(film[0])
    assert (info.frames, info.width, info.height) == (FRAMES, 64, 48)


def test_frames_beyond_the_end(film: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(DataError, match=rf"ends before frame {FRAMES}"):
        list(read_frames(film[0], range(FRAMES - 2, FRAMES + 1)))


def test_uneven_times(film: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Frames are numbered in the order they are shown, whenever that is."""
    path = tmp_path / "uneven.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"bf": "0", "qp": "0", "g": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n, frame in enumerate(decode_all(film[0])[:10]):
            frame.pts, frame.time_base, frame.pict_type = n + 3 * (n > 5), Fraction(1, 24), 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    everything = [frame.to_ndarray(format="rgb24") for frame in decode_all(path)]
    assert probe(path).frames == 10
    for numbers in (range(10), range(7, 10), range(1, 9, 3)):
        for number, picture in zip(numbers, read_frames(path, numbers), strict=True):
            assert np.array_equal(picture, everything[number])


def test_a_container_whose_header_counts_no_frames(film: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24, options={"qp": "0", "g": "4", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n, frame in enumerate(decode_all(film[0])[:9]):
            frame.pts, frame.time_base, frame.pict_type = n, Fraction(1, 24), 0
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    everything = [frame.to_ndarray(format="rgb24") for frame in decode_all(path)]
    assert probe(path).frames == 9
    read = list(read_frames(path, range(5, 9)))
    assert len(read) == 4
    assert all(np.array_equal(a, b) for a, b in zip(read, everything[5:], strict=True))


def test_frames_that_an_edit_list_hides_have_no_number(film: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Cut without encoding anew: three frames lie before the beginning, and no player shows them."""
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24, options={"qp": "0", "g": "20", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for n, frame in enumerate(decode_all(film[0])[:10]):
            frame.pts, frame.time_base, frame.pict_type = n, Fraction(1, 24), 0
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode()]:
            early = round(3 / 24 / packet.time_base)
            packet.pts, packet.dts = packet.pts - early, packet.dts - early
            target.mux(packet)
    shown = [frame.to_ndarray(format="rgb24") for frame in decode_all(path)]
    assert len(shown) == probe(path).frames == 7
    read = list(read_frames(path, range(2, 7)))
    assert all(np.array_equal(a, b) for a, b in zip(read, shown[2:], strict=True))


def test_an_avi_is_refused(tmp_path: Path) -> None:
    """It does not keep when frames are shown: their numbers would be wrong."""
    with av.open(str(tmp_path / "a.avi"), "w") as target:
        stream = target.add_stream("mjpeg", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        target.mux(stream.encode(av.VideoFrame(64, 48, "yuvj420p")))
        target.mux(stream.encode())
    with pytest.raises(DataError, match=r"a\.avi: AVI .* ffmpeg -i"):
        probe(tmp_path / "a.avi")


def reference_color(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The same correction by colour-science alone, in float64."""
    linear = apply_matrix_colour_correction_Cheung2004(eotf_sRGB(picture / 255), matrix, matrix.shape[1])
    return np.rint(eotf_inverse_sRGB(np.clip(linear, 0, 1)) * 255).astype(np.uint8)


@pytest.mark.parametrize("terms", TERMS)
def test_color_correction_is_colour_sciences(terms: int) -> None:
    random = np.random.default_rng(terms)
    picture = random.integers(0, 256, (40, 30, 3), np.uint8)
    matrix = np.eye(3, terms) + random.normal(0, 0.05, (3, terms))
    ours, reference = correct_color(picture, matrix).astype(int), reference_color(picture, matrix).astype(int)
    assert np.abs(ours - reference).max() <= 1
    assert (ours != reference).mean() < 0.01


def test_identity_color_changes_nothing() -> None:
    picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(correct_color(picture, np.eye(3)), picture)


def test_color_correction_makes_the_walls_agree(tiny_capture: Path) -> None:
    capture = open_capture(tiny_capture)

    def spread(develop: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
        means = [
            develop(read_picture(capture.plates()[camera.name], "a plate"), camera.color).mean((0, 1))
            for camera in read_rig_of(capture, 1.0).cameras
        ]
        ratios = np.array(means) / np.mean(means, axis=1, keepdims=True)
        return float(ratios.std(0).max())

    assert spread(correct_color) < 0.6 * spread(lambda plate, matrix: plate)


def soft_iou(ours: np.ndarray, truth: np.ndarray) -> float:
    """Sum of minima over sum of maxima of two alphas."""
    return float(np.minimum(ours, truth).sum() / np.maximum(ours, truth).sum())


def test_alpha_against_truth(tiny_capture: Path) -> None:
    rig = read_rig_of(open_capture(tiny_capture), 1.0)
    pictures = list(read_span(open_capture(tiny_capture), "EXP-5-mouth", rig, range(1), LEVELS))
    assert [(t, c, rgb.shape) for t, c, rgb, _ in pictures] == [(0, c, (384, 256, 3)) for c in range(5)]
    for name, (*_, alpha) in zip(rig.names, pictures, strict=True):
        truth = cv2.imread(str(ALPHA / "EXP-5-mouth" / f"{name}.png"), cv2.IMREAD_GRAYSCALE) / 255
        assert soft_iou(alpha / 255, truth) > 0.985, name


def test_alpha_at_half_scale(tiny_capture: Path) -> None:
    rig = read_rig_of(open_capture(tiny_capture), 0.5)
    pictures = read_span(open_capture(tiny_capture), "EXP-5-mouth", rig, range(1), LEVELS)
    for name, (*_, alpha) in zip(rig.names, pictures, strict=True):
        truth = cv2.imread(str(ALPHA / "EXP-5-mouth" / f"{name}.png"), cv2.IMREAD_GRAYSCALE) / 255
        half = cv2.resize(truth, (128, 192), interpolation=cv2.INTER_AREA)
        assert soft_iou(alpha / 255, half) > 0.98, name


@given(shade=st.floats(0.7, 1.0), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_nobody_before_a_shaded_wall(tiny_capture: Path, shade: float, seed: int) -> None:
    plate = read_picture(open_capture(tiny_capture).plates()["222200037"], "a plate")
    ramp = np.linspace(1, shade, plate.shape[1])[None, :, None]
    picture = plate * ramp + np.random.default_rng(seed).normal(0, 3, plate.shape)
    assert not alpha_from_plate(np.clip(picture, 0, 255).astype(np.uint8), plate, *LEVELS).any()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda plate: plate * 0,
        lambda plate: plate // 3,
        lambda plate: plate // [1, 2, 3],
        lambda plate: np.full_like(plate, 255),
    ],
)
def test_a_plate_that_does_not_fit_is_said(tiny_capture: Path, wrong) -> None:
    plate = read_picture(open_capture(tiny_capture).plates()["222200037"], "a plate")
    with pytest.raises(DataError, match="no part of the picture looks like its plate"):
        alpha_from_plate(plate, wrong(plate))


def test_skin_that_is_nearly_the_wall_is_found_where_the_noise_is_low() -> None:
    """Eighteen levels off the wall: under the level of a noisy camera, far over that of a quiet one."""
    random = np.random.default_rng(0)
    plate = np.full((384, 256, 3), 200.0)
    y, x = np.mgrid[:384, :256]
    truth = np.hypot(x - 128, y - 192) < 60
    person = plate - truth[..., None] * np.array([4, 10, 14.0])
    picture = np.rint(person + random.normal(0, 0.5, plate.shape)).astype(np.uint8)
    alpha = alpha_from_plate(picture, plate.astype(np.uint8)) / 255
    assert soft_iou(alpha, truth) > 0.95
    assert not alpha_from_plate(picture, plate.astype(np.uint8), 20, 30).any()


def test_a_large_picture_is_matted_small_and_enlarged_along_its_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:480, :320] + 0.5
    truth = np.clip((120 + 8 * np.sin(np.arctan2(y - 240, x - 160) * 24) - np.hypot(x - 160, y - 240)) / 2, 0, 1)
    plate = np.full((480, 320, 3), 200.0)
    picture = truth[..., None] * np.array([70, 50, 40.0]) + (1 - truth[..., None]) * plate
    picture = np.clip(picture + random.normal(0, 2, plate.shape), 0, 255).astype(np.uint8)
    monkeypatch.setattr("pipeline.capture.pictures.matting.SOLVED_HEIGHT", 240)
    alpha = alpha_from_plate(picture, plate.astype(np.uint8)) / 255
    small = cv2.resize(picture, (160, 240), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(alpha_from_plate(small, np.full((240, 160, 3), 200, np.uint8)) / 255, (320, 480))
    assert soft_iou(alpha, truth) > 0.97
    assert soft_iou(alpha, truth) > soft_iou(enlarged, truth) + 0.005


@given(seed=st.integers(0, 99), radius=st.floats(40, 90))
@settings(max_examples=8, deadline=None)
def test_composite_is_taken_apart(tiny_capture: Path, seed: int, radius: float) -> None:
    """A disc with a soft edge, shadow round it: alpha comes back, the eye-like hole in its middle filled."""
    plate = read_picture(open_capture(tiny_capture).plates()["222200037"], "a plate").astype(float)
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: plate.shape[0], : plate.shape[1]] + 0.5
    distance = np.hypot(x - 128 - random.uniform(-20, 20), y - 192)
    truth = np.clip((radius - distance) / 3 + 0.5, 0, 1)[..., None]
    person = np.where(distance[..., None] < 5, plate, random.uniform(20, 110, 3))
    wall = plate * (1 - 0.2 * np.exp(-(((distance - radius) / 60) ** 2)))[..., None]
    picture = truth * person + (1 - truth) * wall + random.normal(0, 2, plate.shape)
    alpha = alpha_from_plate(np.clip(picture, 0, 255).astype(np.uint8), plate.astype(np.uint8), *LEVELS) / 255
    assert soft_iou(alpha, truth[..., 0]) > 0.97
    assert alpha[distance < 10].min() > 0.98


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_trimap_without_both_sides_is_left_alone(value: float) -> None:
    alpha = solve_alpha(np.zeros((20, 20, 3), np.uint8), np.full((20, 20), value))
    assert np.array_equal(alpha, np.full((20, 20), np.uint8(np.rint(value * 255))))
