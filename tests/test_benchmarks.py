"""Benchmarks run to their last line on tiny input; what they measure there means nothing."""

import json
import math
import sys
from importlib import import_module
from multiprocessing import get_context

import pytest

from benchmarks import gpu, train_step
from tests.tiny_workflow import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, one_thread: None):
    """Run a benchmark with some options; its figures."""
    monkeypatch.chdir(ROOT)  # the shipped prior is named from there

    def benchmark(name: str, *arguments: object) -> dict:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        import_module(f"benchmarks.{name}").main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return benchmark


def numbers(figures: object) -> list[float]:
    """All numbers in nested figures."""
    if isinstance(figures, dict):
        return [number for value in figures.values() for number in numbers(value)]
    return [figures] if isinstance(figures, int | float) else []


ALONE = {
    "autoencoder": ("--size", "tiny", "--side", 32),
    "card_memory": ("--size", "tiny"),
    "marks": ("--heads", 3, "--modes", 5),
    "loader": ("--views", 2, "--samples", 2, "--height", 96, "--width", 64, "--size", 48, "--batch", 2, "--step-ms", 5),
    "meshing": ("--resolution", 16, "--error-at"),
    "paper_model": ("--size", "tiny", "--steps", 2),
    "planning": ("--frames", 64),
    "rasterize": ("--cameras", 1, "--subdivisions", 3),
    "sample": ("--device", "cpu", "--steps", 2, "--frames", 2),
    "tf32": ("--prior", "shipped", "--resolution", 16),
    "train_step": ("--device", "cpu", "--batch", 2, "--steps", 1),
}
ON_RESULTS = {
    "alignment": ("--poses", 1),
    "distances": (),
    "distill": ("--teacher-steps", 1, "--steps", 1, "--few", 1),
    "improvements": ("--variants", "none", "--steps", 1, "--texture-steps", 1, "--blink", "EXP-5-mouth:1"),
    "prediction": ("--steps", 1),
}


@pytest.mark.parametrize("name", ALONE)
def test_benchmarks_that_need_no_capture(bench, name, monkeypatch):
    monkeypatch.setattr(train_step, "get_context", lambda _: get_context("fork"))  # spawned, each imports for seconds
    figures = numbers(bench(name, *ALONE[name]))
    assert len(figures) >= 3
    assert all(map(math.isfinite, figures))


def test_what_a_gpu_is_tried_with_runs_to_its_last_line_on_a_cpu(bench):
    """All parts but those that compile, which takes minutes; no test marked `gpu` can run."""
    figures = bench("gpu", "--cpu", "--parts", "tests")
    assert figures["tests_skipped"] > 0
    assert figures["tests_failed"] == figures["tests_passed"] == 0
    assert gpu.PARTS["raster"](cpu=True)["other_mask"] < 0.05
    for name in ("mesh", "train_ours", "train_release", "render"):
        assert min(numbers(gpu.PARTS[name](cpu=True))) > 0, name
    fit = gpu.PARTS["fit"](cpu=True)
    assert min(fit["s"], fit["cpu_s"]) > 0
    assert max(fit["pose_mm"], fit["distance_mm"]) < 0.01


@pytest.mark.parametrize("name", ON_RESULTS)
def test_benchmarks_on_results(bench, name, tiny_results, tmp_path):
    more = ("--teacher", tmp_path / "teacher.safetensors") if name == "distill" else ()
    figures = numbers(bench(name, "--results", tiny_results, *ON_RESULTS[name], *more))
    assert len(figures) > 3
    assert all(map(math.isfinite, figures))


def test_sample_renders_an_avatar_of_results(bench, tiny_results):
    avatar = ("--avatar", tiny_results / "avatar.safetensors", "--results", tiny_results)
    figures = bench("sample", "--device", "cpu", "--steps", 2, *avatar)
    assert figures["few"]["1"]["psnr_head"] > 5


def test_paper_options_are_compared_on_a_latent_model(bench, tiny_results, tmp_path):
    model, results = tmp_path / "latent", ("--results", tiny_results)
    assert bench("latent_model", *results, "--output", model, "--autoencoder-steps", 1, "--unet-steps", 1)["pictures"]
    rows = bench(
        "improvements", *results, "--pretrained", model, "--variants", "wide", "--steps", 1, "--blink", "EXP-5-mouth:1"
    )
    assert all(map(math.isfinite, numbers(rows["variants"]["wide"])))
    few = ("--ways", "own_walk", "--few", 1, "--teacher-steps", 1, "--steps", 1, "--batch", 2)
    row = bench("distill", *results, "--pretrained", model, "--teacher", tmp_path / "teacher.safetensors", *few)
    assert row["psnr_head"] > 5
