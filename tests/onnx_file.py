"""A tiny ONNX file written by hand in the place of a face embedding: means over squares of a picture, and a matrix."""

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


def _tensor(name: str, numbers: np.ndarray) -> bytes:
    numbers = numbers.astype("<f4")
    sizes = b"".join(_field(1, size) for size in numbers.shape)
    return sizes + _field(2, 1) + _field(8, name) + _field(9, numbers.tobytes())


def _node(kind: str, inputs: tuple[str, ...], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)


def write_embedding(path: Path, matrix: np.ndarray, side: int, cells: int = 4, reads_bytes: bool = False) -> Path:
    """A network of (1, 3, side, side): means of cells x cells squares, times `matrix` (3 cells^2, E).

    With `reads_bytes` it brings 0..255 to -1..1 itself first, as published face networks do.
    """
    step = side // cells
    constants = {"middle": np.full(1, 127.5), "share": np.full(1, 1 / 127.5)} if reads_bytes else {}
    nodes = [_node("Sub", ("picture", "middle"), "off"), _node("Mul", ("off", "share"), "seen")] if reads_bytes else []
    pool = _node("AveragePool", ("seen" if reads_bytes else "picture",), "means")
    nodes += [pool + _ints("kernel_shape", (step, step)) + _ints("strides", (step, step))]
    nodes += [_node("Flatten", ("means",), "flat"), _node("MatMul", ("flat", "matrix"), "vector")]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "tiny")
    graph += b"".join(_field(5, _tensor(name, numbers)) for name, numbers in (constants | {"matrix": matrix}).items())
    graph += _field(11, _info("picture", (1, 3, side, side))) + _field(12, _info("vector", (1, matrix.shape[1])))
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))
    return path
