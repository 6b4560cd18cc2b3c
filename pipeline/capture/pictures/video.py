"""Frames of a video by number: only the part of the file that holds them is read and decoded."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from pipeline.errors import DataError

NOT_SQUARE = 0.02  # share by which pixels may be wider than high: encoders round sizes
SQUARE = "ffmpeg -vf scale=iw*sar:ih,setsar=1"
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
TO_SDR = "ffmpeg -vf zscale=t=linear:npl=100,tonemap=hable,zscale=p=709:t=709:m=709,format=yuv420p"
DRIFT = 0.01  # share of its length that a video may last longer than the others: 30 and 29.97 frames/s pass
# H.264 and H.265 show a picture at most 16 places away from where it lies in the file.
MAX_REORDER = 16


@dataclass(frozen=True)
class VideoInfo:
    """The number of frames that a video shows, their size in pixels as they are shown, and how many seconds after the
    first the last one is shown; None where pictures have no time."""

    frames: int
    width: int
    height: int
    seconds: float | None = None


def probe(path: Path) -> VideoInfo:
    """How many frames a video shows, and its size; only the first is decoded.

    Raises DataError when it is cut short, or its pictures are not what stereo can work with.
    """
    with _open(path) as (container, stream):
        size, end = path.stat().st_size, max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if end > size:
            raise DataError(f"{path}: truncated: its {stream.frames} frames need {end} bytes; the file has {size}")
        clock = _clock(path, container, stream)
        count = stream.frames if isinstance(clock, EvenClock) else len(clock.times)
        seconds = float((clock.time(count - 1) - clock.time(0)) * stream.time_base) if stream.time_base else None
        _, first = next(_decode(path, container, stream, clock, 0), (0, None))
        if first is None:
            raise DataError(f"{path}: shows no frame; expected a video")
        check_picture(path, stream, first)
        turned = first.rotation % 180 != 0
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        return VideoInfo(count, width, height, seconds)


def check_picture(path: Path, stream: av.VideoStream, frame: av.VideoFrame) -> None:
    """Raise DataError where a video's pictures have another shape, light or time than they seem to have."""
    square = stream.sample_aspect_ratio
    if square and abs(square - 1) > NOT_SQUARE:
        raise DataError(f"{path}: pixels {float(square):.3g} times as wide as high; expected square ones: {SQUARE}")
    if frame.color_trc in HDR:
        raise DataError(f"{path}: HDR ({HDR[frame.color_trc]}), which would look washed out; expected SDR: {TO_SDR}")
    if frame.interlaced_frame:
        raise DataError(f"{path}: interlaced: its lines are of two moments; expected whole frames: ffmpeg -vf bwdif")


def check_rates(where: str, infos: Mapping[str, VideoInfo]) -> None:
    """Raise DataError where one camera's frames last longer than others': then those of a number are of no moment."""
    lasting = {name: info.seconds for name, info in infos.items() if info.seconds and info.frames > 1}
    usual = sorted(lasting.values())[len(lasting) // 2] if lasting else 0.0
    for name, seconds in lasting.items():
        frames = infos[name].frames
        if abs(seconds - usual) > max(DRIFT * usual, 1.5 * usual / (frames - 1)):
            raise DataError(
                f"{where}: the {frames} frames of camera {name} last {seconds:.4g} s; expected {usual:.4g} s as the "
                "others': frames of one number show one moment"
            )


def read_frames(path: Path, numbers: range) -> Iterator[np.ndarray]:
    """The frames with these numbers (ascending), each (H, W, 3) uint8 sRGB; numbered from 0 in the order shown.

    Decoding starts at a key frame before the first of them, so a frame's pixels do not depend on which others are
    asked for. Raises DataError naming the file and frame when the video ends early or cannot be decoded.
    """
    with _open(path) as (container, stream):
        clock = _clock(path, container, stream)
        expected = numbers[0]
        for number, frame in _decode(path, container, stream, clock, numbers[0]):
            if number != expected:
                raise DataError(f"{path}: frame {number} came where {expected} was expected")
            if number in numbers:
                yield upright(frame)
            if number == numbers[-1]:
                return
            expected += 1
    raise DataError(f"{path}: ends before frame {expected}; expected frames up to {numbers[-1]}")


def upright(frame: av.VideoFrame) -> np.ndarray:
    """A frame (H, W, 3) uint8 sRGB, turned as players show it: phones store what they see upright on its side."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


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
    """Whether the header is enough: it counts the frames, hides none, and they are evenly spaced in time."""
    entries = stream.index_entries
    if not stream.frames or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
        return False
    steps = {after.timestamp - before.timestamp for before, after in pairwise(entries)}
    # time bases that do not divide the rate, such as 1/1000 for 24 frames/s, round each step
    return not steps or max(steps) - min(steps) <= 1


def _clock(path: Path, container: InputContainer, stream: av.VideoStream) -> Clock:
    """What numbers a video's frames."""
    return EvenClock(stream) if _is_even(stream) else ListedClock(_times(path, container, stream))


def _times(path: Path, container: InputContainer, stream: av.VideoStream) -> list[int]:
    """Times, sorted, of all frames that are shown; the file is read, not decoded."""
    try:
        shown = [p.pts for p in container.demux(stream) if p.size and p.pts is not None and not p.is_discard]
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be read to its end ({error.strerror}); expected a whole video") from error
    if not shown:
        raise DataError(f"{path}: shows no frame with a time; expected a video")
    return sorted(set(shown))


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
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


def _decode(path: Path, container: InputContainer, stream: av.VideoStream, clock: Clock, first: int) -> Iterator:
    """Numbered frames from `first` on, in the order they are shown."""
    stream.codec_context.thread_count = 1  # One job has one core; spans run side by side.
    stream.codec_context.options = {"err_detect": "explode"}
    container.seek(clock.time(max(first - MAX_REORDER, 0)), stream=stream)
    number, key_time = first, None
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                key_time = packet.pts if key_time is None else key_time
                if packet.pts < key_time:
                    continue  # Shown before the key frame that decoding starts at, it may need frames before that.
            for frame in packet.decode():
                shown = None if frame.pts is None else clock.number(frame.pts)
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
