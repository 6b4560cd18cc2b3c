"""Films: equal pictures give equal files, short sequences are repeated, odd sides are filled."""

from pathlib import Path

import av
import numpy as np

from pipeline.film import write_film


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
