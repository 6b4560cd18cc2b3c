"""The linear map between ARKit's 52 weights and a head prior's z_exp, and its file beside the shipped prior."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.capture.curves import ARKIT
from pipeline.errors import DataError
from pipeline.store.chunk import publish

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "arkit.safetensors"


@dataclass(frozen=True)
class ArkitMap:
    """`z_exp_from_weights` (E, 52) and `weights_from_z_exp` (52, E) float32; weights in ARKIT's order.

    A face at rest is zero on both sides. `notice` is the licence notice of what the map was made from.
    """

    z_exp_from_weights: np.ndarray
    weights_from_z_exp: np.ndarray
    notice: str

    def z_exp(self, weights: np.ndarray) -> np.ndarray:
        """Codes (..., E) float32 of weights (..., 52)."""
        return (weights @ self.z_exp_from_weights.T).astype(np.float32)

    def weights(self, z_exp: np.ndarray) -> np.ndarray:
        """Weights (..., 52) float32 whose face is the nearest to that of codes (..., E), not clipped."""
        return (z_exp @ self.weights_from_z_exp.T).astype(np.float32)


def write_map(path: Path, made: ArkitMap) -> None:
    """Publish a map."""
    tensors = {name: np.ascontiguousarray(value) for name, value in vars(made).items() if name != "notice"}
    with publish(path) as partial:
        partial.write_bytes(save(tensors, {"map": json.dumps({"names": ARKIT, "notice": made.notice})}))


def read_map(path: Path, size: int) -> ArkitMap:
    """Read what `write_map` wrote, for a prior whose codes have `size` numbers. Raises DataError naming the file."""
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads(file.metadata()["map"])
            made = ArkitMap(
                file.get_tensor("z_exp_from_weights"), file.get_tensor("weights_from_z_exp"), about["notice"]
            )
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no map of ARKit's weights ({error}); pipeline.head.train.arkit makes one") from error
    if tuple(about["names"]) != ARKIT or made.z_exp_from_weights.shape != (size, len(ARKIT)):
        raise DataError(
            f"{path}: maps {len(about['names'])} weights to {len(made.z_exp_from_weights)} numbers; expected "
            f"{len(ARKIT)} and {size}, as the head prior has: a map goes with priors trained on the same face model"
        )
    return made
