"""The state of a training: what changes its key and what must not, and files that are written a tensor at a time."""

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from pipeline import provenance
from pipeline.errors import DataError
from pipeline.head.train.bank import bank_key
from pipeline.settings.prior import PriorSettings
from pipeline.settings.train import TrainSettings
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.state import TrainingState, content_digest, counted, key
from pipeline.store.tensors import open_tensors, read_tensors, write_tensors

STAGE = "pipeline.stages.train"


def chunk(path: Path, values: np.ndarray, **attributes) -> Path:
    write_chunk(path, {"rgb": Array(values, ("time", "row"), "", "")}, {"start": 0, "stop": 2} | attributes)
    return path


@pytest.mark.parametrize(
    "name", ["preview_every", "save_every", "checkpointing", "read_ahead", "readers", "fetch_every"]
)
def test_settings_that_change_no_result_are_not_counted(name):
    plain = TrainSettings()
    other = plain.model_copy(update={name: 7})
    assert counted(plain) == counted(other)
    assert counted(plain) != counted(plain.model_copy(update={"learning_rate": 1e-5}))


def test_nested_settings_count():
    narrow = TrainSettings(architecture={"channels": [32, 64]})
    assert counted(TrainSettings()) != counted(narrow)
    assert counted(PriorSettings()) != counted(PriorSettings(model={"loc": 8}))


def test_what_a_chunk_holds_counts_and_who_made_it_does_not(tmp_path):
    values = np.arange(8.0).reshape(2, 4)
    plain = content_digest(chunk(tmp_path / "a.zarr.zip", values, code="one", sequence="S"))
    assert content_digest(chunk(tmp_path / "b.zarr.zip", values, code="two", sequence="S")) == plain
    assert content_digest(chunk(tmp_path / "c.zarr.zip", values + 1e-9, code="one", sequence="S")) != plain
    assert content_digest(chunk(tmp_path / "d.zarr.zip", values, code="one", sequence="T")) != plain


def test_other_files_are_told_apart_by_every_byte(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "b").write_bytes(bytes(999) + b"\1")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


def edited(folder: Path, old: str, new: str) -> str:
    """The digest of the training's code after an edit of its loop in a copy of the project."""
    root = folder / "project"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(provenance.ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("*.safetensors"))
    loop = root / "pipeline/avatar/train/loop.py"
    assert old in loop.read_text()
    loop.write_text(loop.read_text().replace(old, new))
    return provenance.digest(STAGE, root=root)


def test_an_edited_message_keeps_the_key_and_an_edited_sum_does_not(tmp_path):
    plain = edited(tmp_path, "try a lower learning_rate", "try a lower learning_rate")
    assert edited(tmp_path, "try a lower learning_rate", "lower learning_rate") == plain
    assert edited(tmp_path, "The training loop:", "A training loop:") == plain
    assert edited(tmp_path, ".square().mean(1)", ".abs().mean(1)") != plain


def test_a_state_is_found_again_only_by_the_same_training(tmp_path):
    data = tmp_path / "data"
    data.write_text("pictures")

    def state(**settings) -> TrainingState:
        return TrainingState(tmp_path / "runs", STAGE, TrainSettings(**settings), [data], "front")

    state().save({"x": torch.ones(2)}, {"step": 3})
    with state(preview_every=7).saved() as found:
        assert (found[0]["x"].tolist(), found[1]) == ([1, 1], {"step": 3})
    with state(seed=1).saved() as found:
        assert found is None
    data.write_text("Pictures")
    with state().saved() as found:
        assert found is None
    data.write_text("pictures")
    state().delete()
    with state().saved() as found:
        assert found is None


def test_the_key_knows_the_code(monkeypatch):
    plain = key(STAGE, {}, [])
    monkeypatch.setattr("pipeline.store.state.provenance.digest", lambda *modules, **options: "other")
    assert key(STAGE, {}, []) != plain


def test_samples_of_another_face_model_or_of_other_code_are_not_taken(tmp_path, monkeypatch):
    """Those of a prior's training lie in a folder of this name, and are taken as they are where there are some."""
    face = tmp_path / "face.npz"
    face.write_bytes(b"one")
    before = bank_key(face)
    assert bank_key(face) == before
    face.write_bytes(b"two")
    assert bank_key(face) != before
    face.write_bytes(b"one")
    monkeypatch.setattr("pipeline.store.state.provenance.digest", lambda *modules, **options: "other")
    assert bank_key(face) != before


def test_tensors_come_back_and_the_formats_own_library_reads_them(tmp_path):
    tensors = {
        "half": torch.randn(3, 5).to(torch.bfloat16),
        "step": torch.tensor(7.0),
        "empty": torch.zeros(0, 4),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "turned": torch.randn(4, 6).T,
        "count": torch.tensor([2**40]),
    }
    write_tensors(tmp_path / "t.safetensors", tensors, {"step": 1})
    found, description = read_tensors(tmp_path / "t.safetensors")
    library = load((tmp_path / "t.safetensors").read_bytes())
    assert description == {"step": 1}
    assert found.keys() == library.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert torch.equal(library[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_writing_holds_no_copy_of_the_file(tmp_path):
    tensors = {str(i): torch.zeros(1_000_000) for i in range(8)}  # 32 MB
    tracemalloc.start()
    write_tensors(tmp_path / "t.safetensors", tensors, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6
    assert (tmp_path / "t.safetensors").stat().st_size > 32e6


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "t.safetensors").write_bytes(b"no such thing")
    with (
        pytest.raises(DataError, match=r"t\.safetensors: not a readable safetensors file"),
        open_tensors(tmp_path / "t.safetensors"),
    ):
        pass
