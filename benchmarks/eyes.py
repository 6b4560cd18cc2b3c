"""How well tracks know lids and gaze, against the truth behind a rendered capture.

    python -m benchmarks.eyes --results DIR --truth DIR [--prior F] [--sequence NAME ...]

DIR is what the workflow wrote for the subject: identity.safetensors, points and tracks. Prints a JSON line per sequence
and one of all of them last:

aperture_rms_mm: the truth's aperture (the mean of the two pairs of iBUG's points of upper and lower lid) against the
    fitted head's, that is the places on its surface that the deformation takes to those landmarks.
seen_rms_mm: the same of what the stage triangulate saw; null where it did not run.
shut_aperture_mm: the widest fitted aperture where the truth's is under 3 mm; null where no eye is shut.
gaze_median_degrees, gaze_p90_degrees: angle between the track's gaze and the truth's, both in the world, eyes open more
    than 5 mm; null where the track has no gaze.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.head.fit.eyes import gaze_directions, lids_of
from pipeline.head.fit.least_squares.lids import seen_gaps
from pipeline.head.model.identity import read_identity
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.store.chunk import open_chunk, read_arrays

SHUT, OPEN = 3, 5  # millimetres
WEIGHTS = Path(__file__).parents[1] / "pipeline/head/weights/head_prior.safetensors"


def measured(prior: HeadPrior, results: Path, truth: Path, sequence: str) -> dict[str, np.ndarray]:
    """Fitted, seen and true apertures (T, 2), mm, and angles between fitted and true gaze (T, 2), degrees or NaN."""
    identity = read_identity(results / "identity.safetensors")
    with open_chunk(results / f"tracks/{sequence}.zarr.zip") as track:
        z_exp, head_from_world = track["z_exp"][...], track["head_from_world"][...]
        gaze = track["gaze"][...] if "gaze" in track.arrays else None
    with np.load(truth / f"{sequence}_eyes.npz") as eyes:
        true_aperture, true_gaze = eyes["aperture_mm"], eyes["gaze_world"]
    fitted = lids_of(prior, identity.w_id, z_exp, head_from_world)
    seen, points = np.full(fitted.shape, np.nan), results / f"points/{sequence}.zarr.zip"
    if points.is_file():
        seen = 1e3 * seen_gaps(*read_arrays(points, "points")).reshape(len(fitted), 2, -1).mean(-1)
    angles = np.full(fitted.shape, np.nan)
    if gaze is not None:
        world_from_head = np.linalg.inv(head_from_world[:, :3, :3])
        looks = np.einsum("tij,tej->tei", world_from_head, gaze_directions(gaze))
        looks /= np.linalg.norm(looks, axis=-1, keepdims=True)
        angles = np.degrees(np.arccos(np.clip((looks * true_gaze).sum(-1), -1, 1)))
    return {"fitted": fitted, "seen": seen, "true": true_aperture, "angles": angles}


def figures(parts: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """The figures of several sequences together."""
    names = ("fitted", "seen", "true", "angles")
    fitted, seen, true, angles = (np.concatenate([part[name] for part in parts]) for name in names)
    shut, open_angles = true < SHUT, angles[(true > OPEN) & np.isfinite(angles)]
    known = np.isfinite(seen)
    return {
        "eyes": int(true.size),
        "shut": int(shut.sum()),
        "aperture_rms_mm": _rms(fitted - true),
        "seen_rms_mm": _rms((seen - true)[known]) if known.any() else None,
        "shut_aperture_mm": round(float(fitted[shut].max()), 2) if shut.any() else None,
        "gaze_median_degrees": round(float(np.median(open_angles)), 2) if len(open_angles) else None,
        "gaze_p90_degrees": round(float(np.percentile(open_angles, 90)), 2) if len(open_angles) else None,
    }


def _rms(off: np.ndarray) -> float:
    return round(float(np.sqrt(np.mean(off**2))), 3)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True, help="e.g. captures/truth/904")
    parser.add_argument("--prior", type=Path, default=WEIGHTS)
    parser.add_argument("--sequence", nargs="+", help="all tracks that the truth knows, if not given")
    options = parser.parse_args()
    prior = load_prior(options.prior)
    tracks = sorted(path.name.removesuffix(".zarr.zip") for path in (options.results / "tracks").glob("*.zarr.zip"))
    known = [name for name in tracks if (options.truth / f"{name}_eyes.npz").is_file()]
    parts = {name: measured(prior, options.results, options.truth, name) for name in options.sequence or known}
    for name, part in parts.items():
        print(json.dumps({"sequence": name, **figures([part])}))
    print(json.dumps(figures(list(parts.values()))))


if __name__ == "__main__":
    main()
