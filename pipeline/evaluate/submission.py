"""A submission to the NeRSemble benchmark: films of an avatar, as its cameras see them, in one zip.

    python -m pipeline.evaluate.submission results --track mono_flame_avatar --output submission.zip

Every {person}/{sequence}/cam_{serial}.mp4 that the track asks for is made of the renders of that person,
put into the camera's whole picture over white. A film that is missing is an error, but for --partial, which is for
trying.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from pipeline import cli
from pipeline.cameras.camera import Camera
from pipeline.cameras.resample import placed
from pipeline.cameras.rig import read_rig
from pipeline.errors import DataError
from pipeline.film import write_frames
from pipeline.store.chunk import publish
from pipeline.store.reel import Reel, open_reels


@dataclass(frozen=True)
class Track:
    """What a track of the benchmark asks for: `films` (person, sequence), each from all `cameras`, `width` x `height`
    pixels at `rate` pictures per second."""

    films: tuple[tuple[str, str], ...]
    cameras: tuple[str, ...]
    width: int
    height: int
    rate: Fraction


HELD_OUT = ("EMO-1-shout+laugh", "FREE", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey")
TRACKS = {  # as the benchmark's toolkit of 2026 has them
    "nvs": Track(
        (("388", "GLASSES"), ("422", "EXP-2-eyes"), ("443", "FREE"), ("445", "EXP-6-tongue-1"), ("475", "HAIR")),
        ("222200046", "222200037", "222200039"),
        1100,
        1604,
        Fraction(73),
    ),
    "mono_flame_avatar": Track(
        tuple((person, sequence) for person in ("393", "404", "461", "477", "486") for sequence in HELD_OUT),
        ("222200037", "222200046", "220700191", "222200039"),
        512,
        512,
        Fraction(243, 10),
    ),
}


def sized(camera: Camera, track: Track) -> Camera:
    """The camera with the track's number of pixels. Raises DataError where that is no plain scaling."""
    scale = track.width / camera.width
    if abs(scale * camera.height - track.height) > 1:
        raise DataError(
            f"camera {camera.name}: {camera.width}x{camera.height} pixels; expected the shape of "
            f"{track.width}x{track.height}"
        )
    intrinsics = np.diag([scale, scale, 1.0]) @ camera.intrinsics
    return replace(camera, width=track.width, height=track.height, intrinsics=intrinsics)


def pictures(reel: Reel, crop: Camera, whole: Camera) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 of a film by its camera `crop`, as `whole` sees them."""
    place = reel.attributes["cameras"].index(crop.name)
    for step in range(reel.steps):
        yield placed(reel.picture("rgb", step, place), crop, whole)


def write_submission(path: Path, results: Path, track: Track, partial: bool = False) -> list[str]:
    """Publish the zip; returns the films in it. Raises DataError naming the first film that is not there."""
    done = []
    with publish(path) as unfinished, ZipFile(unfinished, "w") as archive, tempfile.TemporaryDirectory() as folder:
        for person, sequence in track.films:
            renders = results / person / "renders" / sequence / "capture.zarr.zip"
            if not renders.is_file():
                if partial:
                    continue
                raise DataError(f"{renders}: missing; expected the avatar of {person} in {sequence}, which is held out")
            cropped, whole = (read_rig(results / person / name) for name in ("rigs/capture.json", "cameras.json"))
            with open_reels([renders]) as reels:
                reel = reels[sequence]
                for camera in track.cameras:
                    if camera not in reel.attributes["cameras"]:
                        if partial:
                            continue
                        raise DataError(f"{renders}: no camera {camera}; expected it in split.cameras or films.cameras")
                    crop = cropped.cameras[cropped.index(camera)]
                    seen = sized(whole.cameras[whole.index(camera)], track)
                    film = Path(folder) / "film.mp4"
                    write_frames(film, lambda a=reel, b=crop, c=seen: pictures(a, b, c), track.rate, 1, 1)
                    name = f"{int(person):03d}/{sequence}/cam_{camera}.mp4"
                    archive.write(film, name)
                    done.append(name)
                    cli.log.info("%s: %d pictures", name, reel.steps)
        if not done:
            raise DataError(
                f"{results}: none of the track's people and sequences; expected {track.films[0]} and others"
            )
    return done


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of all subjects' results")
    parser.add_argument("--track", choices=TRACKS, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the zip")
    parser.add_argument("--partial", action="store_true", help="leave out films that are not there")
    given = parser.parse_args()
    done = write_submission(given.output, given.results, TRACKS[given.track], given.partial)
    cli.log.info("%s: %d films", given.output, len(done))


if __name__ == "__main__":
    cli.run(main)
