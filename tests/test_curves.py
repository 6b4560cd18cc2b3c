"""Curves of face capture apps: the CSV, its time, its sides, and ARKit's weights as expression codes."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.capture.curves import ARKIT, PAIRED, SINGLE, Curves, mirrored, read_curves, resampled
from pipeline.errors import DataError
from pipeline.head.model.arkit import SHIPPED, read_map
from pipeline.head.model.prior import load_prior
from pipeline.head.train.arkit import make_map, model_names
from pipeline.provenance import ROOT

PAIRED_NAMES = [f"{stem}{side}" for stem in PAIRED for side in ("Left", "Right")]
BOTH = ("cheekPuff", "browInnerUp")  # of which the face model has two
MORE = ("HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "RightEyeYaw", "RightEyePitch")


def write_csv(path: Path, rows: list[tuple[str, dict[str, float]]], capital: bool = True) -> Path:
    """A file as the apps write it: a row is its timecode and the values that are not zero."""
    names = [name[0].upper() + name[1:] if capital else name for name in ARKIT] + list(MORE)
    lines = [",".join(["Timecode", "BlendShapeCount", *names])]
    for code, values in rows:
        lower = {name.lower(): value for name, value in values.items()}
        lines.append(",".join([code, "61", *(f"{lower.get(name.lower(), 0):.9g}" for name in names)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("capital", [True, False])
def test_rows_and_timecodes(tmp_path, capital):
    rows = [("23:59:59:59.500", {"jawOpen": 0.25}), ("00:00:00:00.500", {"eyeBlinkLeft": 1, "headYaw": 0.1})]
    curves = read_curves(write_csv(tmp_path / "a.csv", rows, capital), 60)
    np.testing.assert_allclose(curves.seconds, [0, 1 / 60], atol=1e-9)
    assert curves.weights[0, ARKIT.index("jawOpen")] == 0.25
    assert curves.weights[1, ARKIT.index("eyeBlinkLeft")] == 1
    assert curves.weights.sum() == 1.25
    np.testing.assert_allclose(curves.head, [[0, 0, 0], [0.1, 0, 0]])
    assert curves.eyes.shape == (2, 2, 2)


def test_a_file_without_time_head_and_eyes(tmp_path):
    lines = [",".join(ARKIT), *[",".join(["0.5"] * 52)] * 7]
    (tmp_path / "a.csv").write_text("\r\n".join(lines))
    curves = read_curves(tmp_path / "a.csv", 60)
    np.testing.assert_allclose(curves.seconds, np.arange(7) / 60)
    assert curves.head is None
    assert curves.eyes is None
    assert (curves.weights == 0.5).all()


FAULTS = {
    "no column jawOpen": lambda text: text.replace("JawOpen", "JawWide"),
    "line 2, column jawOpen: '25': expected weights": None,
    "line 2, column Timecode: 'noon'": lambda text: text.replace("01:00:00:00", "noon"),
    "line 3, column Timecode: goes back": lambda text: text.replace("01:00:00:01", "00:59:59:01"),
    "fewer than 60 frames": lambda text: text.replace("01:00:00:01", "01:00:00:75"),
    "line 3 has 60 values": lambda text: text.rstrip().removesuffix(",0") + "\n",
    "expected a number": lambda text: text.replace("0.25", "nan"),
    "0 rows below the header": lambda text: text.splitlines()[0],
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_named(tmp_path, message):
    jaw = 25 if FAULTS[message] is None else 0.25
    path = write_csv(tmp_path / "a.csv", [("01:00:00:00", {"jawOpen": jaw}), ("01:00:00:01", {})])
    if FAULTS[message]:
        path.write_text(FAULTS[message](path.read_text()))
    with pytest.raises(DataError) as error:
        read_curves(path, 60)
    for part in message.split(": "):
        assert part.strip("'") in str(error.value)


@given(st.integers(2, 200), st.sampled_from([24, 25, 30, 60, 73]), st.integers(0, 100))
def test_resampling_keeps_straight_lines(rows, rate, seed):
    rng = np.random.default_rng(seed)
    seconds = np.concatenate([[0], np.sort(rng.uniform(0, rows / 60, rows - 1))])
    slope = rng.uniform(0, 1, 52)
    straight = Curves(seconds, seconds[:, None] * slope, seconds[:, None] * [1, 2, 3], None)
    film = resampled(straight, rate)
    assert len(film.seconds) == int(seconds[-1] * rate + 1e-6) + 1
    np.testing.assert_allclose(film.weights, film.seconds[:, None] * slope, atol=1e-9)
    np.testing.assert_allclose(film.head, film.seconds[:, None] * [1, 2, 3], atol=1e-9)


def test_mirroring_swaps_sides_and_twice_is_nothing():
    rng = np.random.default_rng(1)
    curves = Curves(np.arange(3) / 60, rng.random((3, 52)), rng.random((3, 3)), rng.random((3, 2, 2)))
    other = mirrored(curves)
    left, right = ARKIT.index("mouthSmileLeft"), ARKIT.index("mouthSmileRight")
    np.testing.assert_array_equal(other.weights[:, left], curves.weights[:, right])
    np.testing.assert_array_equal(other.weights[:, ARKIT.index("jawLeft")], curves.weights[:, ARKIT.index("jawRight")])
    for one, twice in zip(vars(curves).values(), vars(mirrored(other)).values(), strict=True):
        np.testing.assert_array_equal(one, twice)


def test_names_of_the_face_model():
    known = ["eyeBlink_L", "eyeBlink_R", "cheekPuff_L", "cheekPuff_R", "jawOpen", "jawLeft"]
    assert model_names("eyeBlinkLeft", known) == ["eyeBlink_L"]
    assert model_names("cheekPuff", known) == ["cheekPuff_L", "cheekPuff_R"]
    assert model_names("jawOpen", known) == ["jawOpen"]
    assert model_names("jawLeft", known) == ["jawLeft"]
    assert model_names("tongueOut", known) == []


def test_shipped_map_goes_there_and_back():
    prior = load_prior(ROOT / "pipeline/head/weights/head_prior.safetensors")
    shipped = read_map(SHIPPED, prior.config.exp)
    assert not prior.neutral.any()  # weights of zero are the face at rest
    assert "Permission is hereby granted" in shipped.notice
    known = np.array([name != "tongueOut" for name in ARKIT])
    weights = np.random.default_rng(0).random((5, 52)) * known
    np.testing.assert_allclose(shipped.weights(shipped.z_exp(weights)), weights, atol=1e-5)
    with pytest.raises(DataError, match="expected 52 and 100"):
        read_map(SHIPPED, 100)
    with pytest.raises(DataError, match="no map"):
        read_map(ROOT / "README.md", 57)


def test_way_back_is_the_least_squares_of_the_face():
    rng = np.random.default_rng(2)
    names = [re.sub("(Left|Right)$", lambda side: f"_{side[0][0]}", name) for name in PAIRED_NAMES]
    names += [
        part
        for name in SINGLE
        if name != "tongueOut"
        for part in ([f"{name}_L", f"{name}_R"] if name in BOTH else [name])
    ]
    names.append("cheekRaiser_L")  # of which ARKit knows nothing
    modes = rng.normal(size=(len(names), 40, 3)).astype(np.float32)
    model = SimpleNamespace(expression_names=names, expression_modes=modes, face=np.arange(40).reshape(-1, 4))
    made = make_map(model, "notice")
    z_exp = rng.normal(size=len(names)).astype(np.float32)
    moved = modes.reshape(len(names), -1).T
    columns = (moved @ made.z_exp_from_weights)[:, : len(ARKIT) - 1]
    best = np.linalg.lstsq(columns, moved @ z_exp, rcond=None)[0]
    np.testing.assert_allclose(made.weights(z_exp)[:-1], best, atol=1e-3)
