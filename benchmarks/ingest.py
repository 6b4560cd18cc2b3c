"""Benchmark of ingest: IoU of alpha with the truth and CPU seconds per frame of all cameras. Last line: JSON."""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.full_capture import enlarged, noisy
from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import Capture
from pipeline.capture.pictures.colour import correct_color
from pipeline.capture.pictures.decode import read_picture, read_source
from pipeline.capture.pictures.ingest import check_recording, read_span
from pipeline.capture.pictures.matting import Matter
from pipeline.detect.person import person_mask
from pipeline.settings.ingest import IngestSettings

Alphas = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]  # frame and camera: picture and alpha


def iou(ours: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Soft IoU (sum of minima over sum of maxima) and IoU at one half, of two alphas (H, W) in [0, 1]."""
    soft = np.minimum(ours, truth).sum() / np.maximum(ours, truth).sum()
    hard = ((ours > 0.5) & (truth > 0.5)).sum() / ((ours > 0.5) | (truth > 0.5)).sum()
    return float(soft), float(hard)


def sheet_row(rgb: np.ndarray, ours: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Picture, person over green, alpha and signed error beside each other (H, 4 W, 3) uint8."""
    green = np.array([0, 200, 0])
    over = rgb * ours[..., None] + green * (1 - ours[..., None])
    grey = [np.repeat(values[..., None], 3, axis=2) for values in (ours * 255, 128 + (ours - truth) * 127)]
    return np.hstack([rgb, over, *grey]).astype(np.uint8)


def enlarged_alphas(capture: Capture, rig: Rig, sequence: str, frames: dict[str, list[int]], height: int) -> Alphas:
    """Pictures and alpha, at the recorded size, of frames by camera that are matted at `height`.

    Frames and plates are enlarged and get fresh noise; alpha is made small again by the mean of its pixels.
    """
    rng = np.random.default_rng(0)
    found = {}
    for name, numbers in frames.items():
        camera = rig.cameras[rig.index(name)]
        size = (round(camera.width * height / camera.height), height)

        def large(picture: np.ndarray, size: tuple[int, int] = size, camera: Camera = camera) -> np.ndarray:
            return correct_color(noisy(enlarged(picture, size), rng), camera.color)

        matter = Matter(large(read_picture(capture.plates()[name], "a plate")))
        for number in numbers:
            picture = next(read_source(capture.pictures(sequence)[name], range(number, number + 1)))
            alpha = matter(large(picture))
            rgb = correct_color(picture, camera.color)
            found[number, rig.index(name)] = rgb, cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    return found


def main() -> None:
    """Ingest every sequence that has truth, compare the frames that have it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--height", type=int, help="enlarge the frames that have truth to this height before matting")
    parser.add_argument("--sheet", type=Path, help="PNG of the six worst frames")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    capture = open_capture(options.capture)
    rig, settings = read_rig_of(capture, 1.0), IngestSettings()
    levels = (settings.background_levels, settings.person_levels)
    scores, rows, seconds, frames = [], [], 0.0, 0
    for folder in sorted((options.truth / "alpha").iterdir()):
        with np.load(options.truth / f"{folder.name}.npz") as archive:
            count = len(archive["head_to_world"])
        known = {path.name: sorted(int(p.stem) for p in path.glob("*.png")) for path in sorted(folder.iterdir())}
        began = time.process_time()
        check_recording(capture, folder.name, rig, count)
        if options.height:
            pictures = enlarged_alphas(capture, rig, folder.name, known, options.height)
        else:
            span = read_span(capture, folder.name, rig, range(count), levels, person_mask)
            pictures = {(t, c): (rgb, alpha) for t, c, rgb, alpha in span}
        seconds, frames = seconds + time.process_time() - began, frames + count
        for picture in sorted(folder.glob("*/*.png")):
            c, t = rig.index(picture.parent.name), int(picture.stem)
            rgb, alpha = pictures[t, c]
            truth, ours = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE) / 255, alpha / 255
            scores.append(iou(ours, truth))
            rows.append((scores[-1][0], sheet_row(rgb, ours, truth)))
        print(f"{folder.name}: {count} frames, {seconds:.1f} s so far", file=sys.stderr)
    if options.sheet:
        worst = [row for _, row in sorted(rows, key=lambda row: row[0])[:6]]
        cv2.imwrite(str(options.sheet), np.vstack(worst)[..., ::-1])
    soft, hard = np.array(scores).T
    figures = {
        "iou_mean": round(float(soft.mean()), 4),
        "iou_min": round(float(soft.min()), 4),
        "iou_half_mean": round(float(hard.mean()), 4),
        "iou_half_min": round(float(hard.min()), 4),
        "pictures": len(scores),
        "s_per_frame": None if options.height else round(seconds / frames, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
