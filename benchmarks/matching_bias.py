"""Where pictures of a rendered capture match best along the rays, by region of the true face. Last line: JSON.

    python -m benchmarks.matching_bias --capture DIR --truth DIR --frames SEQUENCE:FRAME ... [--behind-mm 12]

Each camera's windows are compared with its neighbours' along the true surface moved by offsets of one pixel's
footprint, as the refinement does, without any prior. Per level of the pyramid (1/2 of the resolution, ...) and region:

best_mm: the offset, behind the true surface, at which all pixels of the region together match best; 0 would be right.
nats: by how much a window matches better there than at the true surface (evidence of `correlation.py`, per window). A
region without texture of its own has few nats; many nats far from 0 are texture that lies elsewhere, as mirror images
of lamps do.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from benchmarks.cloud_regions import regions
from benchmarks.pointcloud import read_frames
from benchmarks.truth_error import NARROW_FACE, truth_head
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stereo.depth_maps.correlation import Windows
from pipeline.stereo.depth_maps.depth import largest, shrinks
from pipeline.stereo.depth_maps.hull import footprint
from pipeline.stereo.depth_maps.matching import SHARED
from pipeline.stereo.depth_maps.views import make_views, neighbour_from_reference, neighbours

FEWEST = 500  # pixels of all cameras together: smaller regions are left out


def main() -> None:
    """Match along the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--frames", nargs="+", required=True, metavar="SEQUENCE:FRAME")
    parser.add_argument("--behind-mm", type=float, default=12.0, help="reach of the offsets, in front and behind")
    options = parser.parse_args()
    settings, names = PointcloudSettings(), regions(options.truth)
    kinds = np.unique(names[:NARROW_FACE])
    sums: dict[tuple[int, str], tuple[np.ndarray, np.ndarray, int]] = {}
    for (sequence, frame), (rgb, alpha, cameras) in zip(
        *read_frames(options.capture, None, options.frames), strict=True
    ):
        head = truth_head(options.truth, sequence, frame)
        pairs = neighbours(cameras, settings.neighbours)
        own = [[camera.own(picture) for camera, picture in zip(cameras, part, strict=True)] for part in (rgb, alpha)]
        for shrink in shrinks(largest(cameras)):
            views = make_views(*own, cameras, shrink)
            step = footprint(views)
            reach = int(options.behind_mm * 1e-3 / step)
            offsets = np.arange(-reach, reach + 1) * step
            rasterized = EmbreeRasterizer().rasterize(
                head.vertices.view(np.ndarray), head.faces.view(np.ndarray).astype(np.int32), [v.camera for v in views]
            )
            for i, (view, fragments) in enumerate(zip(views, rasterized, strict=True)):
                windows = Windows(view.grey, view.person, settings.window)
                ways = [neighbour_from_reference(view.camera, views[j].camera) for j in pairs[i]]
                nats = windows.nats([views[j].grey for j in pairs[i]], ways, fragments.depth, offsets)
                corners = head.faces[np.maximum(fragments.triangle, 0)]
                on_face = fragments.hit & view.person & (corners < NARROW_FACE).all(-1)
                for kind in kinds:
                    place = on_face & (names[corners[..., 0]] == kind)
                    _, total, count = sums.get((shrink, kind), (offsets, 0.0, 0))
                    sums[shrink, kind] = offsets, total + nats[:, place].sum(1, dtype=float), count + int(place.sum())
    result = {}
    for (shrink, kind), (offsets, total, count) in sums.items():
        if count < FEWEST:
            continue
        mean = total / count * SHARED * settings.window**2
        best = int(mean.argmax())
        found = {
            "best_mm": round(1e3 * float(offsets[best]), 1),
            "nats": round(float(mean[best] - mean[len(mean) // 2]), 2),
        }
        result.setdefault(f"1/{shrink}", {})[str(kind)] = found
        print(f"1/{shrink} {kind:9} {found['best_mm']:6.1f} mm {found['nats']:6.2f} nats", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
