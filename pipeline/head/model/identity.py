"""The file identity.safetensors: whose head it is, and roughly where it is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.errors import DataError
from pipeline.store.chunk import publish
from pipeline.store.made_by import KEY, kept

TENSORS = ("z_id", "w_id", "scale", "centre", "up", "front")
BIAS = "landmark_bias"  # only of identities that a detector's points were measured on


@dataclass(frozen=True)
class Identity:
    """`z_id` (D,) code and its standard normal weights `w_id` (I,); `scale` (1,) head units per metre; `centre` (3,)
    origin of head space in world metres, `up` and `front` (3,) unit world directions, means over the key frames;
    `landmark_bias` (L, 3) head units at rest: how far off the prior's places a detector sees landmarks, empty where
    none was asked; all float32. `prior` is the SHA-256 of the prior's file; `key_frames` and `residual_mm` say what was
    fitted, how well.
    """

    z_id: np.ndarray
    w_id: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    up: np.ndarray
    front: np.ndarray
    prior: str
    key_frames: tuple[str, ...]
    residual_mm: tuple[float, ...]
    landmark_bias: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_identity(path: Path, identity: Identity, record: Mapping[str, Any] | None = None) -> None:
    """Publish an identity, with the stage and the settings of the `cli.record` that made it."""
    tensors = {name: np.ascontiguousarray(getattr(identity, name), np.float32) for name in TENSORS}
    if len(identity.landmark_bias):
        tensors[BIAS] = np.ascontiguousarray(identity.landmark_bias, np.float32)
    fit = {"prior": identity.prior, "key_frames": identity.key_frames, "residual_mm": identity.residual_mm}
    fit[KEY] = kept(record or {})
    with publish(path) as partial:
        # one key: several come in random order; bytes: safetensors would make a file that others may not read
        partial.write_bytes(save(tensors, {"fit": json.dumps(fit)}))


def read_identity(path: Path) -> Identity:
    """Read what `write_identity` wrote. Raises DataError naming the file when it is missing or something else."""
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in TENSORS}
            fit = json.loads(file.metadata()["fit"])
            tensors |= {BIAS: file.get_tensor(BIAS)} if BIAS in file.keys() else {}  # noqa: SIM118
        return Identity(
            **tensors,
            prior=fit["prior"],
            key_frames=tuple(fit["key_frames"]),
            residual_mm=tuple(fit["residual_mm"]),
        )
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an identity ({error}); expected the output of the stage fit_identity") from error
