"""What targets lose of the skin just above the neck cut and keep of the shirt, against the true head. Last line: JSON.

    python -m benchmarks.targets --results DIR --truth DIR [--height METRES]

DIR of --results is what the workflow wrote for the subject, up to its targets. The true head behind a rendered capture
says where skin may show, but it wears no shirt: what shows is told from the pictures, by which of two normal
distributions explains a pixel's colour better by far, that of the face's skin above `height` or that of the body. No
other camera is asked, so this is no second vote of the kind that made the targets.

skin_cut: of the pixels that show skin up to `height` above the cut, those whose target is no head.
other_kept: of the target's pixels there, those that show the body, or lie beside the true head.
hole_pixels: pixels without head that the head surrounds, in all pictures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from benchmarks.truth_error import truth_head
from pipeline.cameras.resample import crop_weights
from pipeline.cameras.rig import read_rig
from pipeline.head.model.face import on_face
from pipeline.head.model.pose import scale_of
from pipeline.mesh.cut import Plane
from pipeline.mesh.mesh import Mesh
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.buffers import rasterize
from pipeline.raster.coding import chunk_buffers
from pipeline.settings.isolate import IsolateSettings
from pipeline.store.chunk import open_chunk, read_arrays
from pipeline.targets.isolate import Margin, head_weight, seen_by
from pipeline.targets.occlusion import denoised

PERSON, HEAD = 0.95, 128  # least alpha of a pixel that is a person's, least target alpha of one that is head
BY_FAR = 3.0  # nats
RARE = 0.02  # share of the face's skin whose colour is as unlikely as clothes' are
BESIDE = 2  # pixels off the true head
NECK = 0.01  # metres: the body is what lies farther below the cut
NO_MATTER = Margin(skin=0, hair=0, low=0, high=1)  # weights are not looked at, only where pixels lie


def features(colour: np.ndarray) -> np.ndarray:
    """Logarithms of two ratios, and the mean logarithm, (..., 3) of colours (..., 3) in [0, 255]."""
    levels = np.log(np.clip(colour, 0, None) + 10)
    return np.stack([levels[..., 0] - levels[..., 1], levels[..., 2] - levels[..., 1], levels.mean(-1)], -1)


def log_likelihood(samples: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Of features `place` (..., 3) under the normal distribution of `samples` (N, 3)."""
    off, covariance = place - samples.mean(0), np.cov(samples.T)
    squared = np.einsum("...i,ij,...j->...", off, np.linalg.inv(covariance), off)
    return -0.5 * (squared + np.linalg.slogdet(covariance)[1])


def pictures_of(results: Path, truth: Path, path: Path, height: float) -> list[dict[str, np.ndarray]]:
    """Of every picture of one chunk of targets: `features` (h, w, 3) and masks (h, w)."""
    sequence, span = path.parent.name, path.name
    source, rig = read_rig(results / "cameras.json"), read_rig(results / "rigs/capture.json")
    (poses,) = read_arrays(results / f"tracks/{sequence}.zarr.zip", "head_from_world")
    (targets,) = read_arrays(path, "alpha")
    start, found = int(span.split("-")[0]), []
    frames_path = results / f"frames/{sequence}/{span}"
    buffers_path = results / f"buffers/{sequence}/capture/{span}"
    sources = [source.index(camera.name) for camera in rig.cameras]
    weights = [crop_weights(source.cameras[own], crop) for own, crop in zip(sources, rig.cameras, strict=True)]
    with open_chunk(frames_path) as frames, open_chunk(buffers_path) as buffers:
        neck = Plane(**buffers.attributes["neck"])
        for index, alphas in enumerate(targets):
            head = truth_head(truth, sequence, start + index)
            mesh = Mesh(head.vertices.astype(np.float32), np.zeros((len(head.vertices), 5), np.float32), head.faces)
            covered = rasterize(EmbreeRasterizer(), mesh, list(rig.cameras))["mask"] > 0
            for camera, alpha in enumerate(alphas):
                shown = seen_by(frames, index, source, sources[camera], weights[camera])
                person = shown[..., 3] > PERSON
                colour = denoised(shown[..., :3] / np.maximum(shown[..., 3:], PERSON))  # nothing but the person counts
                here = chunk_buffers(buffers, index, camera, ("depth", "mask", "x_can"))
                _, place = head_weight(here, rig.cameras[camera], poses[start + index], neck, NO_MATTER)
                above = neck.height(place) / scale_of(poses[start + index])  # metres
                found.append(
                    {
                        "features": features(colour),
                        "person": person,
                        "truth": binary_erosion(covered[camera]),
                        "beside": ~binary_dilation(covered[camera], iterations=BESIDE),
                        "face": on_face(here["x_can"], 0.0) & here["mask"] & (above > height),
                        "mesh": here["mask"],
                        "band": (above > 0) & (above < height),
                        "below": above < -NECK,
                        "head": alpha >= HEAD,
                    }
                )
    return found


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True, help="e.g. captures/truth/904")
    parser.add_argument("--height", type=float, default=IsolateSettings().collar_height, help="metres above the cut")
    options = parser.parse_args()
    pictures = [
        picture
        for path in sorted((options.results / "targets").glob("*/*.zarr.zip"))
        if (options.truth / f"{path.parent.name}.npz").is_file()
        for picture in pictures_of(options.results, options.truth, path, options.height)
    ]
    skin = np.concatenate([p["features"][p["face"] & p["truth"] & p["person"]] for p in pictures])
    body = np.concatenate([p["features"][p["below"] & p["beside"] & p["person"]] for p in pictures])
    body = body[log_likelihood(skin, body) < np.quantile(log_likelihood(skin, skin), RARE)]  # no shoulders
    counts = dict.fromkeys(("skin", "cut", "kept", "other", "holes"), 0)
    for p in pictures:
        evidence = log_likelihood(skin, p["features"]) - log_likelihood(body, p["features"])
        shows = p["band"] & p["mesh"] & p["truth"] & p["person"] & (evidence > BY_FAR)
        kept = p["band"] & p["head"]
        counts["skin"] += int(shows.sum())
        counts["cut"] += int((shows & ~p["head"]).sum())
        counts["kept"] += int(kept.sum())
        counts["other"] += int((kept & (p["beside"] | (evidence < -BY_FAR))).sum())
        counts["holes"] += int((binary_fill_holes(p["head"]) & ~p["head"]).sum())
    figures = {
        "skin_cut": round(counts["cut"] / counts["skin"], 4),
        "other_kept": round(counts["other"] / counts["kept"], 4),
        "hole_pixels": counts["holes"],
        "pictures": len(pictures),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
