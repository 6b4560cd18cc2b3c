"""Outputs whose settings are not today's although Snakemake, having lost its own records, would call them done."""

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

TAIL = 1 << 16  # bytes at the end of a zip that hold its comment (pipeline.store.chunk writes stage and settings there)
END = b"PK\x05\x06"


def made_by(path: Path) -> dict | None:
    """Stage and settings that a chunk says it was made by; None where it says nothing."""
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - TAIL, 0))
        tail = file.read()
    comment = tail[tail.rfind(END) + 22 :] if END in tail else b""
    try:
        found = json.loads(comment)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"stage", "settings"} <= found.keys() else None


def of_other_settings(results: str, records: Path, settings: Callable[[str, str], str | None]) -> Iterator[Path]:
    """Chunks below `results` that Snakemake's `records` do not know and that were made with other settings.

    `settings` gives a stage's settings as JSON by its name and the name of the ablation, empty for none; None for a
    stage that there is no more. One look at a folder and, for what is not known, at the end of a file each.
    """
    for folder, _, names in os.walk(results):
        parts = Path(folder).relative_to(results).parts
        ablation = parts[2] if parts[1:2] == ("ablations",) and len(parts) > 2 else ""
        for name in names:
            path = Path(folder, name)
            if not name.endswith(".zarr.zip") or name.startswith(".") or _known(records, path):
                continue
            record = made_by(path)
            if not record:
                continue
            today = settings(record["stage"], ablation)
            if today is not None and json.loads(today) != record["settings"]:
                yield path


def _known(records: Path, path: Path) -> bool:
    """Whether Snakemake has a record of the file: its name there is the path in base 64, long ones cut into folders."""
    name = urlsafe_b64encode(str(path).encode()).decode()
    pieces = [name[start : start + 254] for start in range(0, len(name), 254)]
    return records.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1]).exists()
