"""Published cameras refined on what they see of the person, in the unit and axes that they were published in."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.plausible import common_point
from pipeline.capture.sfm.act import change
from pipeline.capture.sfm.adjust import BANDS, adjust
from pipeline.capture.sfm.compare import LONG, off_tracks, tracks_of
from pipeline.capture.sfm.find import Placed
from pipeline.capture.sfm.matching.matches import FEWEST, PIXELS_HIGH, Seen
from pipeline.capture.sfm.verdict import judge
from pipeline.cli import log
from pipeline.errors import DataError

# Pixels (of a picture 400 high) that given cameras may be off at first: published ones of a person who moved are by 4.
ASTRAY = 5.0
# Of good cameras the median match lies 0.33 pixels off (so high a picture) where the person is: 901, 904, 905.
FITTING = 0.8
# Cameras placed anew fit what they were placed by a little better than any others: they replace given ones that are so
# many times worse on the same tracks, if that share of the cameras could be placed.
CLEARLY, ENOUGH = 1.5, 0.9
# Share of their distance to the person by which refining moves cameras that are placed well, at most: on 901 0.5 %, on
# 904 0.8 %, where they end up 4 mm off; on 905 2.1 %, where two end up 50 mm off.
SETTLED = 0.015
FAR = 3.0  # times the median distance from which a camera's old place does not count when both rigs are laid together


def astray(rig: Rig, seen: Sequence[Seen], anew: Placed, where: str) -> bool:
    """Whether given cameras are to give way to those placed `anew`; both are held against what they see, and it is
    logged: matches of neighbours show cameras that are off each by itself, tracks an error that grows slowly."""
    verdict, _ = judge(seen, rig.cameras, lambda done: None)
    near = float(np.median(list(verdict.residual.values()))) if verdict.residual else 0.0
    limit = FITTING * max(max(camera.height for camera in rig.cameras) / PIXELS_HIGH, 1)
    order = [i for i in sorted(anew.cameras) if i not in verdict.off]  # a bumped camera alone is no reason: it is named
    tracks = tracks_of(seen, anew.pairs, order)
    given = off_tracks([rig.cameras[i] for i in order], tracks)
    new = off_tracks([anew.cameras[i] for i in order], tracks)
    slow = tracks.count >= FEWEST and len(anew.cameras) >= ENOUGH * len(seen) and given > CLEARLY * new
    log.info(
        "%s: the person's matches lie %.2f pixels off the given cameras' epipolar lines (median, expected under %.2g); "
        "%d points tracked over %d pictures or more %.2f off the given cameras, %.2f off %d of %d placed anew: %s",
        where, near, limit, tracks.count, LONG, given, new, len(anew.cameras), len(seen),
        "placed anew" if near >= limit or slow else "kept",
    )  # fmt: skip
    return near >= limit or slow


def refined(rig: Rig, seen: Sequence[Seen], *, lenses: bool, shared: bool, where: str) -> Rig:
    """The rig with poses, and focal lengths with `lenses`, that fit the person's matches; each change is logged."""
    found = adjust(seen, rig.cameras, focal=lenses, shared=shared, bands=(ASTRAY, *BANDS))
    return replace(rig, cameras=tuple(changed(rig.cameras, found.cameras, where)))


def changed(given: Sequence[Camera], found: Sequence[Camera], where: str) -> list[Camera]:
    """Cameras that were `found`, laid on the `given` ones of the same names, and a line on how each differs."""
    own = {camera.name: camera for camera in given}
    result = laid_on(found, [own[camera.name] for camera in found])
    for after in result:
        before = own[after.name]
        angle, away = change(before.camera_from_world, after.camera_from_world)
        log.info(
            "%s: camera %s refined: turned by %.2f degrees, moved by %.3g units, focal length %.1f to %.1f pixels",
            where, after.name, angle, away, before.intrinsics[0, 0], after.intrinsics[0, 0],
        )  # fmt: skip
    return result


def unsettled(start: Placed, rig: Rig) -> list[str]:
    """A line on cameras found anew that matches along epipolar lines moved far from where the first ones put them: the
    two agree where pictures tell enough, and both fit their own matches anyway."""
    own = {camera.name: camera for camera in start.cameras.values()}
    before = laid_on([own[camera.name] for camera in rig.cameras], rig.cameras)
    target = common_point(rig.cameras)
    moved = {
        camera.name: np.linalg.norm(first.centre - camera.centre) / np.linalg.norm(camera.centre - target)
        for first, camera in zip(before, rig.cameras, strict=True)
    }
    if not (far := [f"{name} ({share:.1%})" for name, share in moved.items() if share > SETTLED]):
        return []
    return [
        f"cameras {', '.join(far)} moved by so much of their distance when they were refined; expected under "
        f"{SETTLED:.1%}: where they stand is uncertain (more time steps: calibrate.moments; sharper, larger "
        "pictures; or a calibration)"
    ]


def laid_on(cameras: Sequence[Camera], onto: Sequence[Camera]) -> list[Camera]:
    """Cameras of any unit and axes, moved to where most of the same cameras `onto` stand, in their unit.

    Raises DataError where their centres lie on one line.
    """
    onto_from_here = similarity(cameras, onto)
    rotation = onto_from_here.rotation.matrix()
    result = []
    for camera in cameras:
        pose = np.eye(4)
        pose[:3, :3] = camera.camera_from_world[:3, :3] @ rotation.T
        pose[:3, 3] = -pose[:3, :3] @ (onto_from_here * camera.centre)
        result.append(replace(camera, camera_from_world=pose))
    return result


def similarity(cameras: Sequence[Camera], onto: Sequence[Camera]) -> pycolmap.Sim3d:
    """What takes most centres of the cameras to those of the same cameras `onto`. Raises DataError as `laid_on`."""
    centres, targets = (np.stack([camera.centre for camera in rig]) for rig in (cameras, onto))
    use = np.ones(len(centres), bool)
    for _ in range(2):
        onto_from_here = pycolmap.estimate_sim3d(centres[use], targets[use])
        if onto_from_here is None:
            raise DataError("the cameras stand on one line, which leaves open how they are turned; expected a rig")
        away = np.linalg.norm(onto_from_here * centres - targets, axis=1)
        use = away <= FAR * np.median(away) + 1e-12
    return onto_from_here
