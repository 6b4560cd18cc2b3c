"""Which sequence and which cameras of a data set are asked for; read without PyTorch, which takes two seconds."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.cli import log
from pipeline.errors import DataError
from pipeline.store.reel import Reel


def camera_places(reel: Reel, array: str = "depth") -> dict[str, int]:
    """Places on the camera axis of an array by camera name."""
    names = reel.attributes.get("cameras")
    if names is None or len(names) != reel.shape(array)[0]:
        raise DataError(f"{reel.paths[0]}: cameras are {names}; expected {reel.shape(array)[0]} names")
    return {name: place for place, name in enumerate(names)}


def chosen_cameras(buffers: Reel, names: str) -> dict[str, int]:
    """Places of the named cameras that `cameras_there` finds on the camera axis, in the order of the names; without a
    name all."""
    places = camera_places(buffers)
    chosen = [name for name in names.split(",") if name]
    return {name: places[name] for name in cameras_there(chosen, places, buffers.paths[0])} if chosen else places


def cameras_there(names: Sequence[str], known: Collection[str], where: Path) -> list[str]:
    """Those of the named cameras that are `known` in a file.

    Those that calibrate has left out are passed over, with a warning. Raises DataError where it left out all of them.
    """
    there = [name for name in names if name in known]
    lost = ", ".join(name for name in names if name not in known)
    if names and not there:
        raise DataError(f"{where}: no camera {lost}; it has {', '.join(known)}")
    if lost:
        log.warning("%s: no camera %s, which calibrate left out", where, lost)
    return there


def single(reels: dict[str, Reel]) -> Reel:
    """The only reel. Raises DataError when there are several sequences."""
    if len(reels) != 1:
        raise DataError(f"files of the sequences {', '.join(reels)}; expected one sequence")
    return next(iter(reels.values()))
