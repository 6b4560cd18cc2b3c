"""Look at a folder of recordings, check it, and write the table and the config that run the workflow on it.

    python -m pipeline.capture.new FOLDER [--subject NAME]

writes NAME.tsv and NAME.yaml into the present folder and prints what was found, what will be held out and what to run.
It opens the calibration and one picture of each camera.
"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline import cli
from pipeline.cameras.camera import Camera
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import Capture, Film
from pipeline.capture.pictures.cover import check_alpha, check_mask
from pipeline.capture.pictures.decode import probe_source, read_masks
from pipeline.capture.pictures.video import check_rates
from pipeline.capture.plausible import FEWEST, check_count
from pipeline.errors import DataError

HELD_OUT_SHARE = 0.2  # of the time of a capture that has one sequence
EVERY = 8  # of the photographs of one moment, that is held out
ENOUGH = 10  # frames; of fewer no time is held out
FOR_THREE_VIEWS = 5  # cameras; of fewer hardly any point is seen by the three that agree otherwise
# A motion in which nobody moves: what a camera circles where one moment is all
STILL, STILL_SECONDS, MOTION = "still", 4.0, "_still.json"
LONGEST = 800  # pixels of the working picture's longer side, more on request
ALIKE = 1e-3  # share that the focal lengths of one lens differ by at most
MANY = 8  # photographs, of which one may be left out without much loss
LONG = 100  # frames from which spans are longer: a job should last minutes


def frame_counts(capture: Capture) -> dict[str, int]:
    """Frames of every sequence. Raises DataError where cameras disagree or none recorded it."""
    counts = {}
    for sequence in capture.sequences():
        infos = {name: probe_source(source) for name, source in capture.pictures(sequence).items()}
        found = {name: info.frames for name, info in infos.items()}
        if len(set(found.values())) != 1:
            listed = ", ".join(f"{name}: {count}" for name, count in found.items())
            raise DataError(
                f"{capture.folder}: {sequence}: frames of each camera: {listed or 'none'}; expected equal numbers"
            )
        check_rates(f"{capture.folder}: {sequence}", infos)
        counts[sequence] = next(iter(found.values()))
    if not counts:
        raise DataError(
            f"{capture.folder}: no recordings in a capture of kind {capture.kind}; expected at least one sequence"
        )
    return counts


def recorded_sizes(capture: Capture, names: list[str]) -> set[tuple[int, int]]:
    """Width and height of what the cameras recorded of the first sequence."""
    sources = capture.pictures(capture.sequences()[0])
    return {(info.width, info.height) for name in names for info in [probe_source(sources[name])]}


def common_cameras(capture: Capture) -> list[str]:
    """Cameras that recorded every sequence."""
    sources = [capture.pictures(sequence) for sequence in capture.sequences()]
    return [name for name in capture.cameras() if all(name in source for source in sources)]


def held_out_cameras(capture: Capture, names: list[str], cameras: list[Camera] | None, frames: int) -> list[str]:
    """Of one moment every eighth picture, for no time can be held out. Else a camera that training can do without:
    neither the most central nor one at the edge, by viewing direction, or by name where no pose is known yet."""
    if frames == 1 and len(names) >= 2 * EVERY:
        return names[EVERY // 2 :: EVERY]
    if cameras is None:
        return [names[len(names) // 4]]
    axes = np.stack([camera.camera_from_world[2, :3] for camera in cameras])
    central = axes @ axes.mean(0)
    order = np.argsort(-central, kind="stable")
    return [cameras[order[len(order) // 4]].name]


def sequences_and_split(counts: dict[str, int]) -> tuple[list[tuple[str, int]], list[str]]:
    """Rows of the table, sequence and frames, and the names of those held out: the shortest of several sequences, the
    last share of time of a single one."""
    if len(counts) > 1:
        return list(counts.items()), [min(counts, key=lambda name: counts[name])]
    ((name, frames),) = counts.items()
    if frames < ENOUGH:
        return [(name, frames)], []
    cut = round(frames * (1 - HELD_OUT_SHARE))
    parts = [(f"{name}@0-{cut}", cut), (f"{name}@{cut}-{frames}", frames - cut)]
    return parts, [parts[1][0]]


def held_out_line(cameras: list[str], sequences: list[str]) -> str:
    """What training will not see, in words."""
    time = f"sequence {sequences[0]}" if sequences else "no time: too few frames"
    return f"held out: camera {', '.join(cameras)}, {time}"


@dataclass(frozen=True)
class Found:
    """What a folder holds: `counts` of frames by sequence, `names` of the cameras that recorded all of them, `sizes` of
    their pictures; what of it is held out: the cameras `apart`, and the sequences `held_out` of the table's `rows`;
    whether one camera was `carried` round a person, who may have moved."""

    folder: Path
    subject: str
    capture: Capture
    counts: dict[str, int]
    names: list[str]
    sizes: list[tuple[int, int]]
    apart: list[str]
    rows: list[tuple[str, int]]
    held_out: list[str]
    carried: bool

    @property
    def one_moment(self) -> bool:
        """Whether it is photographs of one moment."""
        return list(self.counts.values()) == [1]

    def file(self, ending: str) -> Path:
        """A file that is written for it, in the present folder."""
        return Path(f"{self.subject}{ending}")


def look(folder: Path, subject: str) -> Found:
    """Recognise and check. Raises the errors of `open_capture` and DataError for what cannot be worked with."""
    capture = open_capture(folder)
    for sequence in capture.sequences():
        if missing := [path for path in capture.files(sequence) if not path.is_file()]:
            raise DataError(f"{missing[0]}: no such file ({len(missing)} are missing); expected it in {sequence}")
    counts, names = frame_counts(capture), common_cameras(capture)
    check_enough(capture, names)
    rig = read_rig_of(capture, 1.0, names) if capture.posed else None
    check_masks(capture, names)
    sizes = sorted({(one.width, one.height) for one in rig.cameras} if rig else recorded_sizes(capture, names))
    rows, held_out = sequences_and_split(counts)
    apart = held_out_cameras(capture, names, list(rig.cameras) if rig else None, max(counts.values()))
    carried = list(counts.values()) == [1] and len(names) >= MANY and (rig is None or one_lens(list(rig.cameras)))
    return Found(folder, subject, capture, counts, names, sizes, apart, rows, held_out, carried)


def check_enough(capture: Capture, names: list[str]) -> None:
    """Raise DataError where too few cameras, `names`, recorded all sequences: says which sequence lacks most."""
    sources = {sequence: capture.pictures(sequence) for sequence in capture.sequences()}
    where = str(capture.folder)
    if len(names) < FEWEST <= len(capture.cameras()):
        least = min(sources, key=lambda sequence: len(sources[sequence]))
        where += f": sequence {least} has {len(sources[least])} of {len(capture.cameras())} cameras: leave it out?"
    elif len(names) == 1 and all(isinstance(own[names[0]], Film) for own in sources.values()):
        film = next(iter(sources.values()))[names[0]].files()[0]
        where += ": one video; of a camera carried round a still person take pictures: "
        where += f"ffmpeg -i {film.name} -vf fps=2 images/%03d.jpg"
    check_count(names, where)


def check_masks(capture: Capture, names: list[str]) -> None:
    """Raise DataError where a camera's first mask cannot be that of a person in its pictures."""
    for sequence in capture.sequences():
        sources, masks = capture.pictures(sequence), capture.masks(sequence)
        for name in (name for name in names if name in masks):
            check_mask(masks[name], sources[name], probe_source(sources[name]))
            try:
                check_alpha(next(read_masks(masks[name], range(1))), True)
            except DataError as error:
                raise DataError(f"{masks[name].files()[0]}: camera {name}: {error}") from error


def check_words(subject: str, folder: Path) -> None:
    """Raise DataError where the table or the workflow would take a name for something else."""
    if found := [sign for sign in "/~{}<>\t\n" if sign in subject] or [s for s in "#." if subject.startswith(s)]:
        raise DataError(f"subject {subject!r} has a {found[0]!r}; expected a name without, see --subject")
    if found := [sign for sign in "{}<>\t\n" if sign in str(folder)]:
        raise DataError(
            f"folder {str(folder)!r} has a {found[0]!r} in it; expected a path without: rename it, or link it"
        )


def one_lens(cameras: list[Camera]) -> bool:
    """Whether all cameras have one size and one focal length: one camera that was carried round."""
    sizes = {(camera.width, camera.height) for camera in cameras}
    focal = [camera.intrinsics[0, 0] for camera in cameras]
    return len(sizes) == 1 and max(focal) - min(focal) <= ALIKE * max(focal)


def write(found: Found) -> None:
    """Write table and config, and for one moment a motion that holds still."""
    rows = (f"{found.subject}\t{name}\t{found.folder}\t{frames}\n" for name, frames in found.rows)
    found.file(".tsv").write_text("subject\tsequence\tfolder\tframes\n" + "".join(rows))
    if found.one_moment:
        keys = [{"seconds": seconds, "like": f"{next(iter(found.counts))}:0"} for seconds in (0, STILL_SECONDS)]
        found.file(MOTION).write_text(json.dumps({"keyframes": keys}) + "\n")
    text = yaml.safe_dump(settings(found), sort_keys=False)
    found.file(".yaml").write_text(f"# {found.capture.kind}: {found.folder}\n{text}")


def settings(found: Found) -> dict[str, Any]:
    """The config: what differs from the defaults for this capture."""
    longest = max(map(max, found.sizes))
    calibrate: dict[str, Any] = {"scale": round(LONGEST / longest, 3)} if longest > LONGEST else {}
    if found.carried:
        calibrate |= {"off_cameras": "drop"} | ({"refine": "where_off"} if found.capture.posed else {})
    motions = {"motions": {STILL: str(found.file(MOTION))}} if found.one_moment else {}
    return {
        "captures": str(found.file(".tsv")),
        "avatars": [found.subject],
        "split": {"cameras": found.apart, "sequences": found.held_out},
        "films": {"orbits": list(found.held_out), **motions},
        **({"calibrate": calibrate} if calibrate else {}),
        **({"pointcloud": {"min_views": 2}} if len(found.names) < FOR_THREE_VIEWS else {}),
        **({"span": 64} if max(found.counts.values()) >= LONG else {}),
    }


def lines(found: Found) -> list[str]:
    """What is printed: what was found, what will be held out, what to run."""
    capture, names = found.capture, found.names
    masks = capture.masks(next(iter(found.counts)))
    beside = "masks" if masks else "plates" if capture.plates() else "no masks, no plates"
    if masks and (bare := [name for name in names if name not in masks]):
        beside += f", but none of {', '.join(bare)}"
    shapes = ", ".join(f"{width}x{height}" for width, height in found.sizes)
    said = [f"{found.folder} is a capture of the kind {capture.kind}: {len(names)} cameras of {shapes}, {beside}"]
    said.append("sequences: " + ", ".join(f"{name} ({count} frames)" for name, count in found.counts.items()))
    if left_out := sorted(set(capture.cameras()) - set(names)):
        said.append(f"left out, since they lack a sequence: {', '.join(left_out)}")
    said += [f"{name}: not used: {line}" for name in found.counts for line in capture.unused(name)]
    said += capture.ignored()
    said.append(held_out_line(found.apart, found.held_out))
    if len(names) < FOR_THREE_VIEWS:
        said.append(
            f"{len(names)} cameras: a point counts where two agree (pointcloud.min_views: 2), so more are wrong"
        )
    if (longest := max(map(max, found.sizes))) > LONGEST:
        said.append(f"working size of the pictures: {LONGEST / longest:.3g} of the recorded size (calibrate.scale)")
    if found.carried and capture.posed:
        said.append(
            "photographs of one lens: where the person moved, cameras are placed anew (calibrate.refine: where_off)"
        )
    if found.carried:
        said.append("pictures that cannot be placed are left out and named (calibrate.off_cameras: drop)")
    if not capture.posed:
        said.append("nothing says where the cameras stand: calibrate finds them from what they see")
    if not capture.metric:
        said.append("unit not stated: estimated from the size of the head, unless calibrate.metres_per_unit is set")
    run = f"snakemake --cores all --configfile {shlex.quote(str(found.file('.yaml')))}"
    said += [f"wrote {found.file('.tsv')} and {found.file('.yaml')}", f"run: {run}"]
    if found.one_moment:
        film = shlex.quote(f"results/{found.subject}/renders/{STILL}/orbit.mp4")
        said.append(f"one moment makes an avatar of one expression; to see it from a moving camera: {run} -- {film}")
    return said


def main() -> None:
    """Look, check, write, say what to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subject", help="the person's name in the table; the folder's without it")
    options = parser.parse_args()
    subject = options.subject or options.folder.resolve().name
    check_words(subject, options.folder)
    for path in (Path(f"{subject}.tsv"), Path(f"{subject}.yaml")):
        if path.exists():
            raise DataError(f"{path}: is there already; expected a new name, see --subject")
    found = look(options.folder, subject)
    write(found)
    sys.stdout.write("\n".join(lines(found)) + "\n")


if __name__ == "__main__":
    cli.run(main)
