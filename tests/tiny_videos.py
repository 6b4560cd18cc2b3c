"""Lossless little videos for tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av


def decode_all(path: Path) -> list[av.VideoFrame]:
    """Every frame of a video, in order, decoded from the first."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def encode(path: Path, frames: Sequence[av.VideoFrame], **options: str) -> None:
    """Write yuv420p frames as a lossless H.264 mp4 at 24 frames/s; `options` go to libx264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"qp": "0", **options})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 24), 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
