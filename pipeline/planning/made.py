"""Outputs whose settings are not today's although Snakemake, having lost its own records, would call them done."""

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.store.made_by import made_by

BESIDE = {"logs", "benchmarks"}  # folders of a subject that hold no outputs


def of_other_settings(results: str, records: Path, settings: Callable[[str, str], str | None]) -> Iterator[Path]:
    """Files below `results` that Snakemake's `records` do not know and that were made with other settings.

    `settings` gives a stage's settings as JSON by its name and the name of the ablation, empty for none; None for a
    stage that there is no more. One look at a folder and, for what is not known, at the ends of a file each.
    """
    for folder, below, names in os.walk(results):
        below[:] = sorted(set(below) - BESIDE)
        parts = Path(folder).relative_to(results).parts
        ablation = parts[2] if parts[1:2] == ("ablations",) and len(parts) > 2 else ""
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or _known(records, path):
                continue
            record = made_by(path)
            today = settings(record["stage"], ablation) if record else None
            if record and today is not None and not json.loads(today).items() <= record["settings"].items():
                yield path


def _known(records: Path, path: Path) -> bool:
    """Whether Snakemake has a record of the file: its name there is the path in base 64, long ones cut into folders."""
    name = urlsafe_b64encode(str(path).encode()).decode()
    pieces = [name[start : start + 254] for start in range(0, len(name), 254)]
    return records.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1]).exists()
