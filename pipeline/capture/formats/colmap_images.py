"""Names of the images of a COLMAP model, read without COLMAP: planning asks for them each time."""

import struct
from pathlib import Path

from pipeline.errors import DataError

HEAD = struct.Struct("<I7dI")  # id, rotation, translation, camera
POINT = 24  # bytes of an image's point: x, y and the number of the point in space


PARTS = ("cameras", "images", "points3D")  # that COLMAP reads a model only with
ENDINGS = (".bin", ".txt")  # in the order that it prefers them


def is_model(folder: Path) -> bool:
    """Whether a folder holds cameras and images of a model, whatever their coding."""
    return all(any((folder / f"{part}{ending}").is_file() for ending in ENDINGS) for part in PARTS[:2])


def image_names(model: Path) -> dict[int, str]:
    """Names by id. COLMAP itself cuts a name in a text model at the first space. Raises DataError."""
    there = {ending: [part for part in PARTS if (model / f"{part}{ending}").is_file()] for ending in ENDINGS}
    ending = next((ending for ending, parts in there.items() if parts == list(PARTS)), None)
    if ending is None:
        found = ", ".join(f"{part}{ending}" for ending, parts in there.items() for part in parts)
        raise DataError(f"{model}: has {found}; expected {', '.join(PARTS)}, all .bin or all .txt")
    path = model / f"images{ending}"
    try:
        names = _of_binary(path.read_bytes()) if ending == ".bin" else _of_text(path.read_text())
    except (ValueError, IndexError, struct.error) as error:
        raise DataError(
            f"{path}: not the images of a COLMAP model ({error}); expected all that COLMAP wrote"
        ) from error
    if not names:
        raise DataError(f"{path}: no images; expected those that COLMAP has placed")
    return names


def _of_binary(content: bytes) -> dict[int, str]:
    names, at = {}, 8
    for _ in range(struct.unpack_from("<Q", content)[0]):
        number, end = HEAD.unpack_from(content, at)[0], content.index(b"\0", at + HEAD.size)
        names[number] = content[at + HEAD.size : end].decode()
        at = end + 1 + 8 + POINT * struct.unpack_from("<Q", content, end + 1)[0]
    return names


def _of_text(content: str) -> dict[int, str]:
    """Two lines an image: its pose and name, then its points, which may be none."""
    lines = [line for line in content.splitlines() if not line.startswith("#")]
    for line in lines[1::2]:
        if len(line.split()) % 3:
            raise ValueError(f"expected an image's points, in a line that may be empty, where {line[:60]!r} stands")
    fields = (line.split(maxsplit=9) for line in lines[::2] if line.strip())
    return {int(found[0]): found[9].rstrip() for found in fields}
