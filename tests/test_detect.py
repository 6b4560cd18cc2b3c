"""Small face networks: their files, the person mask, faces, points, lids and irises."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.detect import models
from pipeline.detect.irises import LOWER, UPPER
from pipeline.detect.look import NOTHING, Watcher
from pipeline.detect.person import person_mask
from pipeline.errors import DataError
from tests.tiny_videos import decode_all

ROOT = Path(__file__).parents[1]
SEQUENCE = ROOT / "data/demo/901/sequences/EXP-5-mouth/images"
FRONT = "222200049"
needs_models = pytest.mark.skipif(not models.present(), reason=models.BRING)


def picture(camera: str, frame: int = 0) -> np.ndarray:
    return decode_all(SEQUENCE / f"cam_{camera}.mp4")[frame].to_ndarray(format="rgb24")


def test_a_missing_network_or_another_version_is_named(tmp_path):
    assert not models.present(str(tmp_path))
    with pytest.raises(DataError, match=r"face_landmark\.tflite: no such file; envs/detectors\.sh"):
        models.checked("face_landmark.tflite", str(tmp_path))
    (tmp_path / "face_landmark.tflite").write_bytes(b"another")
    with pytest.raises(DataError, match=r"sha256 .* expected 1055cb9d4a9c"):
        models.checked("face_landmark.tflite", str(tmp_path))


@needs_models
@pytest.mark.parametrize("camera", ["220700191", "222200044"])
@pytest.mark.parametrize("turned", [0, 1])
def test_a_person_is_told_from_the_wall(camera, turned):
    truth = cv2.imread(str(ROOT / f"tests/data/alpha/EXP-5-mouth/{camera}.png"), cv2.IMREAD_GRAYSCALE) / 255
    mask = person_mask(np.rot90(picture(camera), turned), quarter=-turned)
    mask = np.rot90(mask, -turned)
    assert mask.shape == truth.shape
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert np.minimum(mask, truth).sum() / np.maximum(mask, truth).sum() > 0.97


@needs_models
@pytest.mark.parametrize("camera", [FRONT, "222200038"])
def test_a_head_is_seen_alike_however_the_camera_is_mounted(camera):
    upright = picture(camera)
    middle = np.array(upright.shape[1::-1]) / 2
    seen = Watcher(middle).look(upright)
    assert seen.score > 0.9
    height = np.linalg.norm(seen.points[10] - seen.points[152])
    turned = np.ascontiguousarray(np.rot90(upright))
    sideways = Watcher(middle[::-1]).look(turned)
    # rot90 takes (x, y) to (y, w - x)
    back = np.stack([upright.shape[1] - sideways.points[..., 1], sideways.points[..., 0]], -1)
    assert np.median(np.linalg.norm(back - seen.points, axis=-1)) < 0.01 * height


@needs_models
def test_eyes_are_the_subjects_own_and_lids_go_round_them():
    plain = picture("222200037")
    width = plain.shape[1]
    middle = np.array([width, plain.shape[0]]) / 2
    seen, mirror = (Watcher(middle).look(p) for p in (plain, np.ascontiguousarray(plain[:, ::-1])))
    assert seen.irises[0, 0, 0] > seen.irises[1, 0, 0]  # the subject's left eye is on the right of the picture
    swapped = mirror.irises[::-1] * [-1, 1] + [width, 0]
    assert np.abs(swapped - seen.irises)[:, 0].max() < 1.5
    assert (seen.lids[:, LOWER, 1].mean(1) > seen.lids[:, UPPER, 1].mean(1)).all()


@needs_models
def test_of_two_faces_the_one_that_is_aimed_at_counts():
    both = np.concatenate([picture(FRONT), picture("222200047")], 1)
    height, width = both.shape[:2]
    for x in (0.25 * width, 0.75 * width):
        seen = Watcher(np.array([x, height / 2])).look(both)
        assert abs(seen.box[0] - x) < 0.15 * width


@needs_models
def test_where_no_face_is_nothing_is_seen():
    wall = picture(FRONT)[:60]
    assert Watcher(np.array([100.0, 30.0])).look(wall) is NOTHING
    noise = np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8)
    assert Watcher(np.array([75.0, 100.0])).look(noise) is NOTHING


@needs_models
def test_a_picture_takes_forty_milliseconds():
    """Of one core's own time, the second and later pictures of a camera."""
    watcher = Watcher(np.array([128.0, 192.0]))
    pictures = [picture(FRONT, frame) for frame in range(6)]
    watcher.look(pictures[0])
    started = time.process_time()
    for one in pictures[1:]:
        watcher.look(one)
    assert (time.process_time() - started) / 5 < 0.08  # twice as long: other work shares the caches
