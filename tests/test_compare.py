"""Two results of one subject compared: scores with intervals, what changed, pictures, by the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_head import HELD_OUT_CAMERA, HELD_OUT_SEQUENCE, write_ball
from test_evaluate import command

from pipeline.errors import DataError
from pipeline.evaluate.compare import changes, flat, scores
from pipeline.evaluate.intervals import interval
from pipeline.evaluate.pictures import Picture
from pipeline.store.chunk import read_arrays, read_attributes
from pipeline.store.tensors import write_tensors
from tests import in_process
from tests.synthetic_head import write_pictures


def film(gain: float, steps: int = 20) -> list[Picture]:
    """A film of the avatar whose PSNR varies from moment to moment, `gain` dB better than another."""
    values = 25 + np.random.default_rng(0).normal(size=steps) + gain
    return [Picture("heldout_both", "avatar", "S", "c", step, {"psnr_head": v}) for step, v in enumerate(values)]


def test_an_equal_gain_of_every_picture_has_no_width():
    (row,) = scores(film(0), film(0.5))
    assert row["difference"] == pytest.approx(0.5)
    assert row["low"] == pytest.approx(0.5)
    assert row["high"] == pytest.approx(0.5)


def test_the_interval_is_that_of_the_mean_and_moments_are_drawn_whole():
    differences = np.random.default_rng(1).normal(0.3, 1, 400)
    low, high = interval(differences, np.arange(400)[:, None])
    assert high - low == pytest.approx(2 * 1.645 / np.sqrt(400), rel=0.15)
    repeated = interval(np.repeat(differences, 5), np.repeat(np.arange(400), 5)[:, None])
    assert repeated == pytest.approx((low, high))  # five cameras that see the same add nothing


def test_a_single_moment_has_no_interval():
    (row,) = scores(film(0, steps=1), film(0.5, steps=1))
    assert (row["difference"], row["low"], row["high"]) == (pytest.approx(0.5), "", "")


def test_results_without_a_common_picture_are_refused():
    other = [Picture("heldout_both", "avatar", "T", "c", 0, {"psnr_head": 20.0})]
    with pytest.raises(DataError, match="no picture in common"):
        scores(film(0), other)


def test_a_folder_that_was_not_evaluated_is_one_line(tmp_path: Path):
    done = in_process.run("evaluate.compare", tmp_path, tmp_path)
    assert done.returncode == 1
    assert "pictures.tsv: no such file; expected what the stage evaluate writes" in done.stderr


def test_changes_name_settings_and_code():
    a = {"train": {"code": "x", **flat({"steps": 5, "architecture": {"features": 8}})}, "speed": {}}
    b = {"train": {"code": "y", **flat({"steps": 5, "architecture": {"features": 4}})}}
    assert changes(a, b) == ["speed: only in A", "train.architecture.features: 8 -> 4", "train.code: x -> y"]
    assert changes(a, a) == ["no difference in recorded settings or code"]
    assert changes({}, {}) == [f"{name}: its files record neither settings nor code" for name in "AB"]


def test_the_command_compares_two_results(tmp_path: Path):
    a, b = (write_ball(tmp_path / name) for name in "ab")
    path = b / "renders" / HELD_OUT_SEQUENCE / "capture.zarr.zip"
    (rgb,) = read_arrays(path, "rgb")
    cameras = read_attributes(path)["cameras"]
    rgb[1, cameras.index(HELD_OUT_CAMERA)] = 0  # one black picture
    write_pictures(path, {"rgb": rgb}, sequence=HELD_OUT_SEQUENCE, start=0, stop=len(rgb), cameras=cameras)
    for root, rate in ((a, 1e-3), (b, 1e-4)):
        in_process.run_well(*command(root, root))
        trained = {"stage": "train", "settings": {"learning_rate": rate, "seed": 0}, "code": "one"}
        write_tensors(root / "avatar.safetensors", {}, {"made_by": trained})
    in_process.run_well("evaluate.compare", a, b, "--output", tmp_path / "out")
    rows = {(row["split"], row["figure"]): row for row in json.loads((tmp_path / "out/scores.json").read_text())}
    assert rows["heldout_both", "psnr_head"]["difference"] < -5
    assert rows["heldout_camera", "psnr_head"]["difference"] == pytest.approx(0)
    assert (tmp_path / "out/changes.md").read_text() == "- train.learning_rate: 0.001 -> 0.0001\n"
    page = (tmp_path / "out/index.html").read_text()
    assert "different subjects" not in page
    first = page[page.index("<figcaption>") :]
    assert f"{HELD_OUT_SEQUENCE}, camera {HELD_OUT_CAMERA}, step 1" in first[:120]
    assert page.count("<img") == 12
    assert "&" in (tmp_path / "out/scores.tex").read_text()
    # cameras and sequences of the same names, as in one data set
    write_pictures(b / "comparison.zarr.zip", {"rgb": rgb[:1]}, subject="another")
    done = in_process.run_well("evaluate.compare", a, b, "--output", tmp_path / "out")
    assert "different subjects, another and ball: expected one" in done.stderr
    assert (tmp_path / "out/changes.md").read_text().startswith("- different subjects, another and ball")
