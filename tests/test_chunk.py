"""The chunk store: what is published is whole, what fails leaves nothing."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.errors import DataError
from pipeline.store.chunk import Array, in_order, open_chunk, publish, read_arrays, read_attributes, write_chunk

SHAPES = npst.array_shapes(min_dims=3, max_dims=4, min_side=0, max_side=4)
VALUES = st.sampled_from([np.uint8, np.int64, np.float16, np.float32, np.float64]).flatmap(
    lambda dtype: npst.arrays(dtype, SHAPES, elements=st.integers(0, 100))
)


@given(values=VALUES)
def test_round_trip(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("chunk") / "a.zarr.zip"
    axes = ("time", "camera", "y", "x")[: values.ndim]
    write_chunk(path, {"values": Array(values, axes, "m", "anything")}, {"start": 3})
    (read,) = read_arrays(path, "values")
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)
    assert read_attributes(path)["start"] == 3
    with open_chunk(path) as group:
        assert group["values"].attrs["axes"] == list(axes)
    assert [p.name for p in path.parent.iterdir()] == ["a.zarr.zip"]


def test_one_picture_is_one_zarr_chunk() -> None:
    array = Array(np.zeros((4, 3, 8, 6, 3), np.uint8), ("time", "camera", "y", "x", "rgb"), "sRGB", "")
    assert array.chunk_shape() == (1, 1, 8, 6, 3)
    large = Array(np.zeros((1, 1, 600, 100), np.uint8), ("time", "camera", "row", "column"), "", "")
    assert large.chunk_shape() == (1, 1, 512, 100)


def test_non_finite_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    with pytest.raises(DataError, match=r"a\.zarr\.zip: depth holds 1 non-finite"):
        write_chunk(path, {"depth": Array(np.array([1.0, np.nan]), ("x",), "m", "")}, {})
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
        "write_chunk(Path(sys.argv[1]), {'noise': Array(noise, ('time', 'x'), '1', '')}, {})"
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
    with pytest.raises(DataError, match="cut\\.zarr\\.zip: not a readable"), open_chunk(tmp_path / "cut.zarr.zip"):
        pass
    write_chunk(tmp_path / "a.zarr.zip", {"rgb": Array(np.zeros(2), ("x",), "1", "")}, {})
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
