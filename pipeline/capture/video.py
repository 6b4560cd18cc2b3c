"""Frames of a video by number: only the part of the file that holds them is read and decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from pipeline.errors import DataError

# H.264 and H.265 show a picture at most 16 places away from where it lies in the file.
MAX_REORDER = 16


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says: the number of frames and the size in pixels."""

    frames: int
    width: int
    height: int


def probe(path: Path) -> VideoInfo:
    """Read a video's header and frame index, no picture. Raises DataError when the file is cut short or no video."""
    with _open(path) as (_, stream):
        size, end = path.stat().st_size, max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if end > size:
            raise DataError(f"{path}: truncated: its {stream.frames} frames need {end} bytes; the file has {size}")
        return VideoInfo(stream.frames, stream.width, stream.height)


def read_frames(path: Path, numbers: range) -> Iterator[np.ndarray]:
    """The frames with these numbers (ascending, from 0), each (H, W, 3) uint8 sRGB.

    Decoding starts at a key frame before the first of them, so a frame's pixels do not depend on which others are
    asked for. Raises DataError naming the file and frame when the video ends early, cannot be decoded, or has frames
    that are not evenly spaced in time (their numbers come from their times).
    """
    with _open(path) as (container, stream):
        expected = numbers[0]
        for number, frame in _decode(path, container, stream, numbers[0]):
            if number != expected:
                raise DataError(f"{path}: frame {number} came where {expected} was expected; its times are not even")
            if number in numbers:
                yield frame.to_ndarray(format="rgb24")
            if number == numbers[-1]:
                return
            expected += 1
    raise DataError(f"{path}: ends before frame {expected}; expected frames up to {numbers[-1]}")


@contextmanager
def _open(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the video of this camera")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise DataError(f"{path}: truncated or not a video ({error.strerror}); expected a whole mp4") from error


def _decode(path: Path, container: av.container.InputContainer, stream: av.VideoStream, first: int) -> Iterator:
    """Numbered frames from `first` on, in the order they are shown."""
    stream.codec_context.thread_count = 1  # One job has one core; spans run side by side.
    stream.codec_context.options = {"err_detect": "explode"}
    ticks, start = _ticks_per_frame(stream), stream.start_time or 0
    container.seek(start + int(max(first - MAX_REORDER, 0) * ticks), stream=stream)
    number, key_time = first, None
    try:
        for packet in container.demux(stream):
            key_time = packet.pts if key_time is None else key_time
            if packet.pts is not None and packet.pts < key_time:
                continue  # Shown before the key frame that decoding starts at, it may need frames before that.
            for frame in packet.decode():
                number = round((frame.pts - start) / ticks)
                if frame.is_corrupt:
                    raise DataError(f"{path}: frame {number} is damaged; expected a whole mp4")
                if number >= first:
                    yield number, frame
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot decode after frame {number} ({error.strerror})") from error


def _ticks_per_frame(stream: av.VideoStream) -> float:
    """Time between frames by the index; the header's rate is off where the last frame has no duration."""
    entries = stream.index_entries
    return (entries[-1].timestamp - entries[0].timestamp) / (len(entries) - 1) if len(entries) > 1 else 1.0
