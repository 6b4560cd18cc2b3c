"""The training loop on one process and many: however a batch is cut, the weights come out the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from avatar_scene import TINY, open_pictures, write_scene

from pipeline.avatar.data.batches import Batches
from pipeline.avatar.data.pictures import Pictures, to_unit
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.figures import Figures
from pipeline.avatar.train.loop import Trainer
from pipeline.errors import PipelineError
from pipeline.planning.presets import PRESETS
from pipeline.settings.architecture import Architecture
from pipeline.settings.recipe import Recipe
from pipeline.settings.train import TrainSettings
from pipeline.store.tensors import read_tensors
from tests import in_process, launched
from tests.latent_model import TINY as LATENT
from tests.latent_model import write_latent_model

SMALL = {"texture_steps": 2, "steps": 4, "batch": 4, "crop_height": 12, "crop_width": 12, "average_decay": 0.5}
SMALL |= {"eye_weight": 1, "mouth_weight": 1, "rare_share": 0, "plane_smoothness": 0}
OPTIONS = {"eye_weight": 5, "mouth_weight": 3, "rare_share": 0.5, "plane_smoothness": 10, "crop_share": 0.8}
WHOLE = {"crop_height": 16, "crop_width": 16}
ROUNDING = 1e-6


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene")


@pytest.fixture
def pictures(scene):
    with open_pictures(scene, [0, 2]) as opened:
        yield opened


def trained(pictures: Pictures, **recipe) -> Trainer:
    """A trainer after all its steps."""
    torch.manual_seed(0)
    avatar = Avatar(Architecture(**TINY), code_size=4)
    avatar.describe_data(*pictures.statistics())
    trainer = Trainer(avatar, pictures, Recipe(**SMALL | recipe))
    while trainer.step < trainer.total:
        trainer.train_step()
    return trainer


def assert_same_weights(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """All but one in 10 000 to ROUNDING: where a gradient is 1e-9, AdamW makes a step of what is rounding in it."""
    assert ours.keys() == theirs.keys()
    difference = torch.cat([(tensor - theirs[name]).abs().flatten() for name, tensor in ours.items()])
    assert (difference > ROUNDING).float().mean() < 1e-4
    assert difference.max() < 20 * ROUNDING


def assert_other_weights(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert any((tensor - theirs[name]).abs().max() > 100 * ROUNDING for name, tensor in ours.items())


@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_parts_of_a_batch_sum_to_the_batch(pictures, options):
    whole = trained(pictures, **options).average
    assert_same_weights(trained(pictures, **options, accumulation=2).average, whole)
    assert_other_weights(trained(pictures, **options, batch=2).average, whole)


def test_every_option_changes_what_is_learned(pictures):
    plain = trained(pictures).average
    for name in OPTIONS:
        assert_other_weights(trained(pictures, **{name: OPTIONS[name]}).average, plain)


def test_a_region_of_weight_three_counts_three_times(pictures):
    """The weighted sum of errors is a straight line in each weight, and the loss is that sum over the weights' sum."""

    def total(**weights: float) -> tuple[float, float]:
        trainer = trained(pictures, steps=0, texture_steps=0, texture_weight=0, batch=8, **weights)
        (part,) = trainer.batches.parts(0)
        return trainer._loss(part, part.counts()).item() * part.counts()[0].item(), part.counts()[0].item()

    plain = total()
    for name in ("eye_weight", "mouth_weight"):
        double, triple = total(**{name: 2}), total(**{name: 3})
        for one, two, three in zip(plain, double, triple, strict=True):
            assert two > one
            assert three - two == pytest.approx(two - one, rel=1e-3)


def test_untrusted_pixels_count_nothing_in_any_region(pictures):
    for step in range(3):
        for part in trained(pictures, steps=0, texture_steps=0, **OPTIONS).batches.parts(step):
            assert not part.weights[~part.target.trusted].any()
            assert {1.0} < set(part.weights[part.target.trusted].unique().tolist()) <= {1.0, 3.0, 5.0}


def test_checkpointing_changes_memory_only(pictures):
    assert_same_weights(trained(pictures, checkpointing=True).average, trained(pictures).average)


@pytest.fixture
def latent_architecture(tmp_path):
    model = {"pretrained": str(write_latent_model(tmp_path / "model", LATENT)), "condition_widths": [8, 8]}
    return Architecture(**TINY | model | {"backbone": "pretrained", "base": "none", "predicts": "v"})


def latent_trainer(architecture: Architecture, pictures: Pictures, **recipe) -> Trainer:
    torch.manual_seed(0)
    return Trainer(Avatar(architecture, 4), pictures, Recipe(**SMALL | {"texture_steps": 0} | recipe))


def count_encoded(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the trainer's `encode` gets from now on."""
    encoded, encode = [], trainer.avatar.encode
    monkeypatch.setattr(trainer.avatar, "encode", lambda some, base: (encoded.append(len(some)), encode(some, base))[1])
    return encoded


def test_latents_are_kept_where_crops_never_change(latent_architecture, pictures, monkeypatch):
    def losses() -> tuple[list[float], int]:
        trainer = latent_trainer(latent_architecture, pictures, **WHOLE)
        encoded = count_encoded(trainer, monkeypatch)
        return [trainer.train_step() for _ in range(4)], sum(encoded)

    kept, few = losses()
    monkeypatch.setattr(Batches, "latents_can_be_kept", False)
    again, many = losses()
    assert (few, many) == (len(pictures), 4 * SMALL["batch"])
    np.testing.assert_allclose(kept, again, rtol=1e-5)


def test_crops_are_cut_out_of_kept_latents(latent_architecture, pictures, monkeypatch):
    trainer = latent_trainer(latent_architecture, pictures, keep_latents=True, crop_height=8, crop_width=10)
    autoencoder, encoded, places = trainer.avatar.autoencoder, count_encoded(trainer, monkeypatch), set()
    for step in range(6):
        (part,) = trainer.batches.parts(step)
        ours = trainer.latents(part, torch.zeros(()))
        top, left, height, width = part.window
        places.add((top, left))
        for index, latents, rgb in zip(part.indices, ours, part.target.rgb, strict=True):
            whole = pictures[index][1].rgb
            assert torch.equal(rgb, whole[0, top : top + height, left : left + width])
            slow = autoencoder.encode(to_unit(whole)).repeat_interleave(2, -2).repeat_interleave(2, -1)
            expected = slow[0, :, top : top + height : 2, left : left + width : 2]
            torch.testing.assert_close(latents, expected, rtol=0, atol=1e-6)
    assert sum(encoded) == len(pictures)
    assert len(places) > 3


def test_kept_latents_of_a_small_network_or_of_enlarged_crops_are_refused():
    with pytest.raises(ValueError, match=r"backbone scratch; expected pretrained"):
        TrainSettings(keep_latents=True)
    with pytest.raises(ValueError, match=r"keep_latents with crop_share 0\.7; expected 1"):
        TrainSettings(**PRESETS["paper"]["train"] | {"keep_latents": True})


def test_a_cuda_graph_with_accumulation_is_refused():
    with pytest.raises(ValueError, match=r"compile reduce-overhead with accumulation 2; expected compile default"):
        TrainSettings(compile="reduce-overhead", accumulation=2)


def test_two_processes_train_what_one_does(tmp_path, scene):
    def run(processes: int) -> Path:
        output = tmp_path / f"{processes}.safetensors"
        files = [part for kind, paths in scene.items() for part in (f"--{kind}", *map(str, paths))]
        settings = json.dumps(SMALL | OPTIONS | {"architecture": TINY})
        where = ["--state", tmp_path / f"state{processes}", "--output", output]
        stage = ["stages.train", "--settings", settings, *files, *where]
        if processes == 1:
            in_process.run_well(*stage)
        else:
            assert [status for status, _ in launched.run(processes, tmp_path, *stage)] == [0] * processes
        return output

    one, two = (read_tensors(run(processes)) for processes in (1, 2))
    assert one[1] == two[1]
    assert_same_weights(two[0], one[0])
    (events,) = (tmp_path / "state2").glob("*/events.*")  # one process alone writes
    assert all(name.encode() in events.read_bytes() for name in Figures._fields)


def test_what_a_broken_loss_names(pictures):
    trainer = trained(pictures, steps=0)
    trainer.recipe = Recipe(**SMALL)
    with torch.no_grad():
        trainer.avatar.unet.conv_out.weight.fill_(torch.inf)
    before = {name: tensor.clone() for name, tensor in trainer.average.items()}
    with pytest.raises(PipelineError, match=r"at step 2, pictures .*sequence SPIN, step \d, camera (left|right)"):
        trainer.train_step()
    assert trainer.step == 2
    assert all(np.array_equal(trainer.average[name], tensor) for name, tensor in before.items())


def test_a_batch_that_cannot_be_shared_out_is_refused(pictures):
    with pytest.raises(PipelineError, match="batch of 4 pictures; expected a multiple of 1 processes times 3"):
        trained(pictures, accumulation=3)
