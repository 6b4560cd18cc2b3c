"""calibrate: a capture's calibration to cameras.json at the working scale, in metres, held against what cameras see."""

from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import Rig, write_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import Capture
from pipeline.capture.pictures.decode import read_source
from pipeline.capture.pictures.ingest import Developer
from pipeline.capture.plausible import check_rig, common_point
from pipeline.capture.sfm.act import settle
from pipeline.capture.sfm.find import find, place, unposed_rig
from pipeline.capture.sfm.matching.matches import look
from pipeline.capture.sfm.matching.pictures import MOMENTS, few_moments, shortest, views_of
from pipeline.capture.sfm.matching.quality import cut_heads
from pipeline.capture.sfm.refine import astray, changed, refined, unsettled
from pipeline.detect import models
from pipeline.detect.late import FEWEST as FEWEST_FRAMES
from pipeline.detect.late import late_cameras, watch
from pipeline.detect.person import person_mask
from pipeline.errors import DataError
from pipeline.settings.calibrate import CalibrateSettings

WATCHED = 24  # successive frames from the middle of a sequence, in which a camera that lags is looked for
METRES = 0.15  # a capture that does not say its unit is metric if its heads are off the average by less


def placed(capture: Capture, options: Namespace) -> Rig:
    """The capture's cameras in its own unit: given, or found from what they see; those that do not fit dealt with."""
    settings: CalibrateSettings = options.settings
    known = False  # whether focal lengths are
    names, sequence = [name for name in capture.cameras() if name not in options.without], options.sequence
    if capture.posed:
        rig = read_rig_of(capture, settings.scale, names)
        if not sequence:
            return rig
    elif not sequence:
        raise DataError(f"{capture.folder}: nothing says where its cameras stand; expected --sequence to find them")
    else:
        rig, known = unposed_rig(capture, sequence, settings.scale, names)
    by_person = not capture.posed or settings.refine != "nothing"
    moments = few_moments(capture, sequence, settings.moments if by_person else MOMENTS)
    where = f"{capture.folder}: {sequence}, frames {', '.join(map(str, moments))}"
    find_person = person_mask if by_person and models.present() else None
    views = views_of(capture, sequence, rig, moments, find_person)
    for line in cut_heads(views, moments):
        cli.log.warning("%s: %s", capture.folder, line)
    seen = [look(view) for view in views]
    refine = settings.refine if capture.posed else "anew"
    start = place(rig, seen, known or capture.posed, settings.one_lens) if refine in ("anew", "where_off") else None
    if start and refine == "where_off":
        refine = "anew" if astray(rig, seen, start, where) else "nothing"
    if start and refine == "anew":
        given = rig
        rig, seen = find(rig, seen, start, settings.one_lens, settings.off_cameras == "drop", where)
        for line in unsettled(start, rig):
            cli.log.warning("%s: %s", where, line)
        if capture.posed:
            rig = replace(rig, cameras=tuple(changed(given.cameras, rig.cameras, where)))
    elif refine != "nothing":
        rig = refined(rig, seen, lenses=refine == "lenses", shared=settings.one_lens, where=where)
    return settle(rig, seen, settings.off_cameras, where, partial(late, capture, sequence))


def late(capture: Capture, sequence: str, rig: Rig) -> dict[int, int]:
    """Cameras by number that lag behind the others, with the frames; none where faces are not looked for."""
    sources, frames = capture.pictures(sequence), shortest(capture, sequence)
    start = max(frames - WATCHED, 0) // 2
    if not models.present() or frames < FEWEST_FRAMES:
        return {}
    aim, develop = common_point(rig.cameras), {camera.name: Developer(camera).shape for camera in rig.cameras}
    numbers = range(start, min(start + WATCHED, frames))
    return late_cameras(rig, watch(rig, aim, lambda name: map(develop[name], read_source(sources[name], numbers))))


def unit(capture: Capture, rig: Rig, options: Namespace) -> float:
    """Metres in one unit of the capture's world: given, or as the capture says, or estimated."""
    settings: CalibrateSettings = options.settings
    if settings.metres_per_unit is not None:
        return settings.metres_per_unit
    if settings.known_metres is not None:
        first, second = (rig.cameras[rig.index(name)].centre for name in settings.known_cameras)
        return settings.known_metres / float(np.linalg.norm(first - second))
    if capture.metric:
        return 1.0
    if options.prior is None or options.sequence is None:
        raise DataError(f"{capture.folder}: not known to be metric; expected calibrate.metres_per_unit, or --prior")
    # With PyTorch, which takes seconds to import, and most captures are metric.
    from pipeline.head.fit.unit import metres_per_unit
    from pipeline.head.model.prior import load_prior

    found = metres_per_unit(load_prior(options.prior), rig, pictures(capture, rig, options.sequence), settings.iris_mm)
    if capture.metric is None and abs(found - 1) < METRES:
        return 1.0
    cli.log.warning(
        "%s: one unit is %.4g m by the size of the %s, an estimate; better set calibrate.metres_per_unit",
        capture.folder, found, "irises" if settings.iris_mm else "head (heads differ by some 5 %)",
    )  # fmt: skip
    return found


def pictures(capture: Capture, rig: Rig, sequence: str) -> list[list[np.ndarray]]:
    """Pictures (T, C) of (H, W, 3) uint8 sRGB of a few moments of a sequence."""
    sources = capture.pictures(sequence)
    developers = {camera.name: Developer(camera) for camera in rig.cameras}
    return [
        [
            developers[camera.name](next(read_source(sources[camera.name], range(number, number + 1))))
            for camera in rig.cameras
        ]
        for number in few_moments(capture, sequence)
    ]


def main() -> None:
    """Read the capture's calibration, compare it with a moment's pictures, write the rig."""
    arguments = cli.parser(__doc__, CalibrateSettings)
    arguments.add_argument("--capture", type=Path, required=True, help="the subject's folder")
    arguments.add_argument("--without", nargs="+", default=[], help="cameras that lack a sequence, left out")
    arguments.add_argument("--sequence", help="the sequence whose first pictures are looked at; none without")
    arguments.add_argument(
        "--held-out-cameras", default="", help="names, separated by commas, of which one must be left"
    )
    arguments.add_argument("--prior", type=cli.existing_file, help="head prior, for captures that are not metric")
    arguments.add_argument("--output", type=Path, required=True, help="cameras.json")
    options = arguments.parse_args()
    capture = open_capture(options.capture)
    rig = placed(capture, options)
    check_held_out(capture, rig, set(options.held_out_cameras.split(",")) - set(options.without))
    rig = in_metres(rig, unit(capture, rig, options))
    check_rig(rig.cameras, True, str(capture.folder))
    write_rig(options.output, rig, cli.record("calibrate", options))
    first = rig.cameras[0]
    cli.log.info("%s: %d cameras, the first %dx%d", options.output, len(rig.cameras), first.width, first.height)


def check_held_out(capture: Capture, rig: Rig, held_out: set[str]) -> None:
    """Raise DataError where the rig lacks all cameras that the split holds out: training would say so, hours later."""
    known = [name for name in capture.cameras() if name in held_out]
    lost = [name for name in known if name not in rig.names]
    if not lost:
        return
    said = f"{capture.folder}: camera {', '.join(lost)}, held out by split.cameras, does not fit what it sees: left out"
    if len(lost) == len(known):
        raise DataError(f"{said}; expected one that fits, of {', '.join(rig.names)}")
    cli.log.warning("%s", said)


def in_metres(rig: Rig, metres: float) -> Rig:
    """A rig whose unit is `metres` long, with its cameras placed in metres."""
    scale = np.ones((4, 4))
    scale[:3, 3] = metres
    cameras = tuple(replace(c, camera_from_world=c.camera_from_world * scale) for c in rig.cameras)
    return Rig(cameras, rig.moving)


if __name__ == "__main__":
    cli.run(main)
