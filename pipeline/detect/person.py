"""Where in a picture a person is, without a picture of the empty set."""

from functools import cache

import cv2
import numpy as np

from pipeline.detect.network import Network

SIZE = 256


@cache
def _network(models: str | None) -> Network:
    return Network("selfie_segmentation.tflite", SIZE, ["activation_10"], models)


def person_mask(picture: np.ndarray, models: str | None = None, quarter: int = 0) -> np.ndarray:
    """How surely each pixel of a picture (h, w, 3) uint8 sRGB shows a person: (h, w) float32 in [0, 1].

    `models`: folder of the networks, none means the environment's. `quarter`: how often the picture has to be turned by
    90 degrees counterclockwise (as numpy.rot90 turns) until the person is upright; a person lying on their side is
    seen less well. The network looks at 256x256 pixels, so in a large picture this is where to look, not a matte.
    """
    upright = np.ascontiguousarray(np.rot90(picture, quarter))
    height, width = upright.shape[:2]
    # the network was trained on pictures of any shape squeezed into a square
    small = cv2.resize(upright, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    mask = _network(models)(small)[0].reshape(SIZE, SIZE)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(np.rot90(np.clip(mask, 0, 1), -quarter))
