"""What changed between two results of one subject: settings, code, scores and pictures.

    python -m pipeline.evaluate.compare results/901 other/901 --output compared

writes scores.{tsv,json,md,tex}, changes.md and index.html (with the pictures that changed most) into that folder.
Differences of scores are over the pictures that both have, B less A, with the interval that holds nine in ten of 1,000
resamples of the time steps (bootstrap, Efron 1979): pictures of one moment are not independent of each other.
"""

import argparse
import base64
import json
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline import cli
from pipeline.errors import DataError
from pipeline.evaluate.intervals import UNKNOWN, interval
from pipeline.evaluate.pictures import Picture, read_pictures
from pipeline.evaluate.tables import latex, markdown, tsv
from pipeline.store.chunk import publish, read_attributes
from pipeline.store.made_by import made_by
from pipeline.store.reel import open_reels

METHOD = "avatar"
VARIANTS = "ablations"  # the folder of a subject's variants
COLUMNS = ("split", "figure", "a", "b", "difference", "low", "high", "pictures")
Key = tuple[str, str, int]  # sequence, camera, step


def avatars(pictures: list[Picture]) -> dict[str, dict[Key, dict[str, float]]]:
    """{split: {place of a picture: its figures}} of the avatar's pictures."""
    result: dict[str, dict[Key, dict[str, float]]] = {}
    for one in pictures:
        if one.method == METHOD:
            result.setdefault(one.split, {})[one.sequence, one.camera, one.step] = one.figures
    return result


def scores(a: list[Picture], b: list[Picture]) -> list[dict[str, Any]]:
    """A row per split and figure that both have. Raises DataError when they have no picture in common."""
    rows = []
    first, second = avatars(a), avatars(b)
    for split in [name for name in first if name in second]:
        common = [key for key in first[split] if key in second[split]]
        names = sorted({name for key in common for name in first[split][key]})
        for name in names:
            used = [key for key in common if name in first[split][key] and name in second[split][key]]
            if not used:
                continue
            values = np.array([(first[split][key][name], second[split][key][name]) for key in used])
            difference = values[:, 1] - values[:, 0]
            bounds = interval(difference, np.array([(key[0], str(key[2])) for key in used])) or UNKNOWN
            row = (split, name, *values.mean(0).tolist(), float(difference.mean()), *bounds, len(used))
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    if not rows:
        raise DataError("the two results have no picture in common; expected the same sequences and cameras")
    return rows


def subject(folder: Path) -> str:
    """Whom a subject's results, or a variant's of it, are of."""
    return str(read_attributes(folder / "comparison.zarr.zip")["subject"])


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """{stage: the settings and the code that made its files}, as the files record them.

    A variant's folder, `ablations/{name}` of a subject's, has what it shares from there.
    """
    variant = folder.resolve().parent.name == VARIANTS
    result = records(folder.resolve().parents[1]) if variant else {}
    found: set[str] = set()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        record = None if VARIANTS in path.relative_to(folder).parts[:1] else made_by(path)
        if record and record["stage"] not in found:
            result[record["stage"]] = {"code": record["code"], **flat(record["settings"])}
            found.add(record["stage"])
    return result


def changes(a: dict[str, dict[str, Any]], b: dict[str, dict[str, Any]]) -> list[str]:
    """Lines that name each setting, or code, that differs between two results of `records`."""
    lines = [f"{name}: its files record neither settings nor code" for name, found in (("A", a), ("B", b)) if not found]
    for stage in sorted(a.keys() | b.keys()):
        if stage not in a or stage not in b:
            lines.append(f"{stage}: only in {'A' if stage in a else 'B'}")
            continue
        for key in sorted(a[stage].keys() | b[stage].keys()):
            before, after = a[stage].get(key), b[stage].get(key)
            if before != after:
                lines.append(f"{stage}.{key}: {before} -> {after}")
    return lines or ["no difference in recorded settings or code"]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def most_changed(a: list[Picture], b: list[Picture], count: int) -> list[tuple[Key, float]]:
    """Places of up to `count` pictures, and by how many dB their PSNR in the head changed, the widest first."""
    first = {key: row for rows in avatars(a).values() for key, row in rows.items()}
    second = {key: row for rows in avatars(b).values() for key, row in rows.items()}
    changed = [(key, second[key]["psnr_head"] - first[key]["psnr_head"]) for key in first if key in second]
    return sorted(changed, key=lambda pair: -abs(pair[1]))[:count]


def render(folder: Path, key: Key) -> np.ndarray:
    """The avatar's picture (h, w, 3) uint8 at a place."""
    sequence, camera, step = key
    with open_reels([folder / "renders" / sequence / "capture.zarr.zip"]) as reels:
        reel = reels[sequence]
        return reel.picture("rgb", step, reel.attributes["cameras"].index(camera))


def as_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The header and every row as text."""
    return [
        list(COLUMNS),
        *([f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows),
    ]


def page(rows: list[list[str]], lines: list[str], shown: list[tuple[str, tuple[np.ndarray, np.ndarray]]]) -> str:
    """The comparison as one page without script or address: what changed, scores, pictures of A and B side by side."""
    head, *body = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    table = f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"
    figures = "".join(
        f"<figure><img src='{_uri(a)}' alt='A'><img src='{_uri(b)}' alt='B'>"
        f"<figcaption>{escape(caption)}; left A, right B</figcaption></figure>"
        for caption, (a, b) in shown
    )
    style = (
        "body{font:15px sans-serif;margin:2em}td{padding:.2em .8em;border-bottom:1px solid #ddd}figure{margin:1em 0}"
    )
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Comparison</title><style>{style}</style>"
        f"<h1>What changed</h1><ul>{listed}</ul><h2>Scores of the avatar</h2>{table}"
        f"<h2>Pictures that changed most</h2>{figures}</html>\n"
    )


def _uri(picture: np.ndarray) -> str:
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"a picture of shape {picture.shape} cannot be encoded as PNG")
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


def main() -> None:
    """Read both, compare, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, help="a subject's results, such as results/901")
    parser.add_argument("b", type=Path, help="another run's results of the same subject")
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="folder for tables and page")
    parser.add_argument("--pictures", type=int, default=6, help="pairs of pictures on the page")
    given = parser.parse_args()
    a, b = (read_pictures(folder / "pictures.tsv") for folder in (given.a, given.b))
    compared = scores(a, b)
    rows, lines = as_rows(compared), changes(records(given.a), records(given.b))
    if len(names := {subject(given.a), subject(given.b)}) > 1:
        # people of one data set have cameras and sequences of the same names
        lines.insert(0, f"different subjects, {' and '.join(sorted(names))}: expected one, or two names of one capture")
        cli.log.warning("%s, %s: %s", given.a, given.b, lines[0])
    shown = []
    for key, gain in most_changed(a, b, given.pictures):
        caption = f"{key[0]}, camera {key[1]}, step {key[2]}: {gain:+.2f} dB"
        shown.append((caption, (render(given.a, key), render(given.b, key))))
    files = {
        "scores.tsv": tsv(rows),
        "scores.json": json.dumps(compared, indent=1) + "\n",
        "scores.md": markdown(rows, names=2),
        "scores.tex": latex(rows, names=2),
        "changes.md": "".join(f"- {line}\n" for line in lines),
        "index.html": page(rows, lines, shown),
    }
    for name, text in files.items():
        with publish(given.output / name) as partial:
            partial.write_text(text, encoding="utf-8")
    cli.log.info("%s: %d figures, %d changes", given.output / "index.html", len(compared), len(lines))


if __name__ == "__main__":
    cli.run(main)
