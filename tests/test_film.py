"""Films: equal pictures give equal files, short sequences are repeated, odd sides are filled."""

import io
import json
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.avatar.alpha import over, with_alpha
from pipeline.errors import DataError
from pipeline.film import write_film, write_frames, write_pictures
from pipeline.store.chunk import Array, read_arrays, write_chunk
from tests import in_process


def panning_noise(steps: int, height: int, width: int) -> np.ndarray:
    """Noise moving three pixels per step, (T, h, w, 3) uint8: the codec's defaults do not repeat themselves on it."""
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return np.stack([np.roll(noise, 3 * step, axis=1) for step in range(steps)])


def stir_memory(seed: int) -> None:
    """Fill and free buffers, so that whoever reads memory it has not written gets other values each time."""
    _ = [np.random.default_rng(seed).integers(0, 255, (100 + 7 * seed, 3000), dtype=np.uint8) for _ in range(20)]


def test_equal_pictures_give_equal_files(tmp_path: Path) -> None:
    pictures = panning_noise(3, 64, 48)
    files = set()
    for number in range(15):
        stir_memory(number)
        write_film(tmp_path / "film.mp4", pictures, frames_per_second=24, seconds=0.5, scale=2)
        files.add((tmp_path / "film.mp4").read_bytes())
    assert len(files) == 1


def test_a_short_sequence_is_repeated_and_odd_sides_are_filled(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", panning_noise(5, 33, 47), frames_per_second=10, seconds=1.2, scale=1)
    with av.open(str(tmp_path / "film.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == 15
    assert pictures[0].shape == (34, 48, 3)
    np.testing.assert_allclose(pictures[0].astype(int), pictures[5].astype(int), atol=60)


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_films_with_alpha(tmp_path: Path, suffix: str) -> None:
    frame = np.zeros((32, 48, 4), np.uint8)
    frame[8:24, 12:36] = (200, 80, 40, 255)
    write_frames(tmp_path / f"film{suffix}", lambda: iter([frame] * 4), 24, repeats=2, scale=1)
    with av.open(str(tmp_path / f"film{suffix}")) as film:
        stream = film.streams.video[0]
        if suffix == ".webm":  # FFmpeg's own decoder leaves the alpha out
            film = av.open(str(tmp_path / f"film{suffix}"))
            codec = av.CodecContext.create("libvpx-vp9", "r")
            pictures = [f for packet in film.demux(video=0) if packet.size for f in codec.decode(packet)]
        else:
            pictures = list(film.decode(stream))
    shown = pictures[0].to_ndarray(format="rgba")
    assert len(pictures) == 8
    assert shown[16, 24, 3] > 250
    assert shown[2, 2, 3] < 5
    np.testing.assert_allclose(shown[16, 24, :3].astype(int), frame[16, 24, :3], atol=8)


def test_pictures_in_a_zip(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 5, 7, 4), dtype=np.uint8)
    write_pictures(tmp_path / "film.png.zip", iter(frames))
    with ZipFile(tmp_path / "film.png.zip") as archive:
        assert archive.namelist() == ["00000.png", "00001.png", "00002.png"]
        found = [np.array(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]
    np.testing.assert_array_equal(found, frames)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no film is written as \.gif"):
        write_film(tmp_path / "film.gif", panning_noise(2, 8, 8), 24, 0, 1)


def film(folder: Path, scene: dict[str, list[Path]], name: str, *more: object, **settings: str) -> Path:
    """What the stage makes of the scene's real pictures, seen by its first camera, as if they were rendered."""
    (rgb,) = read_arrays(scene["targets"][0], "rgb")
    record = {"subject": "tiny", "sequence": "SPIN", "start": 0, "stop": len(rgb)}
    about = Array(rgb, ("time", "camera", "row", "column", "channel"), "sRGB", "")
    write_chunk(folder / "rendered.zarr.zip", {"rgb": about}, record)
    files = ("--pictures", folder / "rendered.zarr.zip", "--buffers", *scene["buffers"], "--output", folder / name)
    options = ("--rate", 24, "--seconds", 0, "--scale", 1, "--settings", json.dumps(settings))
    in_process.run_well("stages.film", *files, *options, *more)
    return folder / name


def opened(path: Path) -> list[np.ndarray]:
    """The PNG files of a zip."""
    with ZipFile(path) as archive:
        return [np.array(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]


def test_the_stage_makes_pictures_with_alpha_or_over_a_colour_beside_the_driver(
    tmp_path: Path, scene: dict[str, list[Path]]
) -> None:
    clear = opened(film(tmp_path, scene, "a.png.zip"))
    assert [picture.shape for picture in clear] == [(16, 16, 4)] * 3
    assert clear[0][8, 8, 3] == 255
    assert clear[0][0, 0, 3] == 0
    beside = ("--targets", *scene["targets"], "--camera", "right")
    green = opened(film(tmp_path, scene, "b.png.zip", *beside, png="background", background="#00ff00"))
    (real,) = read_arrays(scene["targets"][0], "rgb")
    for step, picture in enumerate(green):
        assert picture.shape == (16, 32, 3)
        assert (picture[[0, 0, 15], [0, 31, 16]] == (0, 255, 0)).all()
        np.testing.assert_array_equal(picture[8, 8 + step], real[step, 0, 8, 8 + step])
        np.testing.assert_array_equal(picture[8, 24 + step], real[step, 2, 8, 8 + step])
    for name, formats in (("a.mov", "yuva444p"), ("a.webm", "yuv"), ("a.mp4", "yuv420p")):
        with av.open(str(film(tmp_path, scene, name))) as container:
            assert container.streams.video[0].format.name.startswith(formats)
            assert len(list(container.decode(video=0))) == 3


def soft_disc(colour: tuple[int, int, int], radius: float = 30.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc of one colour over white whose rim is soft, 100 x 100; its alpha, and a mask that is a little small."""
    y, x = np.mgrid[:100, :100] - 49.5
    away = np.hypot(x, y)
    alpha = np.clip((radius + 3 - away) / 6, 0, 1)
    picture = 255 - alpha[..., None] * (255 - np.array(colour, float))
    return picture.round().astype(np.uint8), alpha, away < radius - 1


def test_what_is_almost_white_has_no_specks_of_other_colours() -> None:
    colour = (120, 80, 60)
    picture, _, mask = soft_disc(colour)
    noise = np.random.default_rng(0).integers(-12, 1, picture.shape)
    noisy = np.where(np.linalg.norm(picture - 255.0, axis=-1, keepdims=True) < 1, picture + noise, picture)
    shown = with_alpha(noisy.clip(0, 255).astype(np.uint8), mask)
    faint = shown[..., 3] < 25
    assert (shown[faint][:, 3] > 0).sum() > 200
    assert np.abs(shown[faint & (shown[..., 3] > 0)][:, :3].astype(int) - colour).max() < 8


@pytest.mark.parametrize("colour", [(120, 80, 60), (40, 30, 25), (225, 185, 165)])
def test_alpha_of_a_soft_disc_over_white(colour: tuple[int, int, int]) -> None:
    picture, alpha, mask = soft_disc(colour)
    shown = with_alpha(picture, mask).astype(float)
    assert np.abs(shown[..., 3] / 255 - alpha).max() < 0.06
    again = shown[..., 3:] / 255 * shown[..., :3] + 255 - shown[..., 3:]
    np.testing.assert_allclose(again, picture, atol=2)  # over white it is the picture


def test_skin_beside_a_brow_is_no_half_transparent_brow() -> None:
    dark, alpha, mask = soft_disc((60, 45, 40))
    skin, _, _ = soft_disc((190, 140, 120))
    picture = np.where(np.arange(100)[None, :, None] < 70, dark, skin)  # at the rim the nearest colours are the other's
    shown = with_alpha(picture, mask)[..., 3] / 255
    assert np.abs(shown - alpha).max() < 0.1


def test_another_background() -> None:
    picture, alpha, mask = soft_disc((120, 80, 60))
    np.testing.assert_array_equal(over(picture, mask, (255, 255, 255)), picture)
    green = over(picture, mask, (0, 255, 0))
    expected = alpha[..., None] * np.array([120, 80, 60]) + (1 - alpha[..., None]) * np.array([0, 255, 0])
    assert np.abs(green - expected).max() < 14
    assert (green[0, 0] == (0, 255, 0)).all()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_films_say_which_colours_they_are(tmp_path: Path, suffix: str) -> None:
    """And hold them: a red that is coded by one matrix and shown by another is off by more than ten levels."""
    frame = np.full((64, 64, 3), (200, 40, 30), np.uint8)
    write_film(tmp_path / f"film{suffix}", np.stack([frame] * 3), frames_per_second=24, seconds=0.1, scale=1)
    with av.open(str(tmp_path / f"film{suffix}")) as film:
        stream = film.streams.video[0]
        shown = next(film.decode(stream))
        codec = stream.codec_context
        assert (int(codec.colorspace), int(codec.color_primaries), int(codec.color_trc)) == (1, 1, 13)
        assert int(codec.color_range) == 1
        assert np.abs(shown.to_ndarray(format="rgb24").astype(int) - frame).max() <= 4
