"""What a film is of: a motion by its name, seen by a camera or on a path by its name."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.capture.curves import film_steps
from pipeline.errors import ConfigError, DataError
from pipeline.settings.animate import AnimateSettings
from pipeline.settings.keyframes import Animation, CameraPath, read_keys

PATHS = ("capture", "orbit", "shake")  # rigs that are there without being named
HEAD = "@head"  # ends the name of a rig that is held to the head


class View(NamedTuple):
    """A rig by its name: `kind` as the rig stage's --rig, the camera or the path's file, and what stands still."""

    kind: str
    name: str
    stabilised: str


def view(rig: str, paths: dict[str, str]) -> View:
    """What "orbit", "shake@head", a camera's name or a path's means; a name that is nothing else is a camera's."""
    name = rig.removesuffix(HEAD)
    stabilised = "head" if rig.endswith(HEAD) else "world"
    if name in paths:
        return View("path", paths[name], stabilised)
    return View(name if name in PATHS else "camera", name, stabilised)


def motion_steps(motions: dict[str, str], rate: float, settings: AnimateSettings) -> dict[str, int]:
    """Time steps of every motion, of its file's seconds at the film's rate. Raises ConfigError naming the motion."""
    found = {}
    for name, file in motions.items():
        path = Path(file)
        try:
            if path.suffix.lower() == ".csv":
                found[name] = film_steps(path, settings.timecode_rate, rate)
            else:
                found[name] = read_keys(path, Animation).steps(rate)
        except DataError as error:
            raise ConfigError(f"films.motions: {name}: {error}") from error
    return found


def check_names(key: str, files: dict[str, str], taken: Iterable[str]) -> None:
    """Raise ConfigError for a name that cannot be part of a path or that means something else already."""
    for name, file in files.items():
        if not name or name.startswith(".") or set(name) & set("/~@"):
            raise ConfigError(f"{key}: {name!r} cannot be the name of a folder, without / ~ @ and no dot first")
        if name in taken:
            raise ConfigError(f"{key}: {name!r} is taken by what was recorded or is there anyway")
        if not Path(file).is_file():
            raise ConfigError(f"{key}: {name}: no file {file}")
        if key == "films.paths":
            try:
                read_keys(Path(file), CameraPath)
            except DataError as error:
                raise ConfigError(f"{key}: {name}: {error}") from error
