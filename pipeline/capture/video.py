"""Frames of a video by number: only the part of the file that holds them is read and decoded."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from pipeline.errors import DataError

# H.264 and H.265 show a picture at most 16 places away from where it lies in the file.
MAX_REORDER = 16


@dataclass(frozen=True)
class VideoInfo:
    """The number of frames that a video shows and the size in pixels."""

    frames: int
    width: int
    height: int


def probe(path: Path) -> VideoInfo:
    """How many frames a video shows, and its size; no picture is decoded. Raises DataError when it is cut short."""
    with _open(path) as (container, stream):
        size, end = path.stat().st_size, max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if end > size:
            raise DataError(f"{path}: truncated: its {stream.frames} frames need {end} bytes; the file has {size}")
        width, height = stream.width, stream.height
        return VideoInfo(stream.frames if _is_even(stream) else len(_times(path, container, stream)), width, height)


def read_frames(path: Path, numbers: range) -> Iterator[np.ndarray]:
    """The frames with these numbers (ascending), each (H, W, 3) uint8 sRGB; numbered from 0 in the order shown.

    Decoding starts at a key frame before the first of them, so a frame's pixels do not depend on which others are
    asked for. Raises DataError naming the file and frame when the video ends early or cannot be decoded.
    """
    with _open(path) as (container, stream):
        clock: Clock = EvenClock(stream) if _is_even(stream) else ListedClock(_times(path, container, stream))
        expected = numbers[0]
        for number, frame in _decode(path, container, stream, clock, numbers[0]):
            if number != expected:
                raise DataError(f"{path}: frame {number} came where {expected} was expected")
            if number in numbers:
                yield frame.to_ndarray(format="rgb24")
            if number == numbers[-1]:
                return
            expected += 1
    raise DataError(f"{path}: ends before frame {expected}; expected frames up to {numbers[-1]}")


class EvenClock:
    """Numbers of frames that are evenly spaced in time, from the header alone."""

    def __init__(self, stream: av.VideoStream):
        self.ticks, self.start = _ticks_per_frame(stream), stream.start_time or 0

    def time(self, number: int) -> int:
        """When a frame is shown, in the stream's ticks."""
        return self.start + int(number * self.ticks)

    def number(self, time: int) -> int | None:
        """Which frame is shown at a time."""
        return round((time - self.start) / self.ticks)


class ListedClock:
    """Numbers of frames from the times shown: of uneven videos, and where the header says too little."""

    def __init__(self, times: list[int]):
        self.times = times
        self.numbers = {time: number for number, time in enumerate(times)}

    def time(self, number: int) -> int:
        """When a frame is shown, in the stream's ticks."""
        return self.times[min(number, len(self.times) - 1)]

    def number(self, time: int) -> int | None:
        """Which frame is shown at a time; None: one that an edit list hides."""
        return self.numbers.get(time)


Clock = EvenClock | ListedClock


def _is_even(stream: av.VideoStream) -> bool:
    """Whether the header tells all: it counts frames, hides none, and they lie evenly in time."""
    entries = stream.index_entries
    if not stream.frames or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
        return False
    steps = {after.timestamp - before.timestamp for before, after in pairwise(entries)}
    # time bases that do not divide the rate, such as 1/1000 for 24 frames/s, round each step
    return not steps or max(steps) - min(steps) <= 1


def _times(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> list[int]:
    """Times, sorted, of all frames that are shown; the file is read, not decoded."""
    try:
        shown = [p.pts for p in container.demux(stream) if p.size and p.pts is not None and not p.is_discard]
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be read to its end ({error.strerror}); expected a whole video") from error
    if not shown:
        raise DataError(f"{path}: shows no frame with a time; expected a video")
    return sorted(set(shown))


@contextmanager
def _open(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the video of this camera")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            if container.format.name == "avi":
                raise DataError(
                    f"{path}: AVI does not keep when frames are shown; expected mp4: ffmpeg -i {path.name} "
                    f"{path.stem}.mp4"
                )
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise DataError(f"{path}: truncated or not a video ({error.strerror}); expected a whole mp4") from error


def _decode(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, clock: Clock, first: int
) -> Iterator:
    """Numbered frames from `first` on, in the order they are shown."""
    stream.codec_context.thread_count = 1  # One job has one core; spans run side by side.
    stream.codec_context.options = {"err_detect": "explode"}
    container.seek(clock.time(max(first - MAX_REORDER, 0)), stream=stream)
    number, key_time = first, None
    try:
        for packet in container.demux(stream):
            key_time = packet.pts if key_time is None else key_time
            if packet.pts is not None and packet.pts < key_time:
                continue  # Shown before the key frame that decoding starts at, it may need frames before that.
            for frame in packet.decode():
                shown = clock.number(frame.pts)
                if shown is None:
                    continue
                number = shown
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


def main() -> None:
    """Print how many frames each of the videos named on the command line shows: planning opens no video itself."""
    for name in sys.argv[1:]:
        sys.stdout.write(f"{probe(Path(name)).frames}\n")


if __name__ == "__main__":
    main()
