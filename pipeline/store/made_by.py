"""Which stage, with which settings and code, made a file: kept within the file, read without its format's library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "made_by"  # in JSON files, and in the JSON of a safetensors file's metadata
NAMES = ("stage", "settings", "code")
START = b"made by {"  # elsewhere: the comment of a zip archive, of a film, of a page
ENDS = 1 << 16  # bytes at both ends of a file that are searched for it


def kept(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a file keeps of `cli.record`."""
    return {name: record[name] for name in NAMES if name in record}


def as_text(record: Mapping[str, Any]) -> str:
    """The same as one line, for comments, HTML's too."""
    return START.decode()[:-1] + json.dumps(kept(record), sort_keys=True).replace(">", "\\u003e")


def made_by(path: Path) -> dict[str, Any] | None:
    """Stage, settings and code of a file that keeps them; None where it does not."""
    try:
        found = _found(path)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.keys() == set(NAMES) else None


def _found(path: Path) -> Any:
    if path.suffix == ".json":
        return _of_key(json.loads(path.read_text()))
    size = path.stat().st_size
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), size)))
            texts = header.get("__metadata__", {}).values() if isinstance(header, dict) else ()
            return next(filter(None, (_of_key(json.loads(text)) for text in texts)), None)
        head = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        tail = file.read()
    for part, at in ((tail, tail.rfind(START)), (head, head.find(START))):
        if at >= 0:
            text = part[at + len(START) - 1 :].decode(errors="replace")
            return json.JSONDecoder().raw_decode(text)[0]
    return None


def _of_key(content: Any) -> Any:
    return content.get(KEY) if isinstance(content, dict) else None
