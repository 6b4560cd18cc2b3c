"""A moving head as one binary glTF file: a mesh with morph targets by name, a texture, and the motion as animation."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.store.chunk import publish

FLOAT, UINT = 5126, 5125
MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


@dataclass(frozen=True)
class Moving:
    """What goes into the file, metres, y up, z to the front.

    `vertices` (V, 3) at rest, `faces` (F, 3), `uv` (V, 2) with the origin at the lower left, `texture` (h, w, 3) uint8;
    `targets` (M, V, 3) offsets by `names`; per time step: `weights` (T, M), `turns` (T, 4) quaternions x, y, z, w and
    `moves` (T, 3) of the head.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    names: tuple[str, ...]
    targets: np.ndarray
    weights: np.ndarray
    turns: np.ndarray
    moves: np.ndarray


class _Buffer:
    """The file's binary part, filled piece by piece."""

    def __init__(self) -> None:
        self.data, self.views, self.accessors = bytearray(), [], []

    def view(self, data: bytes, target: int | None = None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        about = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(about | ({"target": target} if target else {}))
        self.data += data
        return len(self.views) - 1

    def array(self, values: np.ndarray, target: int | None = None) -> int:
        whole = np.issubdtype(values.dtype, np.integer)
        values = np.ascontiguousarray(values, np.uint32 if whole else np.float32)
        kind = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
        about = {"bufferView": self.view(values.tobytes(), target), "componentType": UINT if whole else FLOAT}
        bounds = {"min": values.min(0), "max": values.max(0)}
        bounds = {name: np.atleast_1d(value).tolist() for name, value in bounds.items()}
        self.accessors.append(about | {"count": len(values), "type": kind} | bounds)
        return len(self.accessors) - 1


def write_glb(path: Path, moving: Moving, frames_per_second: float, notice: str) -> None:
    """Publish the file; `notice` stands in it as the copyright."""
    buffer = _Buffer()
    uv = moving.uv * [1, -1] + [0, 1]  # glTF counts v from the top
    attributes = {"POSITION": buffer.array(moving.vertices, 34962), "TEXCOORD_0": buffer.array(uv, 34962)}
    primitive = {
        "attributes": attributes,
        "indices": buffer.array(moving.faces.ravel(), 34963),
        "material": 0,
        "targets": [{"POSITION": buffer.array(target, 34962)} for target in moving.targets],
    }
    _, png = cv2.imencode(".png", cv2.cvtColor(moving.texture, cv2.COLOR_RGB2BGR))
    times = buffer.array(np.arange(len(moving.weights)) / frames_per_second)
    curves = {"weights": moving.weights.ravel(), "rotation": moving.turns, "translation": moving.moves}
    samplers = [
        {"input": times, "output": buffer.array(values), "interpolation": "LINEAR"} for values in curves.values()
    ]
    channels = [{"sampler": number, "target": {"node": 0, "path": name}} for number, name in enumerate(curves)]
    image = buffer.view(png.tobytes())
    document = {
        "asset": {"version": "2.0", "copyright": notice},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [
            {
                "name": "head",
                "primitives": [primitive],
                "weights": [0.0] * len(moving.names),
                "extras": {"targetNames": list(moving.names)},
            }
        ],
        "materials": [
            {
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0.0,
                    "roughnessFactor": 1.0,
                }
            }
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": 10497, "wrapT": 33071}],
        "images": [{"bufferView": image, "mimeType": "image/png"}],
        "animations": [{"name": "motion", "samplers": samplers, "channels": channels}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
        "buffers": [{"byteLength": len(buffer.data) + -len(buffer.data) % 4}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4)
    with publish(path) as partial, partial.open("wb") as file:
        file.write(struct.pack("<III", MAGIC, 2, 28 + len(text) + len(data)))
        for kind, chunk in ((JSON_CHUNK, text), (BINARY_CHUNK, data)):
            file.write(struct.pack("<II", len(chunk), kind) + chunk)
