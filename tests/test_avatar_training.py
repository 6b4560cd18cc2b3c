"""The training loop on one process and many: however a batch is cut, the weights come out the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from avatar_scene import TINY, write_scene

from pipeline.avatar.architecture import Architecture
from pipeline.avatar.batch import Batches
from pipeline.avatar.checkpoint import read_tensors
from pipeline.avatar.data import Pictures, sequence_views
from pipeline.avatar.loop import FIGURES, Trainer
from pipeline.avatar.model import Avatar
from pipeline.avatar.recipe import Recipe
from pipeline.errors import PipelineError
from pipeline.store.reel import open_reels
from tests.latent_model import TINY as LATENT
from tests.latent_model import write_latent_model

SMALL = {"texture_steps": 2, "steps": 4, "batch": 4, "crop_height": 12, "crop_width": 12, "average_decay": 0.5}
OPTIONS = {"eye_weight": 5, "mouth_weight": 3, "rare_share": 0.5, "plane_smoothness": 10, "crop_share": 0.8}
WHOLE = {"crop_height": 16, "crop_width": 16}
ROUNDING = 1e-6


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene")


@pytest.fixture
def pictures(scene):
    with open_reels(scene["buffers"]) as buffers, open_reels(scene["targets"]) as targets:
        yield Pictures(sequence_views(buffers["SPIN"], targets["SPIN"], scene["tracks"][0], [0, 2]))


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


def test_latents_are_kept_where_crops_never_change(tmp_path, pictures, monkeypatch):
    model = write_latent_model(tmp_path / "model", LATENT)
    architecture = Architecture(
        **TINY
        | {
            "backbone": "pretrained",
            "base": "none",
            "predicts": "v",
            "pretrained": str(model),
            "condition_widths": [8, 8],
        }
    )

    def losses() -> tuple[list[float], int]:
        torch.manual_seed(0)
        trainer = Trainer(Avatar(architecture, 4), pictures, Recipe(**SMALL | WHOLE | {"texture_steps": 0}))
        with monkeypatch.context() as counting:
            encoded = []
            encode = trainer.avatar.encode
            counting.setattr(
                trainer.avatar, "encode", lambda some, base: (encoded.append(len(some)), encode(some, base))[1]
            )
            return [trainer.train_step() for _ in range(4)], sum(encoded)

    kept, few = losses()
    monkeypatch.setattr(Batches, "crops_are_whole", False)
    again, many = losses()
    assert (few, many) == (len(pictures), 4 * SMALL["batch"])
    np.testing.assert_allclose(kept, again, rtol=1e-5)


def test_two_processes_train_what_one_does(tmp_path, scene):
    def run(processes: int) -> Path:
        output = tmp_path / f"{processes}.safetensors"
        files = [part for kind, paths in scene.items() for part in (f"--{kind}", *map(str, paths))]
        launch = ["-m", "accelerate.commands.launch", "--cpu", f"--num_processes={processes}", "--num_machines=1"]
        launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m"]
        settings = json.dumps(SMALL | OPTIONS | {"architecture": TINY})
        stage = ["pipeline.stages.train", "--settings", settings, *files]
        where = ["--state", str(tmp_path / f"state{processes}"), "--output", str(output)]
        command = [sys.executable, *(launch if processes > 1 else ["-m"]), *stage, *where]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, env=environment, cwd=Path(__file__).parent.parent, check=True)
        return output

    one, two = (read_tensors(run(processes)) for processes in (1, 2))
    assert one[1] == two[1]
    assert_same_weights(two[0], one[0])
    (events,) = (tmp_path / "state2").glob("*/events.*")  # one process alone writes
    assert all(name.encode() in events.read_bytes() for name in FIGURES)


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
