"""Figures by networks and windows: MS-SSIM and LPIPS against slow references, AKD, CSIM, intervals, the paper's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_file import write_embedding
from safetensors.torch import save_file

from pipeline.errors import DataError
from pipeline.evaluate.intervals import read_intervals, rows, write_figures
from pipeline.evaluate.measures.faces import INPUT, PLACES, Embedding, Faces, similarity, upright
from pipeline.evaluate.measures.image import SCALES, ms_ssim
from pipeline.evaluate.measures.lpips import CONVOLUTIONS, SCALE, SHIFT, Lpips, load_lpips
from pipeline.evaluate.paper import paper_means
from pipeline.evaluate.pictures import Picture
from tests import in_process
from tests.test_detect import FRONT, needs_models, picture

KERNELS = {0: 11, 3: 5, 6: 3, 8: 3, 10: 3}
ALEXNET = (64, 192, 384, 256, 256)  # widths of torchvision's


def noisy(shape: tuple[int, int], seed: int = 0, strength: float = 30) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and one with noise on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = 128 + 80 * np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], -1)
    return tuple(np.clip(p, 0, 255).astype(np.uint8) for p in (truth + rng.normal(0, strength, truth.shape), truth))


def slow_ms_ssim(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    """The same by a loop over windows."""
    offset = np.arange(-5, 6)
    window = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    weights = np.array(SCALES[:scales]) / sum(SCALES[:scales])
    total = 0.0
    for channel in range(3):
        one, other = a[..., channel] / 255, b[..., channel] / 255
        value = 1.0
        for scale in range(scales):
            found = []
            for row in range(one.shape[0] - 10):
                for column in range(one.shape[1] - 10):
                    p, q = (picture[row : row + 11, column : column + 11] for picture in (one, other))
                    mp, mq = (window * p).sum(), (window * q).sum()
                    vp, vq, c = (window * p * p).sum(), (window * q * q).sum(), (window * p * q).sum()
                    s = (2 * (c - mp * mq) + 0.03**2) / (vp - mp**2 + vq - mq**2 + 0.03**2)
                    if scale == scales - 1:
                        s *= (2 * mp * mq + 0.01**2) / (mp**2 + mq**2 + 0.01**2)
                    found.append(s)
            value *= np.mean(found) ** weights[scale]
            one, other = (
                sum(p[i : p.shape[0] // 2 * 2 : 2, j : p.shape[1] // 2 * 2 : 2] for i in (0, 1) for j in (0, 1)) / 4
                for p in (one, other)
            )
        total += value / 3
    return total


@pytest.mark.parametrize(("shape", "scales"), [((24, 30), 2), ((50, 47), 3)])
def test_ms_ssim_is_that_of_a_loop_over_windows(shape, scales):
    prediction, truth = noisy(shape)
    assert ms_ssim(prediction, truth) == pytest.approx(slow_ms_ssim(prediction, truth, scales), abs=1e-6)


def test_ms_ssim_of_equal_pictures_is_one_and_noise_lowers_it():
    truth = noisy((176, 176))[1]
    found = [ms_ssim(noisy((176, 176), strength=strength)[0], truth) for strength in (5, 20, 60)]
    assert ms_ssim(truth, truth) == pytest.approx(1)
    assert 1 > found[0] > found[1] > found[2] > 0


def tiny_weights(widths: tuple[int, ...] = (4, 5, 3, 6, 2)) -> dict[str, torch.Tensor]:
    """Random weights of a network as narrow as `widths`, by the names of torchvision's AlexNet and of LPIPS."""
    generator, before, result = torch.Generator().manual_seed(3), 3, {}
    for number, (place, width) in enumerate(zip(CONVOLUTIONS, widths, strict=True)):
        size = KERNELS[place]
        result[f"features.{place}.weight"] = torch.randn(width, before, size, size, generator=generator) / size
        result[f"features.{place}.bias"] = torch.randn(width, generator=generator)
        result[f"lin{number}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
        before = width
    return result


def slow_layers(picture: np.ndarray, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The five layers' features (h', w', C) of a picture (h, w, 3) uint8, by loops over pixels."""
    x = ((picture / 127.5 - 1) - SHIFT) / np.array(SCALE)
    found = []
    for place, size, stride, rim in ((0, 11, 4, 2), (3, 5, 1, 2), (6, 3, 1, 1), (8, 3, 1, 1), (10, 3, 1, 1)):
        if place in (3, 6):
            half = [(side - 3) // 2 + 1 for side in x.shape[:2]]
            x = np.array(
                [[x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for j in range(half[1])] for i in range(half[0])]
            )
        padded = np.pad(x, ((rim, rim), (rim, rim), (0, 0)))
        out = [(side + 2 * rim - size) // stride + 1 for side in x.shape[:2]]
        kernel, bias = weights[f"features.{place}.weight"], weights[f"features.{place}.bias"]
        x = np.zeros((*out, len(bias)))
        for i in range(out[0]):
            for j in range(out[1]):
                patch = padded[i * stride : i * stride + size, j * stride : j * stride + size]
                x[i, j] = np.maximum(np.einsum("ocyx,yxc->o", kernel, patch) + bias, 0)
        found.append(x)
    return found


def test_lpips_is_that_of_loops_over_pixels(tmp_path):
    weights = tiny_weights()
    save_file(weights, tmp_path / "lpips.safetensors")
    prediction, truth = noisy((64, 72))
    head = np.zeros((64, 72), bool)
    head[20:40, 20:50] = True
    found = load_lpips(tmp_path / "lpips.safetensors").figures(prediction, truth, head)
    plain = {name: tensor.numpy().astype(float) for name, tensor in weights.items()}
    expected = 0.0
    for number, (a, b) in enumerate(zip(slow_layers(prediction, plain), slow_layers(truth, plain), strict=True)):
        a, b = (x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in (a, b))
        expected += (((a - b) ** 2) @ plain[f"lin{number}.model.1.weight"].ravel()).mean()
    assert found["lpips"] == pytest.approx(expected, rel=1e-4)
    assert found["lpips_head"] > 0
    assert Lpips(weights).figures(truth, truth, head) == {"lpips": 0, "lpips_head": 0}


def test_lpips_head_looks_at_the_head_alone():
    network, (_, truth) = Lpips(tiny_weights()), noisy((96, 192))
    head = np.zeros(truth.shape[:2], bool)
    head[:, 140:] = True
    spoilt = truth.copy()
    spoilt[:, :40] = 0
    assert (
        network.figures(spoilt, truth, head)["lpips_head"] < 0.05 * network.figures(spoilt, truth, ~head)["lpips_head"]
    )


@pytest.mark.parametrize("widths", [(4, 5, 3, 6, 2), ALEXNET])
def test_the_command_joins_both_files(tmp_path, widths):
    weights = tiny_weights(widths)
    torch.save(
        {name: w for name, w in weights.items() if "features" in name} | {"classifier.1.weight": torch.ones(1)},
        tmp_path / "a.pth",
    )
    torch.save({name: w for name, w in weights.items() if "lin" in name}, tmp_path / "b.pth")
    files = [tmp_path / name for name in ("a.pth", "b.pth", "out.safetensors")]
    in_process.run_well("evaluate.measures.lpips", *files[:2], "--output", files[2])
    prediction, truth = noisy((64, 64))
    head = np.ones((64, 64), bool)
    assert load_lpips(tmp_path / "out.safetensors").figures(prediction, truth, head) == Lpips(weights).figures(
        prediction, truth, head
    )


def test_other_weights_are_refused(tmp_path):
    save_file(tiny_weights() | {"features.3.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    for name in ("other.safetensors", "missing.safetensors"):
        with pytest.raises(DataError, match=f"{name}: no weights of LPIPS"):
            load_lpips(tmp_path / name)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 10), st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
def test_a_similarity_is_found_again(angle, scale, move):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity(PLACES, PLACES @ turn.T + move)
    np.testing.assert_allclose(found, np.column_stack([turn, move]), atol=1e-6)


@needs_models
def test_akd_counts_pixels_and_faces_that_are_not_found(tmp_path):
    truth, shift = picture(FRONT), 6
    moved = np.roll(truth, shift, axis=1)
    head = np.ones(truth.shape[:2], bool)
    matrix = np.random.default_rng(0).normal(size=(48, 8))
    faces = Faces(None, Embedding(write_embedding(tmp_path / "tiny.onnx", matrix, INPUT)))
    assert faces.figures(truth, truth, head) == {"face_found": 1, "akd": 0, "csim": pytest.approx(1)}
    found = faces.figures(moved, truth, head)
    assert found["akd"] == pytest.approx(shift * 512 / max(truth.shape[:2]), rel=0.1)
    assert found["csim"] > 0.9  # the face is cut out where it is
    white = np.full_like(truth, 255)
    assert faces.figures(white, truth, head) == {"face_found": 0}
    assert faces.figures(truth, white, head) == {}


def test_an_embedding_is_what_its_file_says(tmp_path):
    rng = np.random.default_rng(1)
    matrix, face = rng.normal(size=(48, 8)), rng.random((INPUT, INPUT, 3)).astype(np.float32)
    vector = Embedding(write_embedding(tmp_path / "tiny.onnx", matrix, INPUT)).of(face)
    means = (2 * face - 1).reshape(4, 28, 4, 28, 3).mean((1, 3)).transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(vector, means @ matrix / np.linalg.norm(means @ matrix), atol=1e-5)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match=r"bad\.onnx: not an ONNX network"):
        Embedding(tmp_path / "bad.onnx")


def test_an_embedding_reads_the_colours_that_it_is_made_for(tmp_path):
    rng = np.random.default_rng(1)
    matrix, face = rng.normal(size=(48, 8)), rng.random((INPUT, INPUT, 3)).astype(np.float32)
    plain = write_embedding(tmp_path / "plain.onnx", matrix, INPUT)
    own = write_embedding(tmp_path / "own.onnx", matrix, INPUT, reads_bytes=True)
    np.testing.assert_allclose(Embedding(own, "bytes").of(face), Embedding(plain).of(face), atol=1e-4)
    with pytest.raises(DataError, match=r"own\.onnx: .* expected evaluate\.face_colours bytes"):
        Embedding(own)


def test_a_face_is_cut_out_by_its_points():
    picture = np.zeros((200, 200, 3), np.uint8)
    points = np.zeros((468, 2))
    for places, (x, y) in zip(((33, 133), (362, 263), (4,), (61,), (291,)), PLACES, strict=True):
        points[list(places)] = 30 + 1.2 * x, 20 + 1.2 * y
        picture[int(20 + 1.2 * y), int(30 + 1.2 * x)] = 255
    shown = upright(picture, points)
    for x, y in PLACES:
        assert shown[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].max() > 0.2


def film(psnr: np.ndarray, sequence: str = "S", camera: str = "c") -> list[Picture]:
    """A film's pictures by their PSNR."""
    return [Picture("heldout_both", "avatar", sequence, camera, step, {"psnr": v}) for step, v in enumerate(psnr)]


def test_the_papers_psnr_pools_sixteen_pictures_and_weighs_films_alike():
    long, short = np.linspace(20, 40, 20), np.full(2, 30.0)
    pooled = [-10 * np.log10(np.mean(10 ** (-part / 10))) for part in (long[:16], long[16:])]
    found = paper_means([*film(long, "LONG"), *film(short, "SHORT")])
    assert found == {"psnr_paper": pytest.approx((np.mean(pooled) + 30) / 2)}


def test_figures_come_by_sequence_and_camera_with_intervals():
    table = {row[:5]: row[5:] for row in rows([*film(np.full(3, 20.0), "A", "c"), *film(np.full(5, 30.0), "B", "d")])}
    assert table["heldout_both", "A", "all", "avatar", "psnr"] == (20, 20, 20, 3)
    assert table["heldout_both", "all", "d", "avatar", "psnr"] == (30, 30, 30, 5)
    mean, low, high, count = table["heldout_both", "all", "all", "avatar", "psnr"]
    assert (mean, count) == (26.25, 8)
    assert 20 <= low < mean < high <= 30


def test_what_a_single_film_scores_has_no_interval(tmp_path):
    one = [Picture("heldout_both", "avatar", "A", camera, 0, {"jod": 8.0 + place}) for place, camera in enumerate("cd")]
    assert [row[6:] for row in rows(one) if row[:3] == ("heldout_both", "all", "all")] == [("", "", 2)]
    write_figures(tmp_path / "figures.tsv", [*one, *film(np.arange(20.0, 25.0), "A", "c")])
    assert set(read_intervals(tmp_path / "figures.tsv")) == {("heldout_both", "avatar", "psnr")}
