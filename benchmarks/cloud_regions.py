"""Where on the head a cloud is off: distances per region of the true head behind a rendered capture.

    python -m benchmarks.cloud_regions CLOUD.npz --capture DIR --truth DIR --sequence NAME --frame N

CLOUD.npz is what `benchmarks.pointcloud --clouds` writes. One line per region: median distance in mm of the cloud's
points within 5 mm of it, their signed distance along the normal (10th, 50th, 90th percentile, outside is positive; no
limit of 5 mm, so that hair over the scalp shows), the share of the region with a point within 2 and within 4 mm. Points
deep inside and no point at all are told apart so: what 4 mm cover and 2 mm do not has points that are wrong.
"""

import argparse
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import KDTree

from benchmarks.truth_error import COVERED, NARROW_FACE, OFF, camera_centres, truth_head
from pipeline.evaluate.measures.surface import seen
from pipeline.head.train.ict import LANDMARKS

FACE, BACK = "M_Face", "M_BackHead"
EAR_CM = 4.0  # round the middle of the ear's rim
CLOSE = 4e-3  # metres
REACH = 50e-3  # metres: points farther off the head belong to no region


def regions(truth: Path) -> np.ndarray:
    """Name of the region of every vertex, (V,) str, "" inside mouth and eyes; from the neutral head in cm."""
    with np.load(truth / "model.npz") as model:
        x, part, quads = model["neutral"], model["part"], model["faces"]
    landmarks = x[list(LANDMARKS)]
    brows, nose, eyes, mouth = (landmarks[part] for part in np.split(np.arange(51), (10, 19, 31)))
    names = np.full(len(x), "", dtype="<U8")
    back, face = np.unique(quads[part == BACK]), np.unique(quads[part == FACE])
    names[back] = np.where(x[back, 1] > brows[:, 1].mean() - 6, "scalp", "neck")
    y = np.abs(x[face]) * [1, 0, 0] + x[face] * [0, 1, 1]
    rim = (y[:, 0] > 0.93 * y[:, 0].max()) & (y[:, 1] > np.quantile(y[:, 1], 0.25))
    names[face] = np.where(np.linalg.norm(y - y[rim].mean(0), axis=1) < EAR_CM, "ears", "temples")
    y, name = x[:NARROW_FACE], names[:NARROW_FACE]
    name[:] = "cheeks"
    name[y[:, 1] > brows[:, 1].mean()] = "forehead"
    low = y[:, 1] < mouth[:, 1].mean() - 1
    name[low] = np.where(np.abs(y[low, 0]) < 2.5, "chin", "jaw")
    for points, reach, kind in ((mouth, 1.0, "mouth"), (nose, 1.5, "nose"), (eyes, 1.1, "eyes"), (brows, 0.7, "brows")):
        name[KDTree(points).query(y)[0] < reach] = kind
    return names


def main() -> None:
    """Measure one cloud."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", type=Path)
    parser.add_argument("--capture", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--frame", type=int, required=True)
    options = parser.parse_args()
    points = np.load(options.cloud)["points"].astype(float)
    head, names = truth_head(options.truth, options.sequence, options.frame), regions(options.truth)
    samples, triangle = trimesh.sample.sample_surface(head, 300_000, seed=0)
    normals, name = head.face_normals[triangle], names[head.faces[triangle, 0]]
    visible = seen(samples, normals, camera_centres(options.capture)) & (name != "")
    samples, normals, name = samples[visible], normals[visible], name[visible]
    distance, nearest = KDTree(samples).query(points, distance_upper_bound=REACH)
    points, distance, nearest = (array[np.isfinite(distance)] for array in (points, distance, nearest))
    signed = ((points - samples[nearest]) * normals[nearest]).sum(1) * 1e3
    gap = KDTree(points).query(samples)[0]
    print(f"{'':9}{'share':>6} {'points':>7} {'median':>7}   {'signed 10, 50, 90':20} {'2 mm':>6} {'4 mm':>6}")
    for kind in np.unique(name):
        own, place = name[nearest] == kind, name == kind
        near = distance[own & (distance < OFF)] * 1e3
        median = np.median(near) if len(near) else np.nan
        low, middle, high = np.percentile(signed[own], (10, 50, 90)) if own.any() else (np.nan,) * 3
        covered, close = ((gap[place] < limit).mean() for limit in (COVERED, CLOSE))
        print(
            f"{kind:9}{place.mean():6.3f} {own.sum():7d} {median:7.2f}   {low:6.2f} {middle:6.2f} {high:6.2f} "
            f"{covered:6.3f} {close:6.3f}"
        )


if __name__ == "__main__":
    main()
