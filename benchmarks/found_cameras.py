"""How far cameras that were found lie from the true ones, after the best similarity. Last line: JSON.

    python -m benchmarks.found_cameras --cameras results/901_videos/cameras.json --truth data/demo/901

`unit` is the length of the found rig's metre in true ones: 1 where the head told it rightly.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from pipeline.cameras.rig import read_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.sfm.act import change
from pipeline.capture.sfm.refine import laid_on


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=Path, required=True, help="cameras.json")
    parser.add_argument("--truth", type=Path, required=True, help="a capture with the same cameras, calibrated")
    options = parser.parse_args()
    found, truth = read_rig(options.cameras), read_rig_of(open_capture(options.truth), 1.0)
    common = [name for name in found.names if name in truth.names]
    ours, theirs = ([rig.cameras[rig.index(name)] for name in common] for rig in (found, truth))
    off = [change(a.camera_from_world, b.camera_from_world) for a, b in zip(laid_on(ours, theirs), theirs, strict=True)]
    degrees, metres = np.array(off).T
    spread = [np.linalg.norm(np.std([camera.centre for camera in rig], axis=0)) for rig in (ours, theirs)]
    figures = {
        "cameras": len(common),
        "degrees_max": degrees.max(),
        "degrees_median": np.median(degrees),
        "mm_max": 1000 * metres.max(),
        "mm_median": 1000 * np.median(metres),
        "unit": spread[0] / spread[1],
    }
    sys.stdout.write(json.dumps({name: round(float(value), 4) for name, value in figures.items()}) + "\n")


if __name__ == "__main__":
    main()
