"""Films: H.264 in mp4, from pictures."""

import math
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.store.chunk import publish

CODING = {
    "crf": "14",  # visually lossless
    "threads": "1",
    "x264-params": "mbtree=0",  # its look ahead reads stray memory: 12 codings of a 96x128 film gave 7 different files
}

WIDTH_OF_TITLES = 250  # pixels of picture at which titles have OpenCV's own size


def titled(pictures: np.ndarray, title: str) -> np.ndarray:
    """Pictures (T, h, w, 3) uint8 below a white strip that says what they are."""
    count, _, width, _ = pictures.shape
    strip = np.full((math.ceil(width / 8), width, 3), 255, np.uint8)
    place = (width // 32, math.ceil(width / 11))
    cv2.putText(strip, title, place, cv2.FONT_HERSHEY_SIMPLEX, width / WIDTH_OF_TITLES, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([np.broadcast_to(strip, (count, *strip.shape)), pictures], axis=1)


def write_film(path: Path, pictures: np.ndarray, frames_per_second: int, seconds: float, scale: int) -> None:
    """Publish pictures (T, h, w, 3) uint8 sRGB as a film, repeated in whole rounds to last at least `seconds`.

    Each pixel becomes a square of `scale`; an odd side is filled with white, as the codec needs even ones.
    """
    large = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    odd = [(0, side % 2) for side in large.shape[1:3]]
    large = np.pad(large, ((0, 0), *odd, (0, 0)), constant_values=255)
    rounds = max(1, math.ceil(seconds * frames_per_second / len(large)))
    with publish(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=frames_per_second, options=CODING)
        stream.height, stream.width = large.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for _ in range(rounds):
            for picture in large:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
