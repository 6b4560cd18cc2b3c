"""The chunk store: what is published is whole, what fails leaves nothing."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.errors import DataError
from pipeline.store import axes
from pipeline.store.chunk import (
    Array,
    Layout,
    chunk_writer,
    in_order,
    open_chunk,
    publish,
    read_arrays,
    read_attributes,
    write_chunk,
)
from pipeline.store.reel import Reel

SHAPES = npst.array_shapes(min_dims=3, max_dims=4, min_side=0, max_side=4)
VALUES = st.sampled_from([np.uint8, np.int64, np.float16, np.float32, np.float64]).flatmap(
    lambda dtype: npst.arrays(dtype, SHAPES, elements=st.integers(0, 100))
)


@settings(max_examples=40)  # each is a file, flushed to the disk
@given(values=VALUES)
def test_round_trip(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("chunk") / "a.zarr.zip"
    axes = ("time", "camera", "row", "column")[: values.ndim]
    write_chunk(path, {"values": Array(values, axes, "m", "anything")}, {"start": 3})
    (read,) = read_arrays(path, "values")
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)
    assert read_attributes(path)["start"] == 3
    with open_chunk(path) as group:
        assert group["values"].attributes["axes"] == list(axes)
    assert [p.name for p in path.parent.iterdir()] == ["a.zarr.zip"]


def test_one_picture_is_one_piece_a_large_one_is_tiled() -> None:
    axes = ("time", "camera", "row", "column", "channel")
    assert Layout((4, 3, 8, 6, 3), np.uint8, axes, "sRGB", "").piece() == (1, 1, 8, 6, 3)
    assert Layout((4, 16, 1650, 1100, 3), np.uint8, axes, "sRGB", "").piece() == (1, 1, 512, 512, 3)


def test_an_axis_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"unknown axis y; .* knows time, camera, row"):
        Layout((4, 8), np.uint8, ("time", "y"), "", "").piece()


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(0, 90), min_size=1, max_size=6))
def test_rows_that_grow_are_what_came_in(lengths: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("chunk") / "a.zarr.zip"
    rows = [np.random.default_rng(n).integers(0, 9, (length, 3)) for n, length in enumerate(lengths)]
    layouts = {
        "points": Layout((0, 3), np.int64, ("point", "xyz"), "m", ""),
        "offsets": Layout((0,), np.int64, ("step",), "1", ""),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axes, "ROWS", 32)
        with chunk_writer(path, layouts, {"sequence": "s", "start": 0, "stop": len(rows)}) as chunk:
            chunk.append("offsets", np.array([0]))
            for step in range(len(rows)):
                chunk.append("points", rows[step])
                chunk.append("offsets", np.array([sum(lengths[: step + 1])]))
    reel = Reel([path])
    for step, expected in enumerate(rows):
        np.testing.assert_array_equal(reel.rows(step, "offsets", "points")[0], expected)
    reel.close()


def test_a_piece_that_is_missing_is_found_before_publishing(tmp_path: Path) -> None:
    layout = Layout((2, 3, 4, 4), np.uint8, ("time", "camera", "row", "column"), "1", "")

    def write_one() -> None:
        with chunk_writer(tmp_path / "a.zarr.zip", {"rgb": layout}, {}) as chunk:
            chunk.put("rgb", (1, 2), np.ones((4, 4), np.uint8))

    with pytest.raises(ValueError, match="rgb: 1 of 6 pieces were written"):
        write_one()
    assert not list(tmp_path.iterdir())


def test_content_and_new_name_are_on_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut leaves an empty file under the final name, or forgets the name."""
    flushed: list[tuple[str, bool]] = []
    fsync, path = os.fsync, tmp_path / "a.txt"

    def note(handle: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{handle}"), path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    with publish(path) as partial:
        partial.write_text("whole")
    assert flushed == [(str(partial), False), (str(tmp_path), True)]


def outcome(read: Callable[[], np.ndarray]) -> tuple[str, np.ndarray | None]:
    """What a DataError says, or what was read."""
    try:
        return "", read()
    except DataError as error:
        return str(error), None


def test_damage_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    """Zeroed bytes wherever they lie: read as before, or a DataError with the file's name, in chunk and reel."""
    values = np.random.default_rng(0).integers(0, 255, (3, 1, 40, 40), dtype=np.uint8)
    whole = tmp_path / "whole.zarr.zip"
    layouts = ("time", "camera", "row", "column")
    record = {"sequence": "s", "start": 0, "stop": 3}
    write_chunk(whole, {"rgb": Array(values, layouts, "sRGB", "")}, record)
    path, content, damaged = tmp_path / "a.zarr.zip", whole.read_bytes(), 0
    for start in range(0, len(content), 97):
        path.write_bytes(content[:start] + bytes(len(content[start : start + 64])) + content[start + 64 :])
        for read in (lambda: read_arrays(path, "rgb")[0], lambda: Reel([path]).pictures("rgb", 2)):
            error, found = outcome(read)
            if error:
                damaged += 1
                assert str(path) in error
                assert "\n" not in error
            else:
                np.testing.assert_array_equal(found, values if found.ndim == 4 else values[2])
    assert damaged > 40


def test_non_finite_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    with pytest.raises(DataError, match=r"a\.zarr\.zip: depth holds 1 non-finite"):
        write_chunk(path, {"depth": Array(np.array([1.0, np.nan]), ("point",), "m", "")}, {})
    assert not list(tmp_path.iterdir())


def test_publish_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("old")

    def write_half() -> None:
        with publish(tmp_path / "kept.txt") as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "old"


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit fails the write as a full disk does (EFBIG instead of ENOSPC, both OSError)."""
    code = (
        "import numpy as np, sys; from pathlib import Path; from pipeline.store.chunk import Array, write_chunk\n"
        "noise = np.random.default_rng(0).integers(0, 255, (8, 100_000), dtype=np.uint8)\n"
        "write_chunk(Path(sys.argv[1]), {'noise': Array(noise, ('time', 'point'), '1', '')}, {})"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.zarr.zip")], preexec_fn=limit, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none\\.zarr\\.zip: no such file"), open_chunk(tmp_path / "none.zarr.zip"):
        pass
    (tmp_path / "cut.zarr.zip").write_bytes(b"PK\x03\x04 half a zip")
    with pytest.raises(DataError, match="cut\\.zarr\\.zip: damaged, or not a"), open_chunk(tmp_path / "cut.zarr.zip"):
        pass
    write_chunk(tmp_path / "a.zarr.zip", {"rgb": Array(np.zeros(2), ("point",), "1", "")}, {})
    with pytest.raises(DataError, match="no array alpha; it holds \\['rgb'\\]"):
        read_arrays(tmp_path / "a.zarr.zip", "alpha")


def test_in_order_sorts_and_finds_gaps(tmp_path: Path) -> None:
    def span(start: int, stop: int) -> Path:
        path = tmp_path / f"{start}-{stop}.zarr.zip"
        write_chunk(path, {}, {"start": start, "stop": stop})
        return path

    first, second, last = span(0, 8), span(8, 16), span(16, 20)
    assert in_order([last, first, second]) == [first, second, last]
    with pytest.raises(DataError, match="expected 8"):
        in_order([first, last])
