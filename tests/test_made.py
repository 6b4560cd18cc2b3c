"""Outputs say which stage, with which settings, made them; those that were made with other settings are found where
Snakemake has lost its records."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path

import numpy as np
import pytest

from pipeline.cameras.rig import Rig, read_rig, write_rig
from pipeline.film import write_film, write_pictures
from pipeline.head.model.identity import read_identity, write_identity
from pipeline.planning.made import of_other_settings
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.made_by import as_text, made_by
from pipeline.store.state import content_digest
from pipeline.store.tensors import write_tensors
from tests.test_retarget import person

RECORD = {"stage": "mesh", "settings": {"path": "a --> b", "of": {"é": [1, None]}}, "code": "0"}


def write(path: Path, **settings: int) -> Path:
    """A chunk of the stage mesh."""
    record = RECORD | {"settings": settings}
    write_chunk(path, {"points": Array(np.zeros(3), ("point",), "", "")}, record)
    return path


def test_every_kind_of_file_keeps_what_made_it(tmp_path: Path) -> None:
    film, said = np.zeros((40, 16, 16, 3), np.uint8), as_text(RECORD)
    assert "\n" not in said
    write_chunk(tmp_path / "a.zarr.zip", {}, RECORD | {"sequence": "s"})
    write_rig(tmp_path / "rig.json", Rig(()), RECORD)
    write_identity(tmp_path / "identity.safetensors", person(5), RECORD)
    write_tensors(tmp_path / "avatar.safetensors", {}, {"made_by": RECORD, "steps": 3})
    for suffix in ("mp4", "mov", "webm"):
        write_film(tmp_path / f"film.{suffix}", film, 24, 0, 1, said)
    write_pictures(tmp_path / "film.png.zip", iter(film), said)
    (tmp_path / "page.html").write_text(f"<!-- {said} -->\n" + 100_000 * "<p>")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 9
    for path in files:
        assert made_by(path) == RECORD, path
    assert read_rig(tmp_path / "rig.json") == Rig(())
    assert read_identity(tmp_path / "identity.safetensors").prior == person(5).prior


@pytest.mark.parametrize(
    "content",
    [b"", b"no such thing", b"[1]", b"made by {", b"\xff" * 90, bytes(8) + b"{}", b"\1" + bytes(7) + b"1"],
)
@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".zarr.zip", ".html"])
def test_a_file_that_keeps_nothing_says_nothing(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert made_by(path) is None


def test_who_made_a_rig_is_no_part_of_what_it_holds(tmp_path: Path) -> None:
    for name, code in (("a.json", "0"), ("b.json", "1")):
        write_rig(tmp_path / name, Rig(()), RECORD | {"code": code})
    assert content_digest(tmp_path / "a.json") == content_digest(tmp_path / "b.json")
    write_rig(tmp_path / "b.json", Rig((), moving=True), RECORD)
    assert content_digest(tmp_path / "a.json") != content_digest(tmp_path / "b.json")


def test_other_settings_are_found_unless_snakemake_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, records = Path("results/s"), Path(".snakemake/metadata")
    same, other = write(folder / "meshes/a.zarr.zip", voxel=2), write(folder / "meshes/b.zarr.zip", voxel=3)
    variant = write(folder / "ablations/plain/c.zarr.zip", voxel=5)
    (folder / "meshes/d.zarr.zip").write_bytes(b"no zip")
    write_tensors(folder / "e.safetensors", {}, {"made_by": RECORD})

    def today(stage: str, ablation: str) -> str:
        assert stage == "mesh"
        return json.dumps({"voxel": 5 if ablation == "plain" else 2})

    assert list(of_other_settings("results", records, today)) == [folder / "e.safetensors", other]
    assert same.exists()
    assert variant.exists()
    records.mkdir(parents=True)
    (records / urlsafe_b64encode(str(other).encode()).decode()).touch()
    assert list(of_other_settings("results", records, today)) == [folder / "e.safetensors"]
    assert list(of_other_settings("results", records, lambda stage, ablation: None)) == []
