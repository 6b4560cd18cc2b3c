"""kill -9 while a chunk is written: nothing half-written bears the final name, and the next write clears up."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pipeline.provenance import ROOT
from pipeline.store.chunk import Array, read_arrays, write_chunk
from pipeline.store.publish import HOST, publish

WRITER = """
import sys
from pathlib import Path
import numpy as np
from pipeline.store.chunk import Array, write_chunk
noise = np.random.default_rng(0).integers(0, 255, (20, 500_000), dtype=np.uint8)
for number in range(1000):
    write_chunk(Path(sys.argv[1]), {"noise": Array(noise + number, ("time", "point"), "1", "")}, {})
"""


def test_killed_writer_leaves_a_whole_chunk_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    moments = random.Random(3)
    left_behind = 0
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=ROOT) as writer:
            while not any(tmp_path.glob(".*")):
                assert writer.poll() is None
            time.sleep(moments.uniform(0, 0.03))
            writer.kill()
        for partial in tmp_path.glob(".*"):
            left_behind += 1
            partial.unlink()
        if path.exists():
            (noise,) = read_arrays(path, "noise")
            assert noise.shape == (20, 500_000)
            assert len(np.unique(noise[0].astype(int) - noise[1])) > 1
            path.unlink()
    assert left_behind, "no kill hit a write; the test has lost its teeth"
    (tmp_path / f".{HOST}.{writer.pid}.0123.partial.a.zarr.zip").write_text("left by a killed writer")
    write_chunk(path, {"noise": Array(np.zeros(3), ("point",), "1", "")}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr.zip"]


def test_publishing_leaves_other_files_partials_alone(tmp_path: Path) -> None:
    other = tmp_path / f".{HOST}.0.0123.partial.b[1].json"
    other.write_text("being written")
    with publish(tmp_path / "a[1].json") as partial:
        partial.write_text("whole")
    assert other.exists()


OVERLAP = """
import sys, time
from pathlib import Path
from pipeline.store.publish import publish
folder, name, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with publish(folder / "out.txt") as partial:
    partial.write_text(name)
    (folder / f"{name}.began").touch()
    while not (folder / other).exists():
        time.sleep(0.01)
(folder / f"{name}.ended").touch()
"""


def test_overlapping_writers_both_end_well(tmp_path: Path) -> None:
    """The second begins while the first writes, and ends before it: the first's file must still be there."""
    first = subprocess.Popen([sys.executable, "-c", OVERLAP, tmp_path, "first", "second.ended"], cwd=ROOT)
    while not (tmp_path / "first.began").exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = subprocess.run([sys.executable, "-c", OVERLAP, tmp_path, "second", "first.began"], cwd=ROOT, check=False)
    assert (second.returncode, first.wait(30)) == (0, 0)
    assert (tmp_path / "out.txt").read_text() == "first"
    assert not list(tmp_path.glob(".*"))
