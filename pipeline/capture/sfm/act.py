"""Cameras that do not fit what they see: an error, a warning, left out or posed anew, as the settings ask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.capture.plausible import FEWEST as FEWEST_CAMERAS
from pipeline.capture.sfm.agreed import agreed, masks_said
from pipeline.capture.sfm.matching.matches import Pairs, Seen
from pipeline.capture.sfm.repose import repose
from pipeline.capture.sfm.verdict import Verdict, judge
from pipeline.cli import log
from pipeline.errors import DataError

Action = Literal["stop", "drop", "repose", "keep"]


def settle(
    rig: Rig, seen: Sequence[Seen], action: Action, where: str, late: Callable[[Rig], Mapping[int, int]] = lambda _: {}
) -> Rig:
    """The rig after cameras that do not fit their pictures were dealt with. Raises DataError naming them (`stop`).

    `late` finds cameras that lag behind, with their frames; no pose mends them, so `repose` leaves them out too.
    """
    verdict, pairs = judge(seen, rig.cameras, lambda done: None)
    behind = dict(late(rig))
    said = blamed(verdict, rig, behind)
    for line in [*said, *unchecked(verdict, rig), *masks_said(seen, rig.cameras, agreed(seen, rig.cameras, pairs))]:
        log.warning("%s: %s", where, line)
    off = sorted({*verdict.off, *behind})
    if not off or action == "keep":
        return rig
    if action == "stop":
        raise DataError(f"{where}: {'; '.join(said)} (calibrate.off_cameras: drop, repose or keep)")
    out = off if action == "drop" else sorted(behind)
    if len(rig.cameras) - len(off) < FEWEST_CAMERAS:
        raise DataError(
            f"{where}: {len(off)} of {len(rig.cameras)} cameras do not fit what they see; expected {FEWEST_CAMERAS} "
            "that do: is it the right calibration?"
        )
    if action == "repose" and (turned := [i for i in off if i not in behind]):
        rig = reposed(rig, seen, pairs, turned, where)
    return replace(rig, cameras=tuple(camera for i, camera in enumerate(rig.cameras) if i not in out))


def reposed(rig: Rig, seen: Sequence[Seen], pairs: Pairs, off: Sequence[int], where: str) -> Rig:
    """The rig with the cameras `off` posed anew, each change logged. Raises DataError where that did not help."""
    cameras = repose(seen, rig.cameras, pairs, off)
    after, _ = judge(seen, cameras, lambda done: None)
    for i in off:
        angle, away = change(rig.cameras[i].camera_from_world, cameras[i].camera_from_world)
        left = [value for pair, value in after.residual.items() if i in pair]
        log.warning(
            "%s: camera %s posed anew: turned by %.2f degrees, moved by %.3g units",
            where, cameras[i].name, angle, away,
        )  # fmt: skip
        if i in after.off or not left:
            raise DataError(
                f"{where}: camera {cameras[i].name} does not fit in a new pose either; leave it out "
                "(calibrate.off_cameras: drop)"
            )
    return replace(rig, cameras=tuple(cameras))


def change(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Degrees and length (in the poses' unit) between two poses camera_from_world (4, 4)."""
    turn = (np.trace(before[:3, :3] @ after[:3, :3].T) - 1) / 2
    centres = (np.linalg.inv(pose)[:3, 3] for pose in (before, after))
    return float(np.degrees(np.arccos(np.clip(turn, -1, 1)))), float(np.linalg.norm(np.subtract(*centres)))


def blamed(verdict: Verdict, rig: Rig, late: Mapping[int, int]) -> list[str]:
    """One line on each camera that does not fit."""
    swapped = {i: other for a, b in verdict.swapped for i, other in ((a, b), (b, a))}
    said = []
    for i in sorted({*verdict.off, *late}):
        line = f"camera {rig.cameras[i].name}: "
        if i in late:
            way = "late" if late[i] > 0 else "early"
            line += f"its pictures come {abs(late[i])} frames {way}; expected those of the others' moments"
        else:
            line += f"its matches lie {verdict.off[i]:.1f} pixels off the other cameras' epipolar lines; expected "
            line += f"under {verdict.bound:.2g}"
        if i in swapped:
            line += f": its pictures are camera {rig.cameras[swapped[i]].name}'s"
        said.append(line)
    return said


def unchecked(verdict: Verdict, rig: Rig) -> list[str]:
    """A line on each camera that shares nothing with others."""
    return [
        f"camera {rig.cameras[i].name}: shares no 30 matches with any other camera, so its pose is not checked"
        for i in verdict.alone
    ]
