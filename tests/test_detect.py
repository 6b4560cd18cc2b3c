"""Small face networks: their files, the person mask, faces, points, lids and irises."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.detect import models
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
        models.read("face_landmark.tflite", str(tmp_path))
    (tmp_path / "face_landmark.tflite").write_bytes(b"another")
    with pytest.raises(DataError, match=r"sha256 .* expected 1055cb9d4a9c"):
        models.read("face_landmark.tflite", str(tmp_path))


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
