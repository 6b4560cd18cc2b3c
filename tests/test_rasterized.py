"""Buffers rasterised when asked for: the numbers of stored ones, in windows and in threads too; the same training."""

import json
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipeline.avatar.data.pictures import Pictures, sequence_views
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer
from pipeline.avatar.train.session import training_buffers
from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import look_at
from pipeline.cameras.rig import Rig, write_rig
from pipeline.errors import DataError
from pipeline.mesh.mesh import Mesh, write_meshes
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.buffers import rasterize, write_buffers
from pipeline.raster.coding import CODED
from pipeline.raster.rasterized import RasterizedReel
from pipeline.settings.architecture import Architecture
from pipeline.settings.recipe import Recipe
from pipeline.settings.train import TrainSettings
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.reel import Reel
from tests import in_process

SIZE, STEPS, CAMERAS = 48, 3, 2
WINDOWS = [(slice(None), slice(None)), (slice(5, 29), slice(11, 43)), (slice(30, 99), slice(0, 9))]


def write_scene(folder: Path) -> dict[str, Path]:
    """A bumpy ball that moves: meshes, the rig, and the buffers, targets and track that stages would make of them."""
    ball = trimesh.creation.icosphere(3, radius=0.1)
    rough = ball.vertices * (1 + 0.05 * np.sin(90 * ball.vertices).sum(1, keepdims=True))
    way = np.array([0.01, 0, 0])
    meshes = [
        Mesh(
            (rough + step * way).astype(np.float32),
            np.pad(4 * rough, ((0, 0), (0, 2)), constant_values=0.01 * step).astype(np.float32),
            ball.faces.astype(np.int32),
        )
        for step in range(STEPS)
    ]
    intrinsics = np.array([[70.3, 0, SIZE / 2 + 0.4], [0, 71.1, SIZE / 2 - 1.7], [0, 0, 1]])
    poses = [look_at(np.array([0.2 * n, 0.05, 0.45]), np.zeros(3), np.array([0.0, 1, 0])) for n in range(CAMERAS)]
    rig = Rig(tuple(Camera(f"c{n}", SIZE, SIZE, intrinsics, pose, np.eye(3)) for n, pose in enumerate(poses)))
    names = ("meshes", "buffers", "targets", "track")
    paths = {name: folder / f"{name}.zarr.zip" for name in names} | {"rig": folder / "rig.json"}
    write_rig(paths["rig"], rig)
    record = {"subject": "s", "sequence": "S", "start": 0, "stop": STEPS, "cameras": rig.names}
    write_meshes(paths["meshes"], meshes, {name: value for name, value in record.items() if name != "cameras"})
    rasterizer = EmbreeRasterizer()
    shape = (STEPS, CAMERAS, SIZE, SIZE)
    write_buffers(paths["buffers"], (rasterize(rasterizer, mesh, rig.cameras) for mesh in meshes), shape, record)
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    axes = ("time", "camera", "row", "column", "channel")
    targets = {"rgb": Array(noise, axes, "", ""), "alpha": Array(noise[..., 0], axes[:4], "", "")}
    write_chunk(paths["targets"], targets, record)
    codes = np.random.default_rng(1).normal(size=(STEPS, 4)).astype(np.float32)
    write_chunk(paths["track"], {"z_exp": Array(codes, ("time", "code"), "", "")}, record)
    return paths | {"loaded": rig}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return write_scene(tmp_path_factory.mktemp("rasterized"))


def rasterized_reel(scene: dict) -> RasterizedReel:
    return RasterizedReel(Reel([scene["meshes"]]), scene["loaded"], "embree")


@pytest.mark.parametrize("window", WINDOWS)
def test_every_number_is_that_of_the_stored_buffers(scene: dict, window: tuple[slice, slice]) -> None:
    stored, fresh = Reel([scene["buffers"]]), rasterized_reel(scene)
    for name in CODED:
        assert fresh.shape(name) == stored.shape(name)
        for step in range(STEPS):
            for camera in range(CAMERAS):
                expected = stored.picture(name, step, camera, window)
                found = fresh.picture(name, step, camera, window)
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected, err_msg=f"{name}, step {step}, camera {camera}")
    assert (stored.picture("depth", 1, 0) > 0).mean() > 0.2


@pytest.mark.gpu
def test_a_gpu_sees_the_windows_that_a_cpu_does(scene: dict) -> None:
    """But for a band along silhouettes and edges of triangles, a few levels of the coding elsewhere."""
    cpu, gpu = rasterized_reel(scene), RasterizedReel(Reel([scene["meshes"]]), scene["loaded"], "nvdiffrast")
    for window in WINDOWS[:2]:  # nothing is to be seen in the third
        one, other = (reel.picture("depth", 1, 0, window).astype(int) for reel in (cpu, gpu))
        assert ((one > 0) != (other > 0)).mean() < 0.02
        both = (one > 0) & (other > 0)
        assert both.mean() > 0.1
        assert np.median(np.abs(one - other)[both]) <= 2


def test_threads_rasterise_what_they_would_read(scene: dict) -> None:
    """Each with a rasteriser of its own, in crops, as training asks for them."""
    read = [Reel([scene["buffers"]]), rasterized_reel(scene)]
    stored, fresh = (
        Pictures(sequence_views(reel, Reel([scene["targets"]]), scene["track"], [0, 1]), keep=False) for reel in read
    )
    places = [(index, top, 7, 20, 24) for index in range(len(stored)) for top in (0, 9, 28)]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda place: fresh.cropped(*place), places))
    for place, (buffers, target) in zip(places, found, strict=True):
        expected, real = stored.cropped(*place)
        for one, other in ((buffers, expected), (target, real)):
            for name, tensor in vars(one).items():
                np.testing.assert_array_equal(tensor.numpy(), vars(other)[name].numpy(), err_msg=f"{place}, {name}")
    fresh.close()


RECIPE = {"steps": 2, "texture_steps": 1, "batch": 2, "crop_height": 16, "crop_width": 16, "read_ahead": 0}
TINY = {"channels": [8, 8], "groups": 4, "heads": 2, "token_width": 8, "attention_levels": 1} | {
    "plane_size": 8,
    "plane_features": 3,
}


def test_training_on_rasterised_buffers_gives_the_same_avatar(scene: dict) -> None:
    """To the last bit of its weights."""
    results = []
    for reel in (Reel([scene["buffers"]]), rasterized_reel(scene)):
        torch.manual_seed(0)
        pictures = Pictures(sequence_views(reel, Reel([scene["targets"]]), scene["track"], [0, 1]))
        trainer = Trainer(Avatar(Architecture(**TINY), code_size=4), pictures, Recipe(**RECIPE))
        for _ in range(3):
            trainer.train_step()
        trainer.close()
        results.append(trainer.avatar.state_dict())
    assert all((results[0][name] == tensor).all() for name, tensor in results[1].items())


def test_the_stage_trains_on_meshes_and_a_rig(scene: dict, tmp_path: Path) -> None:
    settings = {"buffers": "embree", "architecture": TINY} | RECIPE
    output = tmp_path / "avatar.safetensors"
    files = ["--meshes", scene["meshes"], "--rig", scene["rig"], "--targets", scene["targets"]]
    where = ["--tracks", scene["track"], "--state", tmp_path / "state", "--output", output]
    in_process.run_well("stages.train", "--settings", json.dumps(settings), *files, *where)
    assert output.stat().st_size > 1000


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [("stored", "meshes", "expected --buffers"), ("embree", "buffers", "expected --meshes and --rig")],
)
def test_files_of_the_other_kind_are_one_line(scene: dict, source: str, kind: str, message: str) -> None:
    none = {"buffers": [], "meshes": [], "rig": None}
    given = Namespace(settings=TrainSettings(buffers=source), **none | {kind: [scene[kind]]})
    with pytest.raises(DataError, match=f"buffers are {source}; {message}"), ExitStack() as stack:
        training_buffers(given, stack)
