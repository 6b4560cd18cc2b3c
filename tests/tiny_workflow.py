"""The whole workflow at its smallest: a project folder round the tiny capture, runs of it, comparison of results."""

import json
import os
import shutil
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import av
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from pipeline.store.chunk import open_chunk
from tests import forked

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests/tiny"
TOOLS = Path(sys.executable).parent
RUN = ("--cores", "2", "--max-threads", "1", "--config")  # at this size threads cost more than they bring


def make_project(folder: Path, capture: Path) -> Path:
    """Copy the workflow, the tiny config and the capture into a new folder. The code is linked to, and with it what is
    kept of it compiled."""
    folder.mkdir(exist_ok=True)
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    for path in (ROOT / "Snakefile", TINY / "config.yaml", TINY / "captures.tsv"):
        shutil.copy(path, folder / path.name)
    shutil.copytree(capture, folder / "capture/901")
    return folder


def start(folder: Path, *arguments: str, python: Path = TOOLS) -> BaseProcess:
    """Start Snakemake in a project, its jobs by the `python` of a folder; what it says goes to snakemake.log."""
    environment = {**os.environ, "PATH": f"{python}:{TOOLS}:{os.environ['PATH']}"}
    return forked.start(folder, environment, folder / "snakemake.log", *arguments)


def run(folder: Path, *arguments: str, python: Path = TOOLS) -> str:
    """Run Snakemake to its end; what it said. Raises AssertionError with the end of its log when it fails."""
    path = folder / "snakemake.log"
    before = path.stat().st_size if path.exists() else 0
    process = start(folder, *arguments, python=python)
    process.join()
    said = path.read_bytes()[before:].decode()
    assert process.exitcode == 0, said[-4000:]
    return said


def decode(path: Path) -> object:
    """What a result file means, without what differs between equal runs (times inside zips, code digests).

    Arrays by name (offsets of ragged arrays as lengths, so that it does not matter where a chunk begins), parsed JSON,
    pictures of a film. Raises an error when the file is not whole.
    """
    if path.name.endswith(".zarr.zip"):
        with open_chunk(path) as group:
            arrays = {name: array[...] for name, array in group.arrays.items()}
            return {name: np.diff(values) if name.endswith("offsets") else values for name, values in arrays.items()}
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".mp4":
        with av.open(str(path)) as film:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return np.asarray(picture)
    text = path.read_text()
    assert text.rstrip().endswith("</html>"), path
    return "page"


def result_files(results: Path) -> list[Path]:
    """Every file under its final name, sorted; logs, run times and what a killed process left are no results."""
    chosen = [path for path in results.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return sorted(path for path in chosen if path.suffix not in (".log", ".tsv"))


def joined(results: Path) -> dict[str, object]:
    """All results by name; the chunks of a sequence joined along their first axis, so that spans do not matter."""
    together: dict[str, list] = {}
    for path in result_files(results):
        name = path.relative_to(results)
        is_span = name.name[:6].isdigit() and name.name.endswith(".zarr.zip")
        together.setdefault(str(name.parent if is_span else name), []).append(decode(path))
    return {name: _concatenated(parts) if len(parts) > 1 else parts[0] for name, parts in together.items()}


def _concatenated(chunks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def assert_equal(first: dict[str, object], second: dict[str, object]) -> None:
    """The same results, bit for bit; the first that differs is named."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        other = second[name]
        if isinstance(value, dict) and any(isinstance(part, np.ndarray) for part in value.values()):
            assert value.keys() == other.keys(), name
            for array in value:
                np.testing.assert_array_equal(value[array], other[array], err_msg=f"{name}: {array}")
        else:
            np.testing.assert_equal(value, other, err_msg=name)
