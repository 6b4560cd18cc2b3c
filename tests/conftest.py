"""Fixtures that several test files share."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

from tests.tiny_videos import decode_all, encode
from tests.tiny_workflow import RUN, make_project, run
from tests.warm import Warm, warm_python

# Examples are timed on whatever else the machine is doing: a deadline would fail at random.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")

DEMO = Path(__file__).parents[1] / "data" / "demo" / "901"
TINY_CAMERAS = ("220700191", "222200037", "222200044", "222200048", "222200049")
TINY_SEQUENCES = ("EXP-5-mouth", "EXP-2-eyes")
TINY_FRAMES = 3
# Files of minutes go first, or one of two processes would end with them while the other has nothing left to do.
LONGEST = ("end_to_end", "avatar_stages", "fit", "workflow_rerun", "avatar_training", "avatar_paper", "pointcloud")


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPU, before torch is imported, from all tests but those that `-m gpu` asks for: they compare CPU results
    bit for bit, and start stages that would all take it."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others stay in their order."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where there is none, or where it is hidden."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device, or hidden: run with -m gpu")


@pytest.fixture(autouse=True)
def ordinary_floats() -> Iterator[None]:
    """Undo the flushing of denormal numbers that stages switch on, for the tests that come after."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small networks are faster without the others."""
    import torch  # takes seconds, and most test files need none

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture folder cut from the demo: five cameras, two sequences of three frames. Copy it before changing it."""
    capture = tmp_path_factory.mktemp("captures") / "901"
    for name in ("camera_params.json", "color_calibration.json"):
        content = json.loads((DEMO / "calibration" / name).read_text())
        of_cameras = content.get("world_2_cam", content)
        for camera in set(of_cameras) - set(TINY_CAMERAS):
            del of_cameras[camera]
        (capture / "calibration").mkdir(parents=True, exist_ok=True)
        (capture / "calibration" / name).write_text(json.dumps(content))
    for camera in TINY_CAMERAS:
        for sequence in TINY_SEQUENCES:
            video = Path("sequences") / sequence / "images" / f"cam_{camera}.mp4"
            encode(capture / video, decode_all(DEMO / video)[:TINY_FRAMES], preset="ultrafast")
        plate = Path("sequences") / "BACKGROUND" / f"image_{camera}.jpg"
        (capture / plate).parent.mkdir(exist_ok=True)
        shutil.copy(DEMO / plate, capture / plate)
    return capture


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory, tiny_capture: Path) -> Path:
    """The project as it is now with the tiny capture, not yet run; the runs are made in copies of it."""
    return make_project(tmp_path_factory.mktemp("project"), tiny_capture)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A `python` for the jobs of a workflow that starts in milliseconds."""
    with warm_python(tmp_path_factory.mktemp("warm")) as pythons:
        yield pythons


@pytest.fixture(scope="session")
def tiny_results(
    tiny_project: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str, request: pytest.FixtureRequest
) -> Path:
    """What the whole workflow made of the tiny capture, run in one go, with one span per sequence. Do not change it.

    Processes side by side (make test) share one run: the first that needs it makes it, the others wait. Every stage is
    started as it stands once, and from then on in milliseconds.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    project, made = shared / "plain", shared / "plain_is_made"
    with FileLock(shared / "plain.lock"):
        if not made.exists():
            shutil.copytree(tiny_project, project, symlinks=True)
            run(project, *RUN, "span=3", python=request.getfixturevalue("warm").once)
            assert "Nothing to be done" in run(project, *RUN, "span=3")
            made.touch()
    return project / "results/901"


@pytest.fixture
def own_capture(tiny_capture: Path, tmp_path: Path) -> Path:
    """A copy of the tiny capture that the test may damage."""
    return Path(shutil.copytree(tiny_capture, tmp_path / "901"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Files of a tiny scene for avatars. Torch is imported here alone: most test files need none."""
    from avatar_scene import write_scene

    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def pictures(scene: dict[str, list[Path]]):
    """All views of the tiny scene."""
    from avatar_scene import open_pictures

    with open_pictures(scene) as opened:
        yield opened
