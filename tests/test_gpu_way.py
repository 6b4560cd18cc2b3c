"""What a GPU does, without one: steps on PyTorch's `meta` device, whose tensors have a shape but no numbers.

Like a GPU's they mix with the CPU's in no operation. A number that the host asks for raises there, as does a mask that
has to become indices; a copy from the CPU that would wait is counted here.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from avatar_scene import TINY
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.distill import WAYS
from pipeline.avatar.data.pictures import Pictures, moved
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.schedule import shared_noise
from pipeline.avatar.processes import Processes
from pipeline.avatar.train.distillation import Distiller
from pipeline.avatar.train.loop import Loop, Trainer
from pipeline.head.fit.least_squares.lids import posed_landmarks
from pipeline.head.fit.least_squares.residuals import Heads, answers, canonical_landmarks, coordinate
from pipeline.head.model.prior import load_prior
from pipeline.settings.architecture import Architecture
from pipeline.settings.distill import DistillSettings
from pipeline.settings.recipe import Recipe
from tests.latent_model import TINY as LATENT
from tests.latent_model import write_latent_model

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICE = torch.device("meta")
PRIOR = Path(__file__).parents[1] / "pipeline/head/weights/head_prior.safetensors"
NO_NUMBER = (RuntimeError, NotImplementedError)
SMALL = {"batch": 4, "texture_steps": 1, "steps": 8, "read_ahead": 0, "crop_height": 12, "crop_width": 12} | {
    "fetch_every": 4,
    "save_every": 1000,
    "preview_every": 1000,
}


class Waits(TorchDispatchMode):
    """Counts copies from the CPU that do not say that they need not be waited for."""

    def __init__(self):
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        name = function.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source, target = (arguments[0], result) if name == "_to_copy" else (arguments[1], arguments[0])
            across = source.device.type == "cpu" and target.device == DEVICE
            self.found += across and not (options.get("non_blocking") or arguments[2:] == (True,))
        return result


def training(kind: str, pictures: Pictures, folder: Path) -> Loop:
    """A training on the device."""
    torch.manual_seed(0)
    processes = Processes(DEVICE)
    if kind == "distill":
        avatar = Avatar(Architecture(**TINY, predicts="v"), code_size=4)
        return Distiller(avatar, pictures, DistillSettings(**SMALL | {"into": 2, "critic_weight": 0.5}), processes)
    if kind == "latent":
        model = {"pretrained": str(write_latent_model(folder / "model", LATENT)), "condition_widths": [8, 8]}
        architecture = Architecture(**TINY | model | {"backbone": "pretrained", "base": "none", "predicts": "v"})
        more = {"limited": "controlnet", "crop_share": 0.7, "texture_steps": 0}
    else:
        architecture = Architecture(**TINY)
        more = {"rare_share": 0.5, "eye_weight": 4, "plane_smoothness": 1, "accumulation": 2, "crop_share": 0.8}
    return Trainer(Avatar(architecture, code_size=4), pictures, Recipe(**SMALL | more), processes=processes)


@pytest.mark.parametrize("kind", ["scratch", "latent", "distill"])
def test_a_training_step_mixes_no_devices_and_waits_once_every_n_steps(kind, pictures, tmp_path):
    loop = training(kind, pictures, tmp_path)
    for _ in range(2):  # the first of the whole model copies the schedule's numbers to the device, once
        loop.train_step()
    with Waits() as waits:
        assert loop.train_step().device == DEVICE
        with pytest.raises(NO_NUMBER, match="meta"):  # the fourth fetches the figures of all four, in one go
            loop.train_step()
    assert waits.found == 0
    assert len(loop.ledger._rows) == 4
    for name, parameter in loop.optimiser.parameters.items():
        assert parameter.device == DEVICE, name
        assert parameter.grad is None or parameter.grad.device == DEVICE, name


@pytest.mark.parametrize("way", [way for way in WAYS.values() if way is not Distiller], ids=lambda way: way.__name__)
def test_other_ways_of_distilling_mix_no_devices(way, pictures):
    avatar, teacher = (Avatar(Architecture(**TINY, predicts="v"), code_size=4) for _ in range(2))
    loop = way(avatar, pictures, DistillSettings(**SMALL | {"into": 2}), Processes(DEVICE))
    loop.teacher = teacher.to(DEVICE)
    assert loop.train_step().device == DEVICE


@pytest.mark.parametrize("eyes", ["none", "turned"])
def test_conditions_compile_to_one_graph_for_all_steps(pictures, eyes):
    avatar = Avatar(Architecture(**TINY | {"eyes": eyes}), code_size=4).to(DEVICE)
    seen = CompileCounter()
    torch._dynamo.reset()
    avatar.compile_networks("default", backend=seen)
    for index in range(3):
        buffers = moved(pictures.batch([index, index + 1])[0], DEVICE)
        avatar.conditions(buffers)[0].sum().backward()
    assert seen.frame_count == 1


@pytest.mark.parametrize("steps", [1, 4])
def test_rendering_mixes_no_devices_and_never_waits(pictures, steps):
    buffers = moved(pictures.batch([0, 1])[0], DEVICE)
    avatar = Avatar(Architecture(**TINY), code_size=4).eval().requires_grad_(False).to(DEVICE)
    noise = shared_noise(avatar.latent_shape(16, 16), steps, 0).to(DEVICE)
    avatar.render(buffers, noise, steps, eta=float(steps > 1))
    with Waits() as waits:
        assert avatar.render(buffers, noise, steps, eta=float(steps > 1)).device == DEVICE
    assert waits.found == 0


def test_waiting_and_mixing_are_noticed():
    values, mask = torch.zeros(4, device=DEVICE), torch.ones(4, dtype=torch.bool, device=DEVICE)
    for ask in (
        lambda: values[mask],
        lambda: values.cpu(),
        lambda: values.sum().item(),
        lambda: values + torch.ones(4),
    ):
        with pytest.raises(NO_NUMBER):
            ask()
    with Waits() as waits:
        torch.ones(4).to(DEVICE, non_blocking=True)
        assert waits.found == 0
        torch.ones(4).to(DEVICE)
        values.copy_(torch.ones(4))
    assert waits.found == 2


def test_a_fit_mixes_no_devices():
    """Its points and derivatives come back to the CPU as the last thing, which the device refuses."""
    prior = load_prior(PRIOR)
    codes = np.zeros((2, prior.config.z_exp), np.float32)
    places = canonical_landmarks(prior, np.zeros(prior.config.identity_modes))[0]
    heads = Heads(
        np.zeros(prior.config.identity_modes), np.zeros((2, prior.config.expression_modes)), np.stack([np.eye(4)] * 2)
    )
    prior.to(DEVICE)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta"):
        answers(prior, heads, np.zeros((2, 5, 3)), coordinate(0), True)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta"):
        posed_landmarks(prior, heads.identity, codes, places)


@pytest.mark.gpu
def test_cuda_graphs_train_what_single_launches_do(pictures):
    def losses(compile_mode: str) -> torch.Tensor:
        torch.manual_seed(0)
        avatar = Avatar(Architecture(**TINY), code_size=4)
        recipe = Recipe(**SMALL | {"compile": compile_mode, "device": "cuda"})
        loop = Trainer(avatar, pictures, recipe, processes=Processes(torch.device("cuda")))
        found = torch.stack([loop.train_step().cpu() for _ in range(loop.total)])
        loop.ahead.close()
        return found

    expected = losses("none")
    assert expected[-1] < expected[1]
    assert torch.allclose(losses("reduce-overhead"), expected, rtol=1e-3)
