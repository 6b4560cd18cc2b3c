"""One chunk of arrays as one `.zarr.zip` file that is either whole or absent, written and read piece by piece."""

import json
from collections import Counter
from collections.abc import Generator
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
from pipeline.store.axes import known, pieces
from pipeline.store.made_by import as_text
from pipeline.store.publish import publish

RECORDED_VERSIONS = ("numpy", "zarr")
# What damaged bytes make of zip, JSON, zarr and the compressors: all of it means that the file cannot be read.
DAMAGE = (BadZipFile, OSError, EOFError, KeyError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Layout:
    """What an array means, before it has values.

    `shape` any; a first axis of length 0 grows by `ChunkWriter.append`. `axes` names of `pipeline.store.axes`, one per
    dimension; `unit` e.g. "m", "sRGB", "head unit"; `about` one sentence (frame, coding, background value).
    """

    shape: tuple[int, ...]
    dtype: Any
    axes: tuple[str, ...]
    unit: str
    about: str

    def piece(self) -> tuple[int, ...]:
        """Shape of what can be read alone."""
        return pieces(known(self.axes), self.shape)


@dataclass(frozen=True)
class Array:
    """A whole array with its meaning: `values` any shape and dtype; axes, unit and about as in `Layout`."""

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str
    about: str

    @property
    def layout(self) -> Layout:
        """The same without the values."""
        return Layout(self.values.shape, self.values.dtype, self.axes, self.unit, self.about)


class ChunkWriter:
    """Writes the arrays of one chunk as they come: what is whole goes to the file, so memory holds one piece only."""

    def __init__(self, path: Path, archive: ZipFile, attributes: dict[str, Any]):
        self._path, self._archive = path, archive
        # zarr encodes into memory: its own zip store, when a write fails, is reopened by writes that are still pending
        self._entries: dict[str, Buffer] = {}
        self._group = zarr.create_group(MemoryStore(self._entries), attributes=attributes)
        self._arrays: dict[str, zarr.Array] = {}
        self._written: Counter[str] = Counter()

    def add(self, name: str, layout: Layout) -> None:
        """Announce an array."""
        self._arrays[name] = self._group.create_array(
            name,
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=layout.piece(),
            compressors=_codec(np.dtype(layout.dtype)),
            attributes={"axes": list(known(layout.axes)), "unit": layout.unit, "about": layout.about},
            config={"write_empty_chunks": True},
        )

    def put(self, name: str, index: tuple[int, ...], values: np.ndarray) -> None:
        """Write what lies at `index` of the leading axes, each cut to pieces of length 1 (time, camera), once.

        Raises DataError for NaN or infinity (naming file and array), OSError when the disk is full.
        """
        self._require_finite(name, values)
        stored = self._arrays[name]
        if stored.chunks[: len(index)] != (1,) * len(index):
            raise ValueError(f"{name}: pieces of {stored.chunks}; an index of {len(index)} axes is not a piece")
        stored[index] = values
        self._move(name, lambda place: True)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Write rows (n, ...) after those that are there; errors as of `put`."""
        self._require_finite(name, rows)
        if not len(rows):
            return
        stored = self._arrays[name]
        stored.append(rows)
        whole = stored.shape[0] // stored.chunks[0]
        self._move(name, lambda place: place < whole)

    def finish(self) -> None:
        """Write what is left. Raises ValueError where an array lacks pieces."""
        for name, array in self._arrays.items():
            self._move(name, lambda place: True)
            if self._written[name] != array.nchunks:
                raise ValueError(f"{self._path}: {name}: {self._written[name]} of {array.nchunks} pieces were written")
        for key in list(self._entries):
            self._archive.writestr(ZipInfo(key), self._entries.pop(key).to_bytes())

    def _move(self, name: str, whole: Any) -> None:
        """Move the pieces of an array whose place along the first axis is `whole` from memory to the file."""
        start = f"{name}/c/"
        for key in [key for key in self._entries if key.startswith(start)]:
            if whole(int(key.removeprefix(start).split("/")[0])):
                self._archive.writestr(ZipInfo(key), self._entries.pop(key).to_bytes())
                self._written[name] += 1

    def _require_finite(self, name: str, values: np.ndarray) -> None:
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            count = np.count_nonzero(~np.isfinite(values))
            raise DataError(f"{self._path}: {name} holds {count} non-finite values")


@contextmanager
def chunk_writer(path: Path, layouts: dict[str, Layout], attributes: dict[str, Any]) -> Generator[ChunkWriter]:
    """A writer of a new zarr v3 zip store; at the end it is read back once, then published under its final name."""
    versions = {package: version(package) for package in RECORDED_VERSIONS}
    with publish(path) as partial:
        with partial.open("wb") as file, ZipFile(file, "w") as archive:
            archive.comment = as_text(attributes).encode()  # among the attributes too, but planning reads no zarr
            writer = ChunkWriter(path, archive, {**attributes, "versions": versions})
            for name, layout in layouts.items():
                writer.add(name, layout)
            yield writer
            writer.finish()
        _verify(partial, set(layouts))


def write_chunk(path: Path, arrays: dict[str, Array], attributes: dict[str, Any]) -> None:
    """Write arrays that are there as a whole; errors as of `ChunkWriter.put`."""
    with chunk_writer(path, {name: array.layout for name, array in arrays.items()}, attributes) as writer:
        for name, array in arrays.items():
            writer.put(name, (), array.values)


def _codec(dtype: np.dtype) -> BloscCodec:
    """Zstandard for integers. LZ4 for floats, which hardly pack: it decodes them 3 times as fast."""
    floating = np.issubdtype(dtype, np.floating)
    return BloscCodec(cname="lz4" if floating else "zstd", clevel=5 if floating else 3, shuffle="shuffle")


def _verify(path: Path, names: set[str]) -> None:
    with ZipStore(path, mode="r") as store:
        arrays = dict(zarr.open_group(store, mode="r").arrays())
        for name in names:
            stored = arrays[name]
            if stored.nchunks_initialized != stored.nchunks:
                raise OSError(
                    f"{path}: {name} was written with {stored.nchunks_initialized} of {stored.nchunks} pieces"
                )


@contextmanager
def _named(path: Path) -> Generator[None]:
    """What damage there is becomes a DataError that names the file."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: damaged, or not a .zarr.zip chunk ({reason}); delete it to make it anew") from error


class StoredArray:
    """An array of a chunk; what an index asks for is decoded, nothing else."""

    def __init__(self, path: Path, array: zarr.Array):
        self._path, self._array = path, array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype = array.dtype
        self.attributes: dict[str, Any] = dict(array.attrs)

    def __getitem__(self, index: Any) -> np.ndarray:
        with _named(self._path):
            return np.asarray(self._array[index])


class Chunk:
    """An open chunk: its `arrays` by name and its own `attributes` (stage, subject, sequence, start, stop, ...)."""

    def __init__(self, path: Path, group: zarr.Group):
        self.path = path
        self.attributes: dict[str, Any] = dict(group.attrs)
        self.arrays = {name: StoredArray(path, array) for name, array in group.arrays()}

    def __getitem__(self, name: str) -> StoredArray:
        if name not in self.arrays:
            raise DataError(f"{self.path}: no array {name}; it holds {sorted(self.arrays)}")
        return self.arrays[name]


@contextmanager
def open_chunk(path: Path) -> Generator[Chunk]:
    """Open a published chunk for reading; arrays are read lazily, one picture at a time if asked so.

    Raises DataError naming the file when it is missing, no such store or damaged, then or at a later read. Open it
    anew in every process: a zip store opened before a fork gives CRC errors.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a .zarr.zip chunk")
    with _named(path):
        store = ZipStore(path, mode="r")
        chunk = Chunk(path, zarr.open_group(store, mode="r"))
    with store:
        yield chunk


def read_arrays(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    """The named arrays of a chunk, whole, in the order asked for (docs/formats.md has their shapes).

    Raises DataError when one is missing.
    """
    with open_chunk(path) as chunk:
        return tuple(chunk[name][...] for name in names)


def read_all(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a chunk by name, whole: for tracks, which may lack some."""
    with open_chunk(path) as chunk:
        return {name: array[...] for name, array in chunk.arrays.items()}


def read_attributes(path: Path) -> dict[str, Any]:
    """The chunk's own attributes (stage, subject, sequence, start, stop, ...)."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a .zarr.zip chunk")
    with _named(path), ZipFile(path) as archive:
        return json.loads(archive.read("zarr.json"))["attributes"]


def in_order(paths: list[Path], part: bool = False) -> list[Path]:
    """The spans of one sequence sorted by their start, checked to tile [0, stop) without gap or overlap.

    Those of a `part` of it may begin later.
    """
    spans = [(attributes["start"], attributes["stop"]) for attributes in map(read_attributes, paths)]
    ordered = sorted(zip(spans, paths, strict=True))
    expected = ordered[0][0][0] if part else 0
    for (start, stop), path in ordered:
        if start != expected:
            raise DataError(f"{path}: span starts at step {start}; expected {expected}, spans must tile the sequence")
        expected = stop
    return [path for _, path in ordered]
