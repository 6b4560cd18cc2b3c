"""A tiny ONNX file written by hand in the place of a face embedding: means over squares of a picture, and a matrix."""

import struct
from pathlib import Path

import numpy as np


def _field(number: int, value: "int | bytes | str") -> bytes:
    """One field of protocol buffers: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _info(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, sizes)))


def _ints(name: str, values: tuple[int, ...]) -> bytes:
    return _field(5, _field(1, name) + b"".join(_field(8, value) for value in values) + _field(20, 7))


def write_embedding(path: Path, matrix: np.ndarray, side: int, cells: int = 4) -> Path:
    """A network of (1, 3, side, side): means of cells x cells squares, times `matrix` (3 cells^2, E)."""
    step = side // cells
    pool = _field(1, "picture") + _field(2, "means") + _field(4, "AveragePool")
    pool += _ints("kernel_shape", (step, step)) + _ints("strides", (step, step))
    flatten = _field(1, "means") + _field(2, "flat") + _field(4, "Flatten")
    times = _field(1, "flat") + _field(1, "matrix") + _field(2, "vector") + _field(4, "MatMul")
    numbers = matrix.astype("<f4")
    tensor = b"".join(_field(1, size) for size in matrix.shape) + _field(2, 1) + _field(8, "matrix")
    tensor += _field(9, struct.pack(f"<{numbers.size}f", *numbers.ravel()))
    graph = b"".join(_field(1, node) for node in (pool, flatten, times)) + _field(2, "tiny") + _field(5, tensor)
    graph += _field(11, _info("picture", (1, 3, side, side))) + _field(12, _info("vector", (1, matrix.shape[1])))
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))
    return path
