"""How well the size of a head tells the unit of a capture that is in metres. Last line: JSON, metres by sequence.

    python -m benchmarks.head_unit --capture data/demo/901

1 is right; below, the head is taken for smaller than it is.
"""

import argparse
import json
import sys
from pathlib import Path

from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.head.fit.unit import metres_per_unit
from pipeline.head.model.prior import load_prior
from pipeline.provenance import ROOT
from pipeline.stages.calibrate import pictures


def main() -> None:
    """Estimate from a few moments of each sequence, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, required=True, help="a capture in metres")
    parser.add_argument("--prior", type=Path, default=ROOT / "pipeline/head/weights/head_prior.safetensors")
    parser.add_argument("--iris-mm", type=float, help="by irises so wide, in place of the head")
    options = parser.parse_args()
    capture, prior = open_capture(options.capture), load_prior(options.prior)
    rig = read_rig_of(capture, 1.0)
    found = {
        sequence: round(metres_per_unit(prior, rig, pictures(capture, rig, sequence), options.iris_mm), 4)
        for sequence in capture.sequences()
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
