"""The train and render stages: learning, resuming after a kill, held-out cameras, films, bad input."""

import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar_scene import CAMERAS, TINY, write_scene

from pipeline.avatar.data.chosen import chosen_cameras
from pipeline.avatar.data.pictures import Pictures, sequence_views
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer
from pipeline.avatar.train.session import parser, state_of, training_views
from pipeline.errors import DataError, PipelineError
from pipeline.settings.architecture import Architecture
from pipeline.settings.recipe import Recipe
from pipeline.settings.train import TrainSettings
from pipeline.stages import render, train
from pipeline.store.chunk import Array, read_arrays, read_attributes, write_chunk
from pipeline.store.reel import open_reels
from tests import in_process

SHORT = {"texture_steps": 4, "steps": 6, "batch": 2, "save_every": 5, "preview_every": 10, "crop_height": 12} | {
    "crop_width": 12,
    "architecture": TINY,
}
OPTIONS = {"eye_weight": 4, "mouth_weight": 2, "rare_share": 0.5, "plane_smoothness": 10}


def train_arguments(folder: Path, scene: dict[str, list[Path]], settings: dict, output: str) -> list[str]:
    files = [part for kind, paths in scene.items() for part in (f"--{kind}", *map(str, paths))]
    where = ["--state", str(folder / "state"), "--output", str(folder / output)]
    return ["--settings", json.dumps(settings), *files, "--held-out-cameras", "front", *where]


def render_arguments(folder: Path, avatar: Path, scene: dict[str, list[Path]], *more: str) -> list[str]:
    files = ["--avatar", str(avatar), "--buffers", *map(str, scene["buffers"]), "--track", str(scene["tracks"][0])]
    return [*files, "--output", str(folder / "r.zarr.zip"), "--film", str(folder / "r.mp4"), *more]


def call(monkeypatch: pytest.MonkeyPatch, stage, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    stage.main()


def tiny_trainer(scene: dict[str, list[Path]], buffers, targets, **recipe) -> Trainer:
    views = sequence_views(buffers["SPIN"], targets["SPIN"], scene["tracks"][0], [0, 2])
    torch.manual_seed(0)
    avatar = Avatar(Architecture(**TINY), code_size=4)
    pictures = Pictures(views)
    avatar.describe_data(*pictures.statistics())
    return Trainer(avatar, pictures, Recipe(**{"batch": 4, "crop_height": 12, "crop_width": 12} | recipe))


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene", spans=2)


@pytest.fixture
def reels(scene):
    with open_reels(scene["buffers"]) as buffers, open_reels(scene["targets"]) as targets:
        yield buffers, targets


@pytest.fixture(scope="module")
def avatar_file(tmp_path_factory):
    """An avatar trained on such a scene."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = train_arguments(folder, write_scene(folder / "scene", spans=2), SHORT, "avatar.safetensors")
    in_process.run_well("stages.train", *arguments)
    return folder / "avatar.safetensors"


def test_training_learns(scene, reels):
    trainer = tiny_trainer(scene, *reels, texture_steps=50, steps=60, learning_rate=5e-3)
    losses = [trainer.train_step() for _ in range(trainer.total)]
    assert np.mean(losses[40:50]) < 0.3 * losses[0]  # the planes' colours
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[50:55])  # the networks


def test_crops_of_a_random_share_are_enlarged_to_the_crop(scene, reels):
    def first_buffers(step: int, **recipe):
        trainer = tiny_trainer(scene, *reels, texture_steps=0, **recipe)
        (part,) = trainer.batches.parts(step)
        assert {tensor.shape[1:3] for tensor in (part.buffers.mask, part.target.rgb)} == {(12, 12)}
        return part.buffers

    # An enlarged picture repeats columns: the fewer different ones, the smaller the window was.
    kinds = {len(torch.unique(first_buffers(step, crop_share=0.5).x_can[0, 6], dim=0)) for step in range(8)}
    assert len(kinds) > 1
    plain, again = first_buffers(5), first_buffers(5)
    assert torch.equal(plain.x_can, again.x_can)
    assert plain.x_can[0, 6].unique(dim=0).shape[0] > 6


def test_a_loss_that_is_not_finite_stops(scene, reels):
    trainer = tiny_trainer(scene, *reels, texture_steps=0, steps=2)
    with torch.no_grad():
        trainer.avatar.unet.conv_out.weight.fill_(torch.inf)
    with pytest.raises(PipelineError, match="step 0"):
        trainer.train_step()


def test_killed_and_stopped_training_ends_bit_for_bit_the_same(tmp_path, scene):
    """10 steps at once == 5 + kill -9 in step 7 + SIGTERM in step 8 + the rest."""

    def run(number: int, at: int, output: str) -> int | None:
        step = Trainer.train_step

        def deadly(self: Trainer, **more: bool) -> torch.Tensor:
            if self.step == at:
                os.kill(os.getpid(), number)
            return step(self, **more)

        arguments = train_arguments(tmp_path, scene, SHORT | OPTIONS, output)
        change = partial(setattr, Trainer, "train_step", deadly)
        process = in_process.fork(tmp_path / "said.log", "stages.train", *arguments, before=change)
        process.join()
        return process.exitcode

    assert run(0, -1, "whole.safetensors") == 0
    assert not list(tmp_path.glob("state/*/*.safetensors"))  # nothing is left over to be continued
    assert run(signal.SIGKILL, 7, "parts.safetensors") == -signal.SIGKILL
    assert run(signal.SIGTERM, 8, "parts.safetensors") == 128 + signal.SIGTERM
    assert not (tmp_path / "parts.safetensors").exists()
    assert run(0, -1, "parts.safetensors") == 0
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert len(list(tmp_path.glob("state/*/step_000010.png"))) == 1


def test_training_never_sees_the_held_out_camera(tmp_path, scene, reels, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", *train_arguments(tmp_path, scene, SHORT, "a.safetensors")])
    views = training_views(parser("", TrainSettings).parse_args(), *reels)
    assert len(views) == 3 * 2
    assert CAMERAS.index("front") not in {view.camera for view in views}


def test_held_out_cameras_that_were_left_out(tmp_path, scene, reels, monkeypatch):
    """One of several is passed over; none left is an error before training."""
    arguments = train_arguments(tmp_path, scene, SHORT, "avatar.safetensors")
    names = arguments.index("--held-out-cameras") + 1
    arguments[names] = "front,behind"
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    assert len(training_views(parser("", TrainSettings).parse_args(), *reels)) == 3 * 2
    buffers = next(iter(reels[0].values()))
    assert list(chosen_cameras(buffers, "behind,front")) == ["front"]
    with pytest.raises(DataError, match="no camera behind; it has "):
        chosen_cameras(buffers, "behind")
    arguments[names] = "behind"
    with pytest.raises(DataError, match=r"no camera behind, which is held out .*hold out others of "):
        call(monkeypatch, train, arguments)
    assert not (tmp_path / "avatar.safetensors").exists()


def test_other_settings_have_another_state(tmp_path, scene, monkeypatch):
    folders = set()
    for seed in (0, 1):
        arguments = train_arguments(tmp_path, scene, SHORT | {"seed": seed}, "a.safetensors")
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        folders.add(state_of(parser("", TrainSettings).parse_args(), "train").folder)
    assert len(folders) == 2


def test_sequences_that_do_not_match_are_refused(tmp_path, scene, monkeypatch):
    other = write_scene(tmp_path / "other", sequence="NOD")
    wrong = scene | {"tracks": other["tracks"]}
    with pytest.raises(DataError, match="NOD"):
        call(monkeypatch, train, train_arguments(tmp_path, wrong, SHORT, "avatar.safetensors"))
    assert not (tmp_path / "avatar.safetensors").exists()


def test_render_makes_pictures_and_a_film_beside_the_real_video(tmp_path, scene, avatar_file, monkeypatch):
    more = ("--cameras", "front,left", "--targets", *map(str, scene["targets"]))
    call(monkeypatch, render, render_arguments(tmp_path, avatar_file, scene, *more))
    (rgb,) = read_arrays(tmp_path / "r.zarr.zip", "rgb")
    assert rgb.shape == (3, 2, 16, 16, 3)
    assert rgb.dtype == np.uint8
    attributes = read_attributes(tmp_path / "r.zarr.zip")
    assert attributes["cameras"] == ["front", "left"]
    assert (attributes["sequence"], attributes["start"], attributes["stop"]) == ("SPIN", 0, 3)
    with av.open(str(tmp_path / "r.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 24 * 3
    assert frames[0].shape == (2 * 16, 2 * 32, 3)
    real = read_arrays(scene["targets"][0], "rgb")[0][0, 1].repeat(2, 0).repeat(2, 1)
    assert np.abs(frames[0][:, 32:].astype(int) - real).mean() < 12  # the codec halves the colours' resolution
    assert np.abs(frames[0][:, :32].astype(int) - rgb[0, 0].repeat(2, 0).repeat(2, 1)).mean() < 12


def test_render_twice_gives_the_same_pixels(tmp_path, scene, avatar_file, monkeypatch):
    rendered = []
    opened: list[Pictures] = []

    class Noted(Pictures):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            opened.append(self)

    monkeypatch.setattr(render, "Pictures", Noted)
    for _ in range(2):
        more = ("--settings", json.dumps({"steps": 4, "eta": 1}))
        call(monkeypatch, render, render_arguments(tmp_path, avatar_file, scene, *more))
        rendered.append(read_arrays(tmp_path / "r.zarr.zip", "rgb")[0])
    assert rendered[0].shape == (3, 3, 16, 16, 3)
    assert np.array_equal(*rendered)
    assert [len(pictures) for pictures in opened] == [9, 9]
    assert not any(pictures.fit_in_memory or pictures._cache for pictures in opened)  # each is needed once only


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_render_the_same_pictures(tmp_path, scene, avatar_file, monkeypatch):
    torch._dynamo.utils.counters.clear()
    rendered = []
    for mode in ("none", "reduce-overhead"):
        more = ("--cameras", "front", "--settings", json.dumps({"steps": 2, "compile": mode}))
        call(monkeypatch, render, render_arguments(tmp_path, avatar_file, scene, *more))
        rendered.append(read_arrays(tmp_path / "r.zarr.zip", "rgb")[0].astype(int))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # both networks, both steps, all pictures
    assert np.abs(rendered[0] - rendered[1]).max() <= 1
    assert rendered[0].std() > 1


def test_render_names_a_camera_that_is_not_there(tmp_path, scene, avatar_file, monkeypatch):
    with pytest.raises(DataError, match=r"no camera back; it has left, front, right"):
        call(monkeypatch, render, render_arguments(tmp_path, avatar_file, scene, "--cameras", "back"))
    assert not (tmp_path / "r.zarr.zip").exists()


def test_codes_that_the_avatar_does_not_know_are_refused(tmp_path, scene, avatar_file, monkeypatch):
    track = {"subject": "tiny", "sequence": "SPIN", "start": 0, "stop": 3}
    write_chunk(scene["tracks"][0], {"z_exp": Array(np.zeros((3, 7), np.float32), ("time", "code"), "", "")}, track)
    with pytest.raises(DataError, match="7 numbers"):
        call(monkeypatch, render, render_arguments(tmp_path, avatar_file, scene))
