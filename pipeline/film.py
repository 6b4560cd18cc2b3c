"""Films from pictures: H.264, and with alpha ProRes 4444, VP9 or PNG files."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from pipeline.errors import DataError
from pipeline.store.chunk import publish

CODING = {
    "crf": "14",  # visually lossless
    "threads": "1",
    "x264-params": "mbtree=0",  # its look ahead reads stray memory: 12 codings of a 96x128 film gave 7 different files
}
# By suffix: codec, container, the codec's options, and its pixels for pictures of three or four channels.
FORMATS = {
    ".mp4": ("libx264", "mp4", CODING, {3: "yuv420p"}),
    ".mov": ("prores_ks", "mov", {"profile": "4444", "threads": "1"}, {3: "yuv444p10le", 4: "yuva444p10le"}),
    ".webm": ("libvpx-vp9", "webm", {"crf": "18", "b": "0", "threads": "1"}, {3: "yuv420p", 4: "yuva420p"}),
}
BT709, SRGB_CURVE = 1, 13  # H.273's numbers of primaries and transfer curve
COLOURS = {3: "rgb24", 4: "rgba"}
WIDTH_OF_TITLES = 250  # pixels of picture at which titles have OpenCV's own size


def titled(pictures: np.ndarray, title: str) -> np.ndarray:
    """Pictures (T, h, w, 3) uint8 below a white strip that says what they are."""
    count, _, width, _ = pictures.shape
    strip = np.full((math.ceil(width / 8), width, 3), 255, np.uint8)
    place = (width // 32, math.ceil(width / 11))
    cv2.putText(strip, title, place, cv2.FONT_HERSHEY_SIMPLEX, width / WIDTH_OF_TITLES, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([np.broadcast_to(strip, (count, *strip.shape)), pictures], axis=1)


def write_film(
    path: Path, pictures: np.ndarray, frames_per_second: int, seconds: float, scale: int, comment: str = ""
) -> None:
    """Publish pictures (T, h, w, 3) uint8 sRGB as a film, repeated in whole rounds to last at least `seconds`."""
    repeats = rounds(len(pictures), frames_per_second, seconds)
    write_frames(path, lambda: iter(pictures), frames_per_second, repeats, scale, comment)


def rounds(steps: int, frames_per_second: int, seconds: float) -> int:
    """How often a film of so many steps is shown so that it lasts at least `seconds`."""
    return max(1, math.ceil(seconds * frames_per_second / steps))


def write_frames(
    path: Path,
    frames: Callable[[], Iterator[np.ndarray]],
    frames_per_second: int | Fraction,
    repeats: int,
    scale: int,
    comment: str = "",
) -> None:
    """Publish what `frames` yields, pictures (h, w, 3) uint8 sRGB, or (h, w, 4) for films with alpha, `repeats` times.

    The suffix says how: .mp4 is H.264, .mov ProRes 4444 and .webm VP9, both with alpha if the pictures have it. Each
    pixel becomes a square of `scale`; an odd side is filled with white, clear where there is alpha, as the codecs need
    even ones. One picture is in memory at a time. `comment` goes into the film's metadata.
    """
    if path.suffix not in FORMATS:
        raise DataError(f"{path}: no film is written as {path.suffix}; expected {', '.join(FORMATS)}")
    codec, container_format, options, pixels = FORMATS[path.suffix]
    with publish(path) as partial, av.open(str(partial), "w", format=container_format) as container:
        stream = None
        container.metadata["comment"] = comment
        for _ in range(repeats):
            for frame in frames():
                large = _enlarged(frame, scale)
                if stream is None:
                    stream = container.add_stream(codec, rate=frames_per_second, options=options)
                    assert isinstance(stream, av.VideoStream)
                    stream.height, stream.width = large.shape[:2]
                    stream.pix_fmt = pixels[large.shape[2]]
                    _tag(stream.codec_context)
                container.mux(stream.encode(_coded(large, pixels[large.shape[2]])))
        if stream is None:
            raise DataError(f"{path}: no pictures; expected one at least")
        container.mux(stream.encode())


def _tag(codec: av.VideoCodecContext) -> None:
    """Say which colours these are: players guess by the picture's size otherwise, and guess otherwise."""
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = BT709, SRGB_CURVE


def _coded(picture: np.ndarray, pixels: str) -> av.VideoFrame:
    """A picture (h, w, 3 or 4) uint8 sRGB as the colours that `_tag` names."""
    frame = av.VideoFrame.from_ndarray(picture, format=COLOURS[picture.shape[2]])
    frame = frame.reformat(format=pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
    frame.color_primaries, frame.color_trc = BT709, SRGB_CURVE
    return frame


def write_pictures(path: Path, frames: Iterator[np.ndarray], comment: str = "") -> None:
    """Publish what `frames` yields, pictures (h, w, 3 or 4) uint8, as PNG files 00000.png, ... in one zip."""
    with publish(path) as partial, ZipFile(partial, "w") as archive:
        archive.comment = comment.encode()
        for number, frame in enumerate(frames):
            order = cv2.COLOR_RGBA2BGRA if frame.shape[2] == 4 else cv2.COLOR_RGB2BGR
            _, coded = cv2.imencode(".png", cv2.cvtColor(frame, order))
            archive.writestr(ZipInfo(f"{number:05d}.png"), coded.tobytes())


def _enlarged(frame: np.ndarray, scale: int) -> np.ndarray:
    large = frame.repeat(scale, axis=0).repeat(scale, axis=1)
    odd = [(0, side % 2) for side in large.shape[:2]]
    filled = np.pad(large, (*odd, (0, 0)), constant_values=255)
    if filled.shape[2] == 4:
        filled[large.shape[0] :, :, 3] = filled[:, large.shape[1] :, 3] = 0
    return filled
