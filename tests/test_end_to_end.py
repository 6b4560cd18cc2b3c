"""From videos to the report, for real and at the smallest size: killed at most stages, and cut into other spans."""

import contextlib
import json
import math
import random
import re
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from pipeline.store.made_by import made_by
from tests.tiny_workflow import ROOT, RUN, assert_equal, decode, joined, result_files, run, start
from tests.warm import Warm

pytestmark = pytest.mark.slow

RESULTS = Path("results/901")
LAST_MOMENTS = {  # a log, which exists as soon as its job runs: about how many seconds the job takes
    "ingest/EXP-5-mouth/000000-000002.log": 1,
    "pointcloud/EXP-2-eyes/000000-000002.log": 1,
    "fit_sequence/EXP-2-eyes.log": 1.5,
    "isolate/EXP-5-mouth/000000-000002.log": 0.3,
    "train.log": 4,
    "render_capture/EXP-2-eyes.log": 1,
    "evaluate.log": 1,
}
DRIVEN = "twin~EXP-5-mouth"
NOT_IN_THE_TINY_RUN = {"ablations", "animate", "detect", "distill", "export", "landmarks", "prior", "triangulate"}


def kill_tree(process: psutil.Process) -> set[str]:
    """kill -9 Snakemake and every process below it; the stages that were running."""
    family = [process, *process.children(recursive=True)]
    commands = []
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end on its own just now
            commands += member.cmdline()
            member.kill()
    psutil.wait_procs(family, timeout=10)
    return set(re.findall(r"pipeline\.stages\.(\w+)", " ".join(commands)))


@pytest.fixture(scope="module")
def interrupted(tiny_project: Path, warm: Warm) -> Path:
    """A project whose run was killed once per entry, aimed at one stage after the other, and then went to its end.

    Nobody drives the avatar here, which would bring a second person's jobs and no other stages. Its jobs start in
    milliseconds.
    """
    project = shutil.copytree(tiny_project, tiny_project.with_name("interrupted"), symlinks=True)
    config = yaml.safe_load((project / "config.yaml").read_text())
    config["films"].pop("drivers")
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    moments = random.Random(7)
    killed: set[str] = set()
    for log, seconds in LAST_MOMENTS.items():
        snakemake = start(project, *RUN, "span=2", python=warm.always)
        path = project / RESULTS / "logs" / log
        while not path.exists():
            assert snakemake.is_alive(), (project / "snakemake.log").read_text()[-4000:]
            time.sleep(0.02)
        time.sleep(moments.uniform(0, seconds))
        killed |= kill_tree(psutil.Process(snakemake.pid))
        snakemake.join()
        for result in result_files(project / RESULTS):
            decode(result)  # raises when it is not whole
        path.unlink()
    assert len(killed) >= 5, f"only {sorted(killed)} were hit; the test has lost its teeth"
    run(project, *RUN, "span=2", python=warm.always)
    return project / RESULTS


def test_neither_kills_nor_the_length_of_spans_change_a_result(interrupted, tiny_results):
    first, second = joined(interrupted), joined(tiny_results)
    assert len(first) > 20
    first.pop("contact_sheet.png"), second.pop("contact_sheet.png")  # the other shows the driven head
    assert_equal(first, {name: value for name, value in second.items() if DRIVEN not in name})


def test_nothing_that_a_killed_process_left_remains(interrupted):
    assert not list(interrupted.rglob(".*partial*"))


def test_every_job_has_left_what_made_it_in_its_files(tiny_results):
    """Or a change of settings would go unnoticed where Snakemake has lost its own records."""
    records = {path.relative_to(tiny_results): made_by(path) for path in result_files(tiny_results)}
    seen = {record["stage"] for record in records.values() if record}
    assert seen | NOT_IN_THE_TINY_RUN == {path.stem for path in (ROOT / "pipeline/stages").glob("[a-z]*.py")}
    without = {str(path) for path, record in records.items() if not record}
    films = {f"renders/{name}/capture.mp4" for name in (DRIVEN, "EXP-2-eyes", "EXP-5-mouth")}
    assert without == {"metrics.json", "contact_sheet.png"} | films  # each beside another of the same job


def test_settings_that_affect_no_result_reach_the_training(tiny_results):
    """Every 10 steps, of 20, a sample picture; by default every 200."""
    assert list(tiny_results.parents[1].glob("runs/901/*/step_*.png"))


def test_metrics_are_complete_and_finite(tiny_results):
    metrics = json.loads((tiny_results / "metrics.json").read_text())
    assert metrics.keys() == {"heldout_both", "heldout_camera", "heldout_sequence"}
    for methods in metrics.values():
        assert methods.keys() == {"avatar", "nearest_frame", "mesh_colour"}
        for figures in methods.values():
            assert {"psnr_head", "ssim_head", "psnr", "ssim", "flip", "flicker", "pictures"} <= figures.keys()
            assert all(math.isfinite(value) for value in figures.values())


def test_quality_does_not_fall_below_a_floor(tiny_results):
    """Ten steps of training on six pictures: SSIM 0.59; of the fitted mesh's colours 0.83, of the nearest picture 0.38.

    PSNR tells less: where the mesh ends in the hair, after four steps of a fit to 300 points, is worth 2 dB.
    """
    methods = json.loads((tiny_results / "metrics.json").read_text())["heldout_camera"]
    assert methods["avatar"]["ssim_head"] > 0.52
    assert methods["avatar"]["psnr_head"] > 13
    assert methods["mesh_colour"]["ssim_head"] > 0.79


def test_a_driven_head_shows_the_avatar_beside_its_driver(tiny_results):
    """The twin drives as the same person: the film is the sequence's own, up to what training cannot see of it."""
    driven, own = (decode(tiny_results / f"renders/{name}/capture.mp4") for name in (DRIVEN, "EXP-5-mouth"))
    half = own.shape[2] // 2
    assert driven.shape == own.shape
    assert np.abs(driven[:, :, half:].astype(int) - own[:, :, half:]).mean() < 5


def test_films_hold_pictures_that_differ(tiny_results):
    for name in ("EXP-2-eyes/capture", "EXP-2-eyes/orbit", "EXP-5-mouth/capture", f"{DRIVEN}/capture"):
        film = decode(tiny_results / f"renders/{name}.mp4")
        assert len(film) >= 12
        assert film.std() > 5


def test_report_is_one_page_with_its_pictures_inside(tiny_results):
    page = (tiny_results / "report.html").read_text()
    assert page.count("data:image/") > 5
    assert "data:video/mp4" in page
    assert (tiny_results / "contact_sheet.png").stat().st_size > 10_000
