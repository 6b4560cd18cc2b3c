"""python -m pipeline.capture.check FOLDER: looks hard at a capture and writes one page; status 1 where a camera is off.

Pictures with the person's mask, sharpness, exposure, heads that the edge cuts, and how far the matches of every pair
of cameras lie off their epipolar lines.
"""

import argparse
import base64
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import jinja2
import numpy as np

from pipeline import cli
from pipeline.cameras.rig import Rig, read_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import Capture
from pipeline.capture.new import frame_counts, held_out_cameras, held_out_line, sequences_and_split
from pipeline.capture.sfm.act import blamed, unchecked
from pipeline.capture.sfm.agreed import agreed, masks_said
from pipeline.capture.sfm.matching.epipolar import distances
from pipeline.capture.sfm.matching.matches import Pairs, Seen, View, look
from pipeline.capture.sfm.matching.pictures import few_moments, shortest, views_of
from pipeline.capture.sfm.matching.quality import cut_heads, quality
from pipeline.capture.sfm.verdict import Verdict, judge
from pipeline.errors import DataError
from pipeline.store.chunk import publish

TEMPLATE = Path(__file__).parent / "check.html.jinja"
THUMB = 220  # height of a picture on the page, pixels
BLURRED = 0.5  # share of the rig's median sharpness below which a picture is called blurred
CLIPPED = 0.1  # share of the person without shade from which it is called badly exposed


def main() -> None:
    """Check a capture at a few moments, say what is wrong, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path, help="the subject's folder")
    parser.add_argument("--sequence", help="the sequence to look at (default: the first)")
    parser.add_argument("--frames", type=int, nargs="+", help="the frames to look at (default: three)")
    parser.add_argument("--cameras", type=cli.existing_file, help="cameras.json in place of the capture's own cameras")
    parser.add_argument("--scale", type=float, default=1.0, help="working size, share of the recorded size")
    parser.add_argument("--output", type=Path, default=Path("check.html"), help="the page (default: check.html)")
    options = parser.parse_args()
    capture = open_capture(options.capture)
    sequence = options.sequence or capture.sequences()[0]
    check_asked(capture, sequence, options.frames or [], options.scale)
    rig = read_rig(options.cameras) if options.cameras else read_rig_of(capture, options.scale)
    moments = options.frames or few_moments(capture, sequence)
    views = views_of(capture, sequence, rig, moments)
    seen = [look(view) for view in views]
    verdict, pairs = judge(seen, rig.cameras, cli.Progress(len(rig.cameras) * 4, "pairs").update)
    rows = camera_rows(rig, views, seen, verdict, pairs)
    found = blamed(verdict, rig, {}) + unchecked(verdict, rig)
    found += masks_said(seen, rig.cameras, agreed(seen, rig.cameras, pairs))
    found += cut_heads(views, moments)
    found += [f"camera {row['name']}, frame {moments[0]}: {note}" for row in rows for note in row["notes"]]
    counts = frame_counts(capture)
    apart = held_out_line(
        held_out_cameras(capture, rig.names, list(rig.cameras), max(counts.values())), sequences_and_split(counts)[1]
    )
    with publish(options.output) as partial:
        partial.write_text(page(f"{options.capture}, {sequence}, frames {moments}", apart, found, rows, verdict))
    for line in found:
        cli.log.warning("%s: %s", options.capture, line)
    cli.log.info("%s: %d cameras, %d of them off", options.output, len(rig.cameras), len(verdict.off))
    sys.exit(bool(verdict.off))


def check_asked(capture: Capture, sequence: str, frames: Sequence[int], scale: float) -> None:
    """Raise DataError where there is no such sequence, frame or size."""
    if sequence not in capture.sequences():
        raise DataError(f"{capture.folder}: no sequence {sequence}; it has {', '.join(capture.sequences())}")
    if beyond := [number for number in frames if not 0 <= number < shortest(capture, sequence)]:
        last = shortest(capture, sequence) - 1
        raise DataError(f"{capture.folder}: {sequence}: no frame {beyond[0]}; expected 0 to {last}")
    if not 0 < scale <= 1:
        raise DataError(f"--scale {scale:g}; expected a share above 0, at most 1")


def camera_rows(rig: Rig, views: Sequence[View], seen: Sequence[Seen], verdict: Verdict, pairs: Pairs) -> list[dict]:
    """What the page says of each camera."""
    found = [quality(*view.first) for view in views]
    usual = float(np.median([of.sharpness for of in found]))
    rows = []
    for i, (camera, view, of) in enumerate(zip(rig.cameras, views, found, strict=True)):
        notes = []
        if of.sharpness < BLURRED * usual:
            notes.append(f"sharpness {of.sharpness:.1f}; expected about {usual:.1f} as the others: blurred?")
        if of.clipped > CLIPPED:
            notes.append(f"{of.clipped:.0%} of the person is black or white; expected under {CLIPPED:.0%}: exposure?")
        own = [value for pair, value in verdict.residual.items() if i in pair]
        rows.append(
            {
                "name": camera.name,
                "picture": thumbnail(view),
                "quality": of,
                "residual": float(np.median(own)) if own else None,
                "confirmed": confirmed(seen, rig, pairs, i),
                "off": i in verdict.off,
                "notes": notes,
            }
        )
    return rows


def confirmed(seen: Sequence[Seen], rig: Rig, pairs: Pairs, number: int) -> float:
    """Share of a camera's features that another camera sees on the epipolar line."""
    own = np.zeros(len(seen[number].pixels), bool)
    for (a, b), index in pairs.items():
        if number in (a, b):
            off = distances(rig.cameras[a], rig.cameras[b], seen[a].pixels[index[:, 0]], seen[b].pixels[index[:, 1]])
            own[index[off < seen[number].view.tolerance, 0 if a == number else 1]] = True
    return float(own.mean()) if len(own) else 0.0


def thumbnail(view: View) -> str:
    """The first picture as a data URI, what is not the person darkened."""
    picture, mask = view.first
    if mask is not None:
        picture = np.where(mask[..., None] > 127, picture, picture // 3)
    scale = THUMB / picture.shape[0]
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", small[..., ::-1])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def page(title: str, apart: str, found: Sequence[str], rows: Sequence[dict], verdict: Verdict) -> str:
    """The page as HTML."""
    table = [
        [
            (verdict.residual.get((min(a, b), max(a, b))), verdict.count.get((min(a, b), max(a, b))))
            for b in range(len(rows))
        ]
        for a in range(len(rows))
    ]
    template = jinja2.Template(TEMPLATE.read_text(), autoescape=True)
    return template.render(title=title, apart=apart, found=found, rows=rows, table=table, limit=verdict.bound)


if __name__ == "__main__":
    cli.run(main)
