"""Videos and pictures laid out in folders, one per camera, for the formats that keep them so.

    videos/<sequence>/<camera>.mp4       or videos/<camera>.mp4 where there is one sequence
    images/<sequence>/<camera>/<frame>.jpg   or images/<camera>/<frame>.jpg
    images/<camera>.jpg                  photographs of one still moment, each a camera of its own
    masks/...                            the same, as PNG or video

A plain folder of pictures or videos counts as its own `images` or `videos`.
"""

import re
from collections.abc import Collection
from pathlib import Path

from pipeline.capture.formats.base import Film, Source, Stills
from pipeline.capture.formats.names import (
    check_folder,
    check_names,
    check_numbers,
    check_starts,
    in_order,
    of_mask,
    visible,
)
from pipeline.capture.formats.transparent import has_alpha
from pipeline.errors import ConfigError

VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}
# Recognised as pictures, so that they are named: nothing here reads what phones and cameras write besides JPEG.
UNREAD = {".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"}
# Names of cameras' and masks' files in other layouts.
MEANT = re.compile(
    r"^(fg_)?(mask|matte|matting|alpha|segmentation)|^sparse$|"
    r"^(cam|calib|pose|intrinsic|extrinsic|metadata|sfm|bundle|krt|transforms)\w*\.(json|xml|np[yz]|txt|toml|ya?ml|csv|out)$",
    re.IGNORECASE,
)
ONLY = "all"  # the one sequence of a folder that names none
MASKS = "masks"
# Folders beside a capture's cameras that hold no camera's pictures.
NO_CAMERA = {MASKS, "mask", "fg_masks", "sparse", "colmap", "depth", "depths", "confidence", "normals"}


def sequences(folder: Path) -> list[str]:
    """Names of the sequences; ONLY where the folder names none."""
    return sorted({name for root in _roots(folder) for name in _layout(root)})


def picture_sources(folder: Path, sequence: str) -> dict[str, Source]:
    """What each camera recorded of a sequence. Raises ConfigError where names are ambiguous."""
    found = next((_layout(root)[sequence] for root in _roots(folder) if sequence in _layout(root)), {})
    for parent in sorted({path.parent for source in found.values() for path in source.files()}):
        check_folder(parent, VIDEOS, PICTURES, UNREAD)
    check_names(folder, found)
    check_numbers(found)
    check_starts(found)
    return found


def mask_sources(folder: Path, sequence: str, pictures: dict[str, Source]) -> dict[str, Source]:
    """The masks in `masks/` of the cameras that have some; without that folder `<picture>_mask.png` beside the
    pictures, else the alpha of their pictures.

    Raises ConfigError where a picture has none, or `masks/` is laid out in another way.
    """
    root, stills = folder / MASKS, {name: s for name, s in pictures.items() if isinstance(s, Stills)}
    if not root.is_dir():
        beside = {name: Stills(tuple(map(_mask_beside, source.paths))) for name, source in stills.items()}
        if any(source.paths[0].is_file() for source in beside.values()):
            return dict(beside)
        return {name: source for name, source in stills.items() if has_alpha(source.paths[0])}
    layout = _layout(root)
    named = {of_mask(name, pictures): source for name, source in layout.get(sequence, {}).items()}
    if pictures and not named.keys() & pictures.keys():
        has = ", ".join(list(named or layout)[:4]) or "nothing"
        raise ConfigError(
            f"{root}: has {has}; expected masks of {', '.join(list(pictures)[:4])}, laid out as the pictures are"
        )
    return {name: _paired(name, named[name], pictures[name]) for name in pictures if name in named}


def unread_folders(folder: Path, read: Collection[str] = ()) -> list[str]:
    """A line on each folder or file beside the pictures that looks as if it described them, but is not `read`."""
    names = sorted(path.name for path in visible(folder) if MEANT.search(path.name) and path.name not in {MASKS, *read})
    return [f"{folder / name}: not read; see docs/captures for what is" for name in names]


def _paired(camera: str, masks: Source, pictures: Source) -> Source:
    """A camera's masks, each in its picture's place: by name where they are named alike, else in order."""
    if not (isinstance(masks, Stills) and isinstance(pictures, Stills)):
        return masks
    stems = [path.stem for path in pictures.paths]
    by_name = {of_mask(path.stem, stems): path for path in masks.paths}
    lost = [stem for stem in stems if stem not in by_name]
    if len(masks.paths) != len(stems) or 0 < len(lost) < len(stems):
        without = f", none of {lost[0]}" if 0 < len(lost) < len(stems) else ""
        raise ConfigError(
            f"{masks.paths[0].parent}: camera {camera} has {len(masks.paths)} masks{without} and {len(stems)} "
            "pictures; expected as many, named alike"
        )
    return masks if lost else Stills(tuple(by_name[stem] for stem in stems))


def _mask_beside(path: Path) -> Path:
    """Where the mask of a picture lies that has no folder of its own."""
    return path.with_name(f"{path.stem}_mask.png")


def _roots(folder: Path) -> list[Path]:
    named = [folder / name for name in ("videos", "images") if (folder / name).is_dir()]
    return named or [folder]


def _layout(root: Path) -> dict[str, dict[str, Source]]:
    """Sources by sequence and camera."""
    own = _films(root) or _pictures(root)
    if own:
        return {ONLY: own}
    folders = (path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith("."))
    inner = {path.name: path for path in folders if path.name not in NO_CAMERA}
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


def _films(folder: Path) -> dict[str, Source]:
    """Videos of a folder by the name of their camera: one video for each."""
    return {path.stem: Film(path) for path in sorted(visible(folder)) if path.suffix.lower() in VIDEOS}


def _pictures(folder: Path) -> dict[str, Source]:
    """Pictures of a folder by the name of their camera: one picture for each."""
    return {path.stem: Stills((path,)) for path in _picture_files(folder)}


def _series(folder: Path) -> Stills | None:
    """A folder of pictures, in the order of their numbers."""
    paths = _picture_files(folder) if folder.is_dir() else []
    return Stills(tuple(paths)) if paths else None


def _picture_files(folder: Path) -> list[Path]:
    """Pictures of a folder in order, without the masks beside them, and without originals of what is there as JPEG."""
    files = in_order(path for path in visible(folder) if path.suffix.lower() in PICTURES | UNREAD)
    read = {path.stem for path in files if path.suffix.lower() in PICTURES}
    masks = {f"{stem}_mask" for stem in read}
    return [
        path for path in files if path.stem not in masks and (path.suffix.lower() in PICTURES or path.stem not in read)
    ]
