"""Videos and pictures laid out in folders, one per camera, for the formats that keep them so.

    videos/<sequence>/<camera>.mp4       or videos/<camera>.mp4 where there is one sequence
    images/<sequence>/<camera>/<frame>.jpg   or images/<camera>/<frame>.jpg
    images/<camera>.jpg                  photographs of one still moment, each a camera of its own
    masks/...                            the same, as PNG or video

A plain folder of pictures or videos counts as its own `images` or `videos`.
"""

from pathlib import Path

from pipeline.capture.formats.base import Film, Source, Stills
from pipeline.capture.formats.transparent import has_alpha
from pipeline.errors import ConfigError

VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}
ONLY = "all"  # the one sequence of a folder that names none


def sequences(folder: Path) -> list[str]:
    """Names of the sequences; ONLY where the folder names none."""
    return sorted({name for root in _roots(folder) for name in _layout(root)})


def picture_sources(folder: Path, sequence: str) -> dict[str, Source]:
    """What each camera recorded of a sequence."""
    return next((_layout(root)[sequence] for root in _roots(folder) if sequence in _layout(root)), {})


def mask_sources(folder: Path, sequence: str, pictures: dict[str, Source]) -> dict[str, Source]:
    """The masks in `masks/` of the cameras that have some; without that folder the alpha of their pictures.

    Raises ConfigError where a picture has none.
    """
    root = folder / "masks"
    if not root.is_dir():
        stills = {name: source for name, source in pictures.items() if isinstance(source, Stills)}
        return {name: source for name, source in stills.items() if has_alpha(source.paths[0])}
    found = _layout(root).get(sequence, {})
    for name, source in found.items():
        seen = pictures.get(name)
        if isinstance(source, Stills) and isinstance(seen, Stills) and len(source.paths) != len(seen.paths):
            raise ConfigError(
                f"{root}: camera {name} has {len(source.paths)} masks and {len(seen.paths)} pictures; expected as many"
            )
    return found


def _roots(folder: Path) -> list[Path]:
    named = [folder / name for name in ("videos", "images") if (folder / name).is_dir()]
    return named or [folder]


def _layout(root: Path) -> dict[str, dict[str, Source]]:
    """Sources by sequence and camera."""
    own = _files(root)
    if own:
        return {ONLY: own}
    inner = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    deeper: dict[str, dict[str, Source]] = {
        name: {camera.name: source for camera in sorted(path.iterdir()) if (source := _series(camera))}
        for name, path in inner.items()
    }
    if any(deeper.values()):
        return {name: cameras for name, cameras in deeper.items() if cameras}
    films = {name: _films(path) for name, path in inner.items()}
    if any(films.values()):
        return {name: cameras for name, cameras in films.items() if cameras}
    series: dict[str, Source] = {name: source for name, path in inner.items() if (source := _series(path))}
    return {ONLY: series} if series else {}


def _files(root: Path) -> dict[str, Source]:
    """Videos or single pictures that lie in a folder itself, each of a camera of its own."""
    files = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    return _films(root) or {path.stem: Stills((path,)) for path in files if path.suffix.lower() in PICTURES}


def _films(folder: Path) -> dict[str, Source]:
    """Videos of a folder, by camera."""
    return {path.stem: Film(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEOS}


def _series(folder: Path) -> Stills | None:
    """A folder of pictures, in the order of their names."""
    if not folder.is_dir():
        return None
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    return Stills(tuple(paths)) if paths else None
