"""Cameras of recordings that come without: placed by what they see of a person, then refined on guided matches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.calibration import scaled
from pipeline.capture.formats.base import Capture, Stills
from pipeline.capture.pictures.decode import probe_source
from pipeline.capture.pictures.exif import focal_pixels
from pipeline.capture.plausible import FEWEST as FEWEST_CAMERAS
from pipeline.capture.sfm.adjust import adjust
from pipeline.capture.sfm.matching.features import Features
from pipeline.capture.sfm.matching.features import match as match_features
from pipeline.capture.sfm.matching.matches import FEWEST, Pairs, Seen, match_all
from pipeline.capture.sfm.solve import solve
from pipeline.cli import log
from pipeline.errors import DataError

ROUGH = 1.2  # focal length before any is known, a share of the picture's longer side
# Of more views than this each is matched with as many others: those whose CLEAREST features match best.
PARTNERS = 14
CLEAREST = 400


def unposed_rig(capture: Capture, sequence: str, scale: float, names: Sequence[str]) -> tuple[Rig, bool]:
    """The cameras that recorded a sequence, at the working scale, none of them placed; and whether all focal lengths
    are known (EXIF)."""
    sources, cameras, known = capture.pictures(sequence), [], []
    for name in names:
        source = sources[name]
        size = probe_source(source)
        focal = focal_pixels(source.paths[0]) if isinstance(source, Stills) else None
        known.append(focal is not None)
        focal = focal or ROUGH * max(size.width, size.height)
        matrix = np.array([[focal, 0, size.width / 2], [0, focal, size.height / 2], [0, 0, 1]])
        cameras.append(scaled(Camera(name, size.width, size.height, matrix, np.eye(4), np.eye(3)), scale))
    return Rig(tuple(cameras)), all(known)


@dataclass(frozen=True)
class Placed:
    """The `cameras` that matches alone could place, by number, in a unit of their own, and the matches (`pairs`)."""

    pairs: Pairs
    cameras: dict[int, Camera]


def place(rig: Rig, seen: Sequence[Seen], known: bool, shared: bool) -> Placed:
    """The rig's cameras with poses from matches alone; `known`: their focal lengths are near the truth."""
    pairs = match_all(seen, promising(seen), lambda done: None)
    return Placed(pairs, solve(seen, pairs, rig.cameras, known, shared))


def find(rig: Rig, seen: Sequence[Seen], start: Placed, shared: bool, drop: bool, where: str) -> tuple[Rig, list[Seen]]:
    """The rig with poses and focal lengths, in a unit of its own, refined from `start`; and what its cameras see.

    Cameras that cannot be placed are left out if `drop`. Otherwise, or if less than three are left, raises DataError.
    """
    pairs, placed = start.pairs, start.cameras
    lost = [i for i in range(len(seen)) if i not in placed]
    if lost:
        line = f"{where}: {_unplaced(seen, pairs, lost)}"
        if not drop or len(placed) < FEWEST_CAMERAS:
            raise DataError(f"{line} (calibrate.off_cameras: drop leaves them out while {FEWEST_CAMERAS} are placed)")
        log.warning("%s: left out", line)
    order = sorted(placed)
    seen = [seen[i] for i in order]
    found = adjust(seen, [placed[i] for i in order], focal=True, shared=shared)
    focal = sorted({f"{camera.intrinsics[0, 0]:.1f}" for camera in found.cameras}, key=float)
    log.info(
        "%s: %d cameras placed by %d points that three or more see, %.2f pixels off (median); focal length %s pixels",
        where, len(order), found.tracks, np.median(found.error), " to ".join(dict.fromkeys((focal[0], focal[-1]))),
    )  # fmt: skip
    return replace(rig, cameras=found.cameras), seen


def _unplaced(seen: Sequence[Seen], pairs: Pairs, lost: Sequence[int]) -> str:
    counts = [sum(len(matches) for pair, matches in pairs.items() if i in pair) for i in lost]
    said = ", ".join(f"{seen[i].view.name} ({count} matches)" for i, count in zip(lost, counts, strict=True))
    return (
        f"{len(lost)} of {len(seen)} cameras could not be placed by what they see: {said}; expected {FEWEST} matches "
        "with each of two neighbours that agree on one place: sharp pictures of one moment at most 30 degrees apart"
    )


def promising(seen: Sequence[Seen]) -> list[tuple[int, int]]:
    """Pairs of views worth matching: all of a few, of many those whose clearest features match best."""
    every = list(combinations(range(len(seen)), 2))
    if len(seen) <= PARTNERS:
        return every
    first = [next((f for f in view.features if f is not None), None) for view in seen]
    few = {i: f.clearest(CLEAREST) for i, f in enumerate(first) if isinstance(f, Features)}
    likeness = np.zeros((len(seen), len(seen)))
    for a, b in every:
        if a in few and b in few:
            likeness[a, b] = likeness[b, a] = len(match_features(few[a], few[b]))
    partners = np.argsort(-likeness, axis=1, kind="stable")[:, :PARTNERS]
    return sorted({(min(a, int(b)), max(a, int(b))) for a in range(len(seen)) for b in partners[a] if b != a})
