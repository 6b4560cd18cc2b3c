"""Outputs that were made with other settings are found where Snakemake has lost its records."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path

import numpy as np
import pytest

from pipeline.planning.made import made_by, of_other_settings
from pipeline.store.chunk import Array, write_chunk


def write(path: Path, **settings: int) -> Path:
    """A chunk of the stage mesh."""
    record = {"stage": "mesh", "settings": settings, "code": "0"}
    write_chunk(path, {"points": Array(np.zeros(3), ("point",), "", "")}, record)
    return path


def test_other_settings_are_found_unless_snakemake_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, records = Path("results/s"), Path(".snakemake/metadata")
    same, other = write(folder / "meshes/a.zarr.zip", voxel=2), write(folder / "meshes/b.zarr.zip", voxel=3)
    variant = write(folder / "ablations/plain/c.zarr.zip", voxel=5)
    (folder / "meshes/d.zarr.zip").write_bytes(b"no zip")
    assert made_by(other) == {"stage": "mesh", "settings": {"voxel": 3}, "code": "0"}

    def today(stage: str, ablation: str) -> str:
        assert stage == "mesh"
        return json.dumps({"voxel": 5 if ablation == "plain" else 2})

    assert list(of_other_settings("results", records, today)) == [other]
    assert same.exists()
    assert variant.exists()
    records.mkdir(parents=True)
    (records / urlsafe_b64encode(str(other).encode()).decode()).touch()
    assert not list(of_other_settings("results", records, today))
    assert list(of_other_settings("results", records, lambda stage, ablation: None)) == []
