"""Makes the map between ARKit's weights and the z_exp of priors trained on ICT-FaceKit.

    python -m pipeline.head.train.arkit OUT.safetensors --ict ict_facekit.npz --licence LICENSE

z_exp is the face model's expression weights, and these bear ARKit's names but for four of its shapes that the model
splits or that either lacks. So the way there is a table of names; the way back is the least squares of the face's
vertices, since the model knows movements that ARKit has no name for.
"""

import argparse
import re
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.capture.curves import ARKIT
from pipeline.errors import DataError
from pipeline.head.model.arkit import ArkitMap, write_map
from pipeline.head.train.ict import FaceModel, load_face_model

WITHOUT = ("tongueOut",)  # of ARKit's shapes; the model's tongue lies still


def model_names(name: str, known: list[str]) -> list[str]:
    """The model's shapes that together are one of ARKit's: eyeBlinkLeft is eyeBlink_L, cheekPuff both cheeks."""
    sided = re.sub("(Left|Right)$", lambda side: f"_{side[0][0]}", name)
    candidates = ([name], [sided], [f"{name}_L", f"{name}_R"])
    return next((found for found in candidates if set(found) <= set(known)), [])


def make_map(model: FaceModel, notice: str) -> ArkitMap:
    """The map of a face model. Raises DataError naming a shape of ARKit's that the model has not."""
    known = model.expression_names
    there = np.zeros((len(known), len(ARKIT)))
    for place, name in enumerate(ARKIT):
        parts = model_names(name, known)
        if not parts and name not in WITHOUT:
            raise DataError(f"the face model has no expression {name}; it has {', '.join(known)}")
        there[[known.index(part) for part in parts], place] = 1
    moves = model.expression_modes[:, np.unique(model.face)].reshape(len(known), -1).astype(np.float64)
    used = there.any(0)
    gram = moves @ moves.T
    back = np.zeros((len(ARKIT), len(known)))
    back[used] = np.linalg.lstsq(there[:, used].T @ gram @ there[:, used], there[:, used].T @ gram, rcond=1e-9)[0]
    return ArkitMap(there.astype(np.float32), back.astype(np.float32), notice)


def main() -> None:
    """Read the face model, publish the map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="arkit.safetensors")
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--licence", type=cli.existing_file, required=True, help="the face model's licence notice")
    given = parser.parse_args()
    write_map(given.output, make_map(load_face_model(given.ict), given.licence.read_text()))


if __name__ == "__main__":
    cli.run(main)
