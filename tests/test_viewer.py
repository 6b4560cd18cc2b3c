"""The viewer: turns, missing stages, colours, the avatar in a view, hostile clients, and a page in a real browser."""

import argparse
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import viser
import zstandard
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pipeline.avatar.data.pictures import to_bytes
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.schedule import shared_noise
from pipeline.cameras.orbit import Picture, crop_round, look_at
from pipeline.cameras.resample import placed
from pipeline.errors import DataError
from pipeline.raster import buffers
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.beyond import band, continued
from pipeline.raster.colours import UNSEEN, vertex_colours
from pipeline.viewer.__main__ import PRIOR, SHIPPED, serve
from pipeline.viewer.avatars import Avatars
from pipeline.viewer.controls import limited
from pipeline.viewer.frusta import frustum_length
from pipeline.viewer.render import DRAFT_PIXELS, draft, from_view, head_window, refined
from pipeline.viewer.results import Results
from pipeline.viewer.surface import LARGEST_MM, error_colours
from pipeline.viewer.turns import Turns
from tests.test_rig import HEAD, arc
from tests.viewer_results import SEQUENCE, STEPS, tiny_avatar, write_clouds, write_results, write_training

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all stages."""
    return write_results(tmp_path_factory.mktemp("results") / "9")


def start(folder: Path, training: Path | None = None, rig: str = "{}"):
    """A viewer at a free port."""
    return serve(
        argparse.Namespace(
            results=folder, prior=PRIOR, map=SHIPPED, training=training, rig=rig, host="127.0.0.1", port=0
        )
    )


@pytest.fixture(scope="module")
def viewer(finished):
    """A viewer of the finished results: its page and port."""
    server, page = start(finished)
    yield page, server.get_port()
    page.stop()
    server.stop()


def wait_for(condition, seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_nobody_waits_behind_one_who_asks_for_much():
    turns, done, gate = Turns(), [], threading.Event()
    turns.ask("gate", gate.wait)

    def work(name: str, left: int):
        done.append(name)
        return (lambda: work(name, left - 1)) if left else None

    turns.ask("greedy", lambda: work("greedy", 50))
    for number in range(9):
        turns.ask(number, lambda number=number: work(str(number), 0))
        turns.ask(number, lambda number=number: work(f"new {number}", 0))  # in place of the first
    gate.set()
    wait_for(lambda: done.count("greedy") == 51)
    turns.stop()
    assert done[:10] == ["greedy", *(f"new {number}" for number in range(9))]


def test_a_fault_of_one_asker_ends_nothing(caplog):
    turns, done = Turns(), []
    turns.ask("bad", lambda: 1 / 0)
    turns.ask("good", lambda: done.append(1))
    wait_for(lambda: done)
    turns.stop()
    assert "could not serve bad" in caplog.text


def test_a_forgotten_asker_is_not_served():
    turns, done, gate = Turns(), [], threading.Event()
    turns.ask("gate", gate.wait)
    turns.ask("gone", lambda: done.append(1))
    turns.forget("gone")
    turns.ask("last", lambda: done.append(2))
    gate.set()
    wait_for(lambda: done)
    turns.stop()
    assert done == [2]


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (7, 1), (-7, 0), ("x", 0), (None, 0), (float("nan"), 0)])
def test_numbers_of_a_browser_stay_within_bounds(value, expected):
    assert limited(value, 0, 1) == expected


def test_results_are_what_is_there(finished, tmp_path):
    results = Results(finished)
    assert results.sequences == [SEQUENCE]
    assert results.steps(SEQUENCE) == STEPS
    assert len(results.mesh(SEQUENCE, 1).faces) > 100
    np.testing.assert_array_equal(results.cloud(SEQUENCE, 1)[0], results.mesh(SEQUENCE, 1).vertices)
    assert results.pictures(SEQUENCE, 1).shape == (5, 96, 64, 3)
    with pytest.raises(DataError, match=r"no cameras.json; expected the results of a subject"):
        Results(tmp_path)


def test_spans_that_come_while_it_is_open_are_shown(tmp_path):
    folder = write_results(tmp_path / "9", ())
    clouds = [np.full((4, 3), step, np.float32) for step in range(8)]
    write_clouds(folder, 0, clouds[:2])
    server, page = start(folder)
    results, step = page.results, page.controls.step
    assert results.steps(SEQUENCE) == step.max + 1 == 2
    np.testing.assert_array_equal(results.cloud(SEQUENCE, 1)[0], clouds[1])
    write_clouds(folder, 5, clouds[5:])  # of another job: the spans between are not there yet
    page._refresh()
    assert results.steps(SEQUENCE) == step.max + 1 == 2
    write_clouds(folder, 2, clouds[2:5])
    page._refresh()
    assert results.steps(SEQUENCE) == step.max + 1 == 8
    np.testing.assert_array_equal(results.cloud(SEQUENCE, 7)[0], clouds[7])
    shutil.rmtree(folder / "clouds")
    write_clouds(folder, 0, [2 * cloud for cloud in clouds[:4]])  # made anew
    page._refresh()
    assert results.steps(SEQUENCE) == step.max + 1 == 4
    np.testing.assert_array_equal(results.cloud(SEQUENCE, 3)[0], 2 * clouds[3])
    page.stop()
    server.stop()


def test_a_track_that_is_fitted_anew_is_read_anew(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "9")
    results = Results(folder)
    first = results.track(SEQUENCE)
    assert not results.look_again()
    assert results.track(SEQUENCE) is first
    path = folder / f"tracks/{SEQUENCE}.zarr.zip"
    os.utime(path, ns=(1, 1))
    assert results.look_again()
    assert results.track(SEQUENCE) is not first


@pytest.mark.parametrize("stages", [(), ("clouds",), ("frames", "clouds", "fit")])
def test_missing_stages_are_greyed_out(tmp_path, stages):
    server, page = start(write_results(tmp_path / "9", stages))
    controls = page.controls
    assert controls.cloud.disabled == ("clouds" not in stages)
    assert controls.mesh.disabled == ("fit" not in stages)
    assert controls.avatar.disabled
    assert all(slider.disabled == ("fit" not in stages) for slider in controls.arkit)
    served = threading.Event()
    page.turns.ask("test", served.set)
    assert served.wait(60)
    page.stop()
    server.stop()


def test_vertices_have_the_colours_of_the_cameras_that_see_them(finished):
    mesh = Results(finished).mesh(SEQUENCE, 0)
    cameras = arc()
    pictures = np.zeros((5, 96, 64, 3), np.uint8)
    pictures[:, :, :, 0] = 50 * np.arange(5)[:, None, None]
    colour = vertex_colours(EmbreeRasterizer(), mesh.vertices, mesh.faces, cameras, pictures)
    across = (mesh.vertices - HEAD.centre) @ np.cross(HEAD.front, HEAD.up)
    deep = (mesh.vertices - HEAD.centre) @ HEAD.front
    seen = ~(colour == UNSEEN).all(1)
    assert seen[deep < np.quantile(deep, 0.05)].mean() < 0.1
    left, right = (np.median(colour[seen & side, 0]) for side in (across < -0.05, across > 0.05))
    assert left < 70 < 130 < right


def test_errors_go_from_blue_to_red():
    shown = error_colours(np.array([0, LARGEST_MM, 99])).astype(int)
    assert shown[0, 2] > shown[0, 0] + 50
    assert shown[1, 0] > shown[1, 2] + 50
    np.testing.assert_array_equal(shown[1], shown[2])


@pytest.mark.parametrize("steps", [1, 4])
def test_the_avatar_of_a_view_is_what_it_renders_of_its_crop(finished, steps):
    results, avatar, picture = Results(finished), tiny_avatar(57).eval(), Picture(48, 64, 0.36)
    mesh, code = results.mesh(SEQUENCE, 0), results.track(SEQUENCE)["z_exp"][0]
    eyes = np.array([0.1, 0, 0.1, 0, 3, 9], np.float32)
    avatar.sampling = avatar.sampling._replace(steps=4, eta=1.0)
    view = arc()[2]
    *waits, shown = refined(avatar, EmbreeRasterizer(), mesh, code, eyes, view, HEAD.centre, picture, steps)
    assert len(waits) == steps - 1
    (camera,) = crop_round([view], HEAD.centre, picture).cameras
    seen = {
        name: torch.from_numpy(part) for name, part in buffers.rasterize(EmbreeRasterizer(), mesh, [camera]).items()
    }
    codes = torch.from_numpy(code)[None], torch.from_numpy(eyes)[None]
    mask = seen["mask"] > 0
    beyond = continued(seen["depth"][0].numpy(), seen["x_can"][0].numpy(), mask[0].numpy(), band(64))
    depth, x_can = (torch.from_numpy(part)[None] for part in beyond)
    given = Buffers(depth, seen["normals"].float(), x_can, mask, *codes)
    noise = shared_noise(avatar.latent_shape(64, 48), steps, 0)
    expected = to_bytes(avatar.render(given, noise, steps, 1.0 if steps == 4 else 0.0))[0].numpy()
    np.testing.assert_array_equal(shown, placed(expected, camera, view))


@pytest.mark.parametrize(("width", "height"), [(144, 192), (512, 512), (48, 64)])
def test_a_moving_view_is_rendered_no_larger_than_the_demo_s_pictures(width, height):
    avatar = tiny_avatar(57).eval()
    small = draft(avatar, Picture(width, height, 0.36))
    assert small.metres == 0.36
    assert small.width * small.height <= 1.05 * DRAFT_PIXELS
    assert (small.width == width) == (width * height <= DRAFT_PIXELS)
    avatar.latent_shape(small.height, small.width)  # can be folded
    assert abs(small.width / small.height / (width / height) - 1) < 0.1


@pytest.mark.parametrize("metres", [0.2, 0.36, 0.8])
@pytest.mark.parametrize("camera", [0, 2])
def test_a_moving_view_is_rendered_where_the_head_is(finished, metres, camera):
    mesh = Results(finished).mesh(SEQUENCE, 0)
    (whole,) = crop_round([arc()[camera]], HEAD.centre, Picture(96, 128, metres)).cameras
    left, top, width, height = head_window(whole, mesh.vertices, 16, 2)
    assert (left % 2, top % 2, width % 16, height % 16) == (0, 0, 0, 0)
    assert width * height < 0.4 * 96 * 128 or metres < 0.8
    seen, part = (
        buffers.rasterize(EmbreeRasterizer(), mesh, [one])["mask"][0]
        for one in (whole, whole.crop(left, top, 1, width, height))
    )
    np.testing.assert_array_equal(part, seen[top : top + height, left : left + width])
    assert part.sum() == seen.sum() > 0


def test_a_moving_view_shows_the_same_head_as_one_at_rest(finished):
    results, avatar, picture, view = Results(finished), tiny_avatar(57).eval(), Picture(48, 64, 0.36), arc()[2]
    given = EmbreeRasterizer(), results.mesh(SEQUENCE, 0), results.track(SEQUENCE)["z_exp"][0], np.zeros(6, np.float32)
    torch.nn.init.zeros_(avatar.unet.conv_out.weight)  # the texture alone: networks look at what is round a pixel too
    whole, part = (
        list(refined(avatar, *given, view, HEAD.centre, picture, 1, whole))[-1].astype(int) for whole in (True, False)
    )
    assert whole.std() > 5
    assert np.abs(whole - part).max() <= 4  # rays round otherwise


def test_frusta_do_not_hide_each_other():
    grid = np.stack(np.meshgrid(*[np.arange(4) * 0.1] * 2, [0.0]), -1).reshape(-1, 3)
    assert frustum_length(grid) == pytest.approx(0.025)
    assert frustum_length(10 * grid) == frustum_length(grid[:1]) == 0.04


def test_eyes_look_and_shut_by_their_sliders(finished):
    server, page = start(finished)
    rest = page._eyes(SEQUENCE, 1, page.results.track(SEQUENCE)["z_exp"][1])
    controls = page.controls
    for slider, value in zip(controls.eyes, (20.0, -10.0, 1.0, 0.0), strict=True):
        slider.value = value
    added = controls.added()
    code = page.results.track(SEQUENCE)["z_exp"][1] + added
    eyes = page._eyes(SEQUENCE, 1, code)
    np.testing.assert_allclose(np.degrees(eyes[:4]), [20, -10, 20, -10], atol=1e-3)
    assert np.isnan(rest[:4]).all()
    assert eyes[4] < 0.8 * eyes[5]  # only the left one is shut
    page.stop()
    server.stop()


def test_a_crop_lies_where_it_was_cut_out():
    y, x = np.mgrid[:96, :128]
    whole = np.stack([x, y, 100 + 0 * x], -1).astype(np.uint8)
    view = from_view(np.array([1.0, 0, 0, 0]), np.zeros(3), 0.5, 128, 96)
    camera = view.crop(30, 20, 2.0, 24, 16)
    crop = whole[20:52, 30:78].reshape(16, 2, 24, 2, 3).mean((1, 3)).astype(np.uint8)
    again = placed(crop, camera, view).astype(int)
    assert np.abs(again[24:48, 34:74, :2] - whole[24:48, 34:74, :2]).max() <= 1
    assert (again[:15] == 255).all()


def test_a_running_training_is_shown_and_read_again(finished, tmp_path):
    training = write_training(tmp_path / "runs", 57)
    avatars = Avatars(Results(finished), training)
    first = avatars.newest()
    assert first is not None
    assert avatars.newest() is first
    time.sleep(0.01)
    write_training(tmp_path / "runs", 57)
    assert avatars.newest() is not first
    (training / "abc/state.safetensors").write_bytes(b"half a file")
    assert avatars.newest() is not None  # the last one that could be read
    shutil.rmtree(training)
    assert avatars.newest() is not None  # the finished one


HOSTILE = {
    "noise": b"\xff" * 100,
    "nothing": b"",
    "text": "text",
    "an unknown message": msgspec.msgpack.encode({"type": "NoSuchMessage"}),
    "a control that is not there": msgspec.msgpack.encode(
        {"type": "GuiUpdateMessage", "uuid": "none", "updates": {"value": "x"}}
    ),
    "60 MB": b"\x00" * (60 << 20),
}


def test_hostile_and_oversized_messages_do_not_stop_it(viewer):
    page, port = viewer
    for message in HOSTILE.values():
        try:
            with connect(f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"]) as socket:
                socket.send(message)
                while True:  # until it says nothing more or hangs up
                    socket.recv(timeout=0.2)
        except (ConnectionClosed, TimeoutError, OSError):
            continue
    served = threading.Event()
    page.turns.ask("after", served.set)
    assert served.wait(60)
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).status == 200
    with connect(f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"]) as socket:
        assert socket.recv(timeout=60)  # a new browser is told what there is


def test_it_listens_to_this_machine_alone_unless_told(viewer):
    assert viewer[0].server.get_host() == "127.0.0.1"


@pytest.fixture(scope="module")
def browser(viewer, tmp_path_factory):
    """A headless Chromium that has the page open."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: the page is not tried in a browser (apt-get install chromium)")
    folder = tmp_path_factory.mktemp("browser")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    command += [
        "--ignore-gpu-blocklist",
        f"--user-data-dir={folder}",
        "--window-size=900,600",
        "--disable-dev-shm-usage",
    ]
    process = subprocess.Popen(
        [*command, f"http://127.0.0.1:{viewer[1]}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield viewer[0]
    process.terminate()
    process.wait(20)


def test_in_a_browser(browser):
    """It loads, the time line moves, a slider changes the mesh, and an avatar frame appears."""
    page = browser
    wait_for(lambda: page.server.get_clients(), 120)
    client = next(iter(page.server.get_clients().values()))
    wait_for(lambda: page.shown is not None)
    rendered = client.get_render(height=120, width=160)
    assert rendered[..., :3].std() > 5  # the scene is not empty

    before = page.shown[0]
    page.controls.step.value = 2
    page.change()
    wait_for(lambda: page.shown[0] is not before)
    np.testing.assert_array_equal(page.shown[0].vertices, page.results.mesh(SEQUENCE, 2).vertices)

    jaw = next(slider for slider in page.controls.arkit if slider.label == "jawOpen")
    fitted = page.shown[0]
    jaw.value = 1.0
    page.change()
    wait_for(lambda: page.shown[0] is not fitted)
    chin = [(mesh.vertices - HEAD.centre) @ HEAD.up for mesh in (fitted, page.shown[0])]
    assert len(page.shown[0].vertices) != len(fitted.vertices) or np.abs(chin[0] - chin[1]).max() > 1e-3

    page.controls.avatar.value = True
    page.change()
    wait_for(lambda: page.frames > 1, 120)
    behind = client.get_render(height=120, width=160)
    assert np.abs(behind.astype(int) - rendered).mean() > 1


def test_a_running_training_can_be_looked_at_before_there_is_an_avatar(finished, tmp_path):
    """What stages leave while the page is open is greyed out no more, and a newer state is shown."""
    folder = write_results(tmp_path / "9", ("fit",))
    server, page = start(folder, tmp_path / "runs")
    controls = page.controls
    assert controls.avatar.disabled
    assert controls.cloud.disabled
    write_training(tmp_path / "runs", 57)
    shutil.copytree(finished / "clouds", folder / "clouds")
    controls.refresh()
    assert not controls.avatar.disabled
    assert not controls.cloud.disabled
    assert controls.avatar.hint is None
    controls.avatar.value = True
    first = page.avatars.newest()
    page._avatar_shown = first
    time.sleep(0.01)
    write_training(tmp_path / "runs", 57)
    seen = page.shown
    page._refresh()
    wait_for(lambda: page.shown is not seen)  # the scene is shown anew
    assert page.avatars.newest() is not first
    page.stop()
    server.stop()


def test_sliders_stay_within_what_the_prior_knows(finished):
    server, page = start(finished)
    page.controls.directions[0].value = -3.0
    code = page._mesh(SEQUENCE, 1)[1]
    assert code.min() == 0
    page.stop()
    server.stop()


class Browser(threading.Thread):
    """What a browser does with the server: it turns its view without end and counts the avatar's pictures."""

    def __init__(self, port: int, angle: float):
        super().__init__(daemon=True)
        self.port, self.angle, self.pictures, self.done = port, angle, 0, threading.Event()

    def _view(self, number: int) -> bytes:
        angle = self.angle + 0.02 * number
        eye = HEAD.centre + np.cos(angle) * HEAD.front + np.sin(angle) * np.cross(HEAD.up, HEAD.front)
        pose = np.linalg.inv(look_at(eye, HEAD.centre, HEAD.up))
        turn = viser.transforms.SO3.from_matrix(pose[:3, :3]).wxyz
        vectors = {"wxyz": turn, "position": eye, "look_at": HEAD.centre, "up_direction": HEAD.up}
        numbers = {"fov": 0.5, "near": 0.01, "far": 100.0, "image_height": 120, "image_width": 160}
        told = {name: [float(part) for part in vector] for name, vector in vectors.items()} | numbers
        return msgspec.msgpack.encode({"type": "ViewerCameraMessage", **told})

    def run(self) -> None:
        url, number = f"ws://127.0.0.1:{self.port}", 0
        with connect(url, subprotocols=[f"viser-v{viser.__version__}"], max_size=None) as socket:
            while not self.done.is_set():
                socket.send(self._view(number))
                number += 1
                with suppress(TimeoutError):
                    self.pictures += _pictures(socket.recv(timeout=0.03))


def _pictures(message: bytes) -> int:
    """How many pictures of the avatar a server's message brings: its lengths, then packed and compressed messages."""
    length = int.from_bytes(message[8:16], "little")
    packed = zstandard.ZstdDecompressor().decompress(message[16 : 16 + length])
    found = msgspec.msgpack.decode(packed)["messages"]
    return sum(one["type"] == "BackgroundImageMessage" and one["rgb_data"] is not None for one in found)


def test_ten_browsers_that_drag_at_once_all_see_the_avatar(finished):
    server, page = start(finished, rig='{"width": 48, "height": 64}')
    page.controls.avatar.value = True
    browsers = [Browser(server.get_port(), 0.1 * number) for number in range(10)]
    for browser in browsers:
        browser.start()
    wait_for(lambda: min(browser.pictures for browser in browsers) >= 4)
    counts = [browser.pictures for browser in browsers]
    for browser in browsers:
        browser.done.set()
    for browser in browsers:
        browser.join(20)
    assert max(counts) <= 3 * min(counts)  # those who came first saw a few more
    page.stop()
    server.stop()
