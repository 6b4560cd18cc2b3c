"""Curves of a face: the CSV files that capture apps for phones write, ARKit's 52 weights with head and eyes."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError

PAIRED = (
    *("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide"),
    *("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *("browDown", "browOuterUp", "cheekSquint", "noseSneer"),
)
SINGLE = (
    *("jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft"),
    *("mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "browInnerUp"),
    *("cheekPuff", "tongueOut"),
)
ARKIT = (*(f"{stem}{side}" for stem in PAIRED for side in ("Left", "Right")), *SINGLE)  # the subject's own sides
HEAD = ("headYaw", "headPitch", "headRoll")
EYES = (("leftEyeYaw", "leftEyePitch"), ("rightEyeYaw", "rightEyePitch"))
TIME = "timecode"
LARGEST_WEIGHT = 2.0  # apps let weights pass 1 a little; a hundred is a percentage
TIMECODE = re.compile(r"(\d+):(\d+):(\d+)[:;](\d+)(\.\d+)?")


@dataclass(frozen=True)
class Curves:
    """What a phone saw of a face at N moments.

    `seconds` (N,) from the first moment on, rising; `weights` (N, 52) in ARKIT's order; `head` (N, 3) yaw, pitch, roll
    and `eyes` (N, 2, 2) yaw and pitch of the left and the right eye, in the file's unit, None where it has none.
    """

    seconds: np.ndarray
    weights: np.ndarray
    head: np.ndarray | None
    eyes: np.ndarray | None


def read_curves(path: Path, rate: float) -> Curves:
    """Read a CSV with a header; capitals in the names do not matter, neither do unknown columns.

    `rate` is that of the frames that timecodes count, per second; without a column `Timecode` rows follow at it.
    Raises DataError naming line and column.
    """
    header, rows = _table(path)
    if missing := [name for name in ARKIT if name.lower() not in header and name != "tongueOut"]:
        raise DataError(f"{path}: no column {', '.join(missing[:4])}; expected ARKit's weights by their names")

    def column(name: str) -> np.ndarray:
        place = header.get(name.lower())
        if place is None:
            return np.zeros(len(rows))
        return np.array([_number(row[place], f"{path}: line {line}, column {name}") for line, row in rows])

    weights = np.stack([column(name) for name in ARKIT], 1)
    if (worst := np.abs(weights).max()) > LARGEST_WEIGHT:
        row, place = np.unravel_index(np.abs(weights).argmax(), weights.shape)
        raise DataError(f"{path}: line {rows[row][0]}, column {ARKIT[place]}: {worst:g}; expected weights from 0 to 1")
    return Curves(
        _seconds(path, header, rows, rate),
        weights,
        np.stack([column(name) for name in HEAD], 1) if all(name.lower() in header for name in HEAD) else None,
        np.stack([np.stack([column(name) for name in eye], 1) for eye in EYES], 1)
        if all(name.lower() in header for eye in EYES for name in eye)
        else None,
    )


def film_steps(path: Path, timecode_rate: float, rate: float) -> int:
    """Moments of the film that `resampled` makes of a file; reads nothing but its times."""
    return _moments(_seconds(path, *_table(path), timecode_rate), rate)


def resampled(curves: Curves, rate: float) -> Curves:
    """The curves at a film's moments 0, 1 / rate, ... up to their end; between two rows they run straight."""
    moments = np.arange(_moments(curves.seconds, rate)) / rate

    def at(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        found = np.stack([np.interp(moments, curves.seconds, part) for part in flat.T], 1)
        return found.reshape(len(moments), *values.shape[1:])

    head, eyes = (None if values is None else at(values) for values in (curves.head, curves.eyes))
    return Curves(moments, at(curves.weights), head, eyes)


def mirrored(curves: Curves) -> Curves:
    """Left for right, for apps that record as a mirror does."""
    place = {name: number for number, name in enumerate(ARKIT)}
    other = {"Left": "Right", "Right": "Left"}
    swapped = [place[re.sub("(Left|Right)$", lambda found: other[found[0]], name)] for name in ARKIT]
    head = None if curves.head is None else curves.head * [-1, 1, -1]
    eyes = None if curves.eyes is None else curves.eyes[:, ::-1] * [-1, 1]
    return Curves(curves.seconds, curves.weights[:, swapped], head, eyes)


def _moments(seconds: np.ndarray, rate: float) -> int:
    return int(seconds[-1] * rate + 1e-6) + 1


def _table(path: Path) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Places of the columns by small-lettered name, and the rows with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV file ({error})") from error
    if len(lines) < 2:
        raise DataError(f"{path}: {max(len(lines) - 1, 0)} rows below the header; expected at least one")
    header = {name.strip().lower(): place for place, name in enumerate(lines[0][1])}
    for number, row in lines[1:]:
        if len(row) != len(lines[0][1]):
            raise DataError(f"{path}: line {number} has {len(row)} values; expected {len(lines[0][1])} as the header")
    return header, lines[1:]


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{where}: {text!r}; expected a number")
    return value


def _seconds(path: Path, header: dict[str, int], rows: list[tuple[int, list[str]]], rate: float) -> np.ndarray:
    if TIME not in header:
        return np.arange(len(rows)) / rate
    found = []
    for line, row in rows:
        code = TIMECODE.fullmatch(row[header[TIME]].strip())
        if code is None or int(code[4]) >= rate:
            raise DataError(
                f"{path}: line {line}, column Timecode: {row[header[TIME]]!r}; expected hours:minutes:seconds:frames "
                f"with fewer than {rate:g} frames in a second"
            )
        hours, minutes, seconds, frames = map(int, code.groups()[:4])
        found.append(3600 * hours + 60 * minutes + seconds + (frames + float(code[5] or 0)) / rate)
        if len(found) > 1 and found[-1] < found[-2] - 43200:
            found[-1] += 86400  # past midnight
        if len(found) > 1 and found[-1] < found[-2]:
            raise DataError(f"{path}: line {line}, column Timecode: goes back; expected moments that rise")
    return np.array(found) - found[0]
