"""Submissions to the NeRSemble benchmark: the zip's layout, films in whole pictures, what is missing."""

from fractions import Fraction
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest
from synthetic_head import HELD_OUT_CAMERA, SEQUENCES, write_ball

from pipeline.cameras.rig import Rig, read_rig, write_rig
from pipeline.errors import DataError
from pipeline.evaluate.submission import TRACKS, Track, sized, write_submission
from pipeline.store.chunk import read_arrays, read_attributes


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person's results, whose cameras see twice as much as the rig."""
    root = tmp_path_factory.mktemp("results")
    ball = write_ball(root / "7")
    rig = read_rig(ball / "rigs/capture.json")
    wide = [c.crop(-c.width / 2, -c.height / 2, 1.0, 2 * c.width, 2 * c.height) for c in rig.cameras]
    write_rig(ball / "cameras.json", Rig(tuple(wide)))
    return root


def track_of(results: Path, sequence: str = "TURN", enlarged: int = 2) -> Track:
    """A track that asks for the ball."""
    camera = read_rig(results / "7/cameras.json").cameras[0]
    size = enlarged * camera.width, enlarged * camera.height
    return Track((("7", sequence),), (HELD_OUT_CAMERA,), *size, Fraction(243, 10))


def test_films_lie_where_the_benchmark_looks_for_them(results: Path, tmp_path: Path) -> None:
    track = track_of(results)
    name = f"007/TURN/cam_{HELD_OUT_CAMERA}.mp4"
    assert write_submission(tmp_path / "a.zip", results, track) == [name]
    with ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [name]
        archive.extract(name, tmp_path)
    with av.open(str(tmp_path / name)) as film:
        stream = film.streams.video[0]
        assert stream.average_rate == Fraction(243, 10)
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    assert len(frames) == SEQUENCES["TURN"]
    assert frames[0].shape == (track.height, track.width, 3)
    renders = results / "7/renders/TURN/capture.zarr.zip"
    (rgb,) = read_arrays(renders, "rgb")
    place = read_attributes(renders)["cameras"].index(HELD_OUT_CAMERA)
    height, width = rgb.shape[2:4]
    inside = frames[1][height : 3 * height, width : 3 * width].astype(float)  # the middle of a picture twice as large
    shrunk = inside.reshape(height, 2, width, 2, 3).mean((1, 3))
    assert np.abs(shrunk - rgb[1, place]).mean() < 12
    frame = frames[1].copy()
    frame[height : 3 * height, width : 3 * width] = 255
    assert frame.mean() > 254


def test_what_is_missing_is_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"renders/NOD/capture\.zarr\.zip: missing"):
        write_submission(tmp_path / "a.zip", results, track_of(results, "NOD"))
    with pytest.raises(DataError, match="none of the track's people"):
        write_submission(tmp_path / "a.zip", results, TRACKS["nvs"], partial=True)
    assert not (tmp_path / "a.zip").exists()


def test_a_camera_of_another_shape_is_refused(results: Path) -> None:
    camera = read_rig(results / "7/cameras.json").cameras[0]
    with pytest.raises(DataError, match="expected the shape of 512x512"):
        sized(camera, TRACKS["mono_flame_avatar"])
