"""Where the small networks lie that find faces and people, and whether they are the ones that were measured."""

import hashlib
import sys
from pathlib import Path

from pipeline.errors import DataError

# From mediapipe 0.10.14 (Apache-2.0, see NOTICE); envs/detectors.sh brings them.
SHA256 = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
    "selfie_segmentation.tflite": "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
}
BRING = "envs/detectors.sh brings them, or the setting detect.models names their folder"


def folder(models: str | None = None) -> Path:
    """The folder that a setting names, else the one of this environment, where every checkout finds it."""
    return Path(models) if models else Path(sys.prefix) / "share/detectors"


def present(models: str | None = None) -> bool:
    """Whether all four files are there."""
    return all((folder(models) / name).is_file() for name in SHA256)


def checked(name: str, models: str | None = None) -> Path:
    """The path of a network's file. Raises DataError where it is missing or is another version."""
    path = folder(models) / name
    if not path.is_file():
        raise DataError(f"{path}: no such file; {BRING}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise DataError(f"{path}: sha256 {found[:12]}..., expected {SHA256[name][:12]}...; {BRING}")
    return path
