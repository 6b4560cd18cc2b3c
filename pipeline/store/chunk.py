"""One chunk of arrays as one `.zarr.zip` file that is either whole or absent."""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore, ZipStore

from pipeline.errors import DataError

# A training crop of a large picture decodes only the tiles that it touches (benchmarks/loader.py). Smaller tiles are no
# faster, since each takes its time to find, and make the zip's directory long.
LARGEST_CHUNK = {"time": 1, "camera": 1, "row": 512, "column": 512}
RECORDED_VERSIONS = ("numpy", "zarr")


@dataclass(frozen=True)
class Array:
    """An array with its meaning.

    `values` any shape and dtype; `axes` one name per dimension; `unit` e.g. "m", "sRGB", "head unit"; `about` one
    sentence (frame, coding, background value). Axes named in LARGEST_CHUNK are cut into chunks, so that one picture, or
    a part of a large one, can be read alone.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str
    about: str

    def chunk_shape(self) -> tuple[int, ...]:
        """One tile of one camera's picture at one time step per zarr chunk, whole along all other axes."""
        sizes = zip(self.axes, self.values.shape, strict=True)
        return tuple(max(min(LARGEST_CHUNK.get(axis, size), size), 1) for axis, size in sizes)


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path` at once, on any error it is deleted.

    The temporary file keeps the final suffix (encoders look at it) and starts with a dot. What a killed writer of the
    same file left behind is deleted first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".*.partial.{glob.escape(path.name)}"):
        abandoned.unlink(missing_ok=True)
    partial = path.with_name(f".{secrets.token_hex(4)}.partial.{path.name}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # A full disk does not say which file.
    finally:
        partial.unlink(missing_ok=True)


def write_chunk(path: Path, arrays: dict[str, Array], attributes: dict[str, Any]) -> None:
    """Write arrays to a new zarr v3 zip store, read it back once, then publish it under its final name.

    Raises DataError for NaN or infinity (naming file and array), OSError when the disk is full.
    """
    for name, array in arrays.items():
        if np.issubdtype(array.values.dtype, np.floating) and not np.isfinite(array.values).all():
            raise DataError(f"{path}: {name} holds {np.count_nonzero(~np.isfinite(array.values))} non-finite values")
    versions = {package: version(package) for package in RECORDED_VERSIONS}
    with publish(path) as partial:
        # Encoded in memory first: a ZipStore whose write fails is reopened by zarr's pending writes after the unlink.
        entries: dict[str, Buffer] = {}
        group = zarr.create_group(MemoryStore(entries), attributes={**attributes, "versions": versions})
        for name, array in arrays.items():
            _write_array(group, name, array)
        with partial.open("wb") as file, ZipFile(file, "w") as archive:
            for key, value in entries.items():
                archive.writestr(ZipInfo(key), value.to_bytes())
        _verify(partial, arrays)


def _codec(dtype: np.dtype) -> BloscCodec:
    """Zstandard for integers. LZ4 for floats: the demo's x_can decodes 3 times as fast and is 6 % larger."""
    floating = np.issubdtype(dtype, np.floating)
    return BloscCodec(cname="lz4" if floating else "zstd", clevel=5 if floating else 3, shuffle="shuffle")


def _write_array(group: zarr.Group, name: str, array: Array) -> None:
    stored = group.create_array(
        name,
        shape=array.values.shape,
        dtype=array.values.dtype,
        chunks=array.chunk_shape(),
        compressors=_codec(array.values.dtype),
        attributes={"axes": list(array.axes), "unit": array.unit, "about": array.about},
        config={"write_empty_chunks": True},
    )
    stored[...] = array.values


def _verify(path: Path, arrays: dict[str, Array]) -> None:
    with ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        for name, array in arrays.items():
            stored = group[name]
            if stored.shape != array.values.shape or stored.nchunks_initialized != stored.nchunks:
                raise OSError(
                    f"{path}: {name} was written with {stored.nchunks_initialized} of {stored.nchunks} chunks"
                )


@contextmanager
def open_chunk(path: Path) -> Iterator[zarr.Group]:
    """Open a published chunk for reading; arrays are read lazily, one picture at a time if wanted.

    Raises DataError naming the file when it is missing or no such store. Open it anew in every process: a zip store
    opened before a fork gives CRC errors.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a .zarr.zip chunk")
    try:
        store = ZipStore(path, mode="r")
        group = zarr.open_group(store, mode="r")
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: not a readable .zarr.zip chunk ({error})") from error
    with store:
        yield group


def read_arrays(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    """The named arrays of a chunk, whole. Raises DataError when one is missing."""
    with open_chunk(path) as group:
        for name in names:
            if name not in group:
                raise DataError(f"{path}: no array {name}; it holds {sorted(group.array_keys())}")
        return tuple(group[name][...] for name in names)


def read_attributes(path: Path) -> dict[str, Any]:
    """The chunk's own attributes (stage, subject, sequence, start, stop, ...)."""
    with open_chunk(path) as group:
        return dict(group.attrs)


def in_order(paths: list[Path], part: bool = False) -> list[Path]:
    """The spans of one sequence sorted by their start, checked to tile [0, stop) without gap or overlap.

    Those of a `part` of it may begin later.
    """
    spans = sorted((read_attributes(path)["start"], read_attributes(path)["stop"], path) for path in paths)
    expected = spans[0][0] if part else 0
    for start, stop, path in spans:
        if start != expected:
            raise DataError(f"{path}: span starts at step {start}; expected {expected}, spans must tile the sequence")
        expected = stop
    return [path for _, _, path in spans]
