"""Formats of captures: each is one file of this package, found by looking, and recognises its own folders."""

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from pipeline.capture.formats.base import Capture
from pipeline.errors import ConfigError

LISTINGS = (
    *("cameras", "sequences", "pictures", "masks", "plates", "landmarks", "clouds", "tints"),
    "calibration_files",
)


def formats() -> list[type[Capture]]:
    """Every format, sorted by name."""
    return sorted(_found(), key=lambda found: found.kind)


def _found() -> Iterator[type[Capture]]:
    for module in iter_modules(__path__, f"{__name__}."):
        for value in vars(import_module(module.name)).values():
            own = isinstance(value, type) and value.__module__ == module.name
            if own and issubclass(value, Capture) and value is not Capture:
                yield value


def open_capture(folder: Path) -> Capture:
    """A folder as a capture of the one format that recognises it. Raises ConfigError where none does, or several do."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise ConfigError(f"{folder}: {what}; expected a capture, a folder of what cameras recorded")
    found = [kind for kind in formats() if kind.recognises(folder)]
    found = [kind for kind in found if not kind.fallback] or found
    less = {name for kind in found for name in kind.precedes}
    found = [kind for kind in found if kind.kind not in less]
    if len(found) != 1:
        names = ", ".join(kind.kind for kind in found or formats())
        said = f"looks like {names}" if found else f"is no capture of a known format ({names})"
        raise ConfigError(f"{folder}: {said}; expected one of them, see docs/captures")
    capture = found[0](folder)
    for listing in LISTINGS:  # every job asks, so each answer is kept
        setattr(capture, listing, cache(getattr(capture, listing)))
    return capture
