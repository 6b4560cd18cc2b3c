"""Pictures that cut the head, are blurred or over-exposed are told from ones that do not."""

import cv2
import numpy as np
import pytest

from pipeline.capture.sfm.matching.matches import View
from pipeline.capture.sfm.matching.quality import cut, cut_heads, quality


def bust(dx: int, dy: int) -> np.ndarray:
    """A head above shoulders (120, 100) bool, moved."""
    drawn = np.zeros((120, 100), np.uint8)
    cv2.circle(drawn, (50 + dx, 45 + dy), 22, 1, -1)
    cv2.rectangle(drawn, (0, 95 + dy), (100, 200), 1, -1)
    return drawn > 0


@pytest.mark.parametrize(
    ("move", "edge"),
    [((0, 0), ""), ((0, -30), "top"), ((-35, 0), "left"), ((35, 0), "right"), ((0, 20), "")],
)
def test_the_edge_that_cuts_a_head(move: tuple[int, int], edge: str) -> None:
    assert cut(bust(*move)) == edge


def test_a_head_that_the_edge_cuts_is_said_once_with_camera_and_frame() -> None:
    picture = np.zeros((120, 100, 3), np.uint8)
    masks = tuple(bust(0, dy).astype(np.uint8) * 255 for dy in (0, -30, -30))
    said = cut_heads([View("left", (picture,) * 3, masks), View("bare", (picture,) * 3, (None,) * 3)], [2, 8, 14])
    assert said == ["camera left, frame 8: the top edge cuts the person's head; expected all of it in the picture"]


def test_blur_and_light() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(60, 190, (120, 100, 3)).astype(np.uint8)
    mask = bust(0, 0).astype(np.uint8) * 255
    sharp = quality(picture, mask)
    soft = quality(cv2.GaussianBlur(picture, (0, 0), 2), mask)
    assert soft.sharpness < 0.2 * sharp.sharpness
    assert sharp.clipped == 0
    bright = quality(np.where(mask[..., None] > 0, 255, picture).astype(np.uint8), mask)
    assert bright.clipped == 1
    assert bright.exposure > sharp.exposure
