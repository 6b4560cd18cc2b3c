"""Few-step avatars: what the distiller trains on, what its stage writes, and the film that shows few steps and many."""

import csv
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar_scene import TINY, open_pictures, write_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.avatar.data.pictures import Pictures, to_unit
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar, trained_tensors, write_avatar
from pipeline.avatar.model.schedule import Sampling, make_scheduler, picture_of_v, v_of_picture
from pipeline.avatar.render import render_timed
from pipeline.avatar.train.critic import Critic
from pipeline.avatar.train.distillation import Distiller
from pipeline.avatar.train.loop import Trainer
from pipeline.avatar.train.session import state_of
from pipeline.errors import DataError
from pipeline.evaluate.measures.image import psnr
from pipeline.settings.architecture import Architecture
from pipeline.settings.distill import DistillSettings
from pipeline.settings.recipe import Recipe
from pipeline.stages import distill, render, speed
from pipeline.store.chunk import Array, read_arrays, write_chunk
from pipeline.store.state import TrainingState
from pipeline.store.tensors import read_tensors, write_tensors

pytestmark = pytest.mark.usefixtures("one_thread")

WHOLE = {"batch": 4, "crop_height": 16, "crop_width": 16}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, scene) -> Path:
    """An avatar that predicts v, trained shortly at all timesteps alike, as the paper's is."""
    with open_pictures(scene) as pictures:
        torch.manual_seed(0)
        avatar = Avatar(Architecture(**TINY, predicts="v"), code_size=4)
        avatar.describe_data(*pictures.statistics())
        trainer = Trainer(avatar, pictures, Recipe(**WHOLE, texture_steps=20, steps=20, terminal_share=0.0))
        while trainer.step < trainer.total:
            trainer.train_step()
    path = tmp_path_factory.mktemp("teacher") / "avatar.safetensors"
    write_avatar(path, avatar, trainer.average, trainer.step)
    return path


def student(teacher: Path, pictures: Pictures, into: int, **settings) -> Distiller:
    return Distiller(
        read_avatar(teacher).requires_grad_(True), pictures, DistillSettings(**WHOLE | settings | {"into": into})
    )


def test_only_timesteps_that_sampling_visits_are_trained(teacher, pictures):
    for into, expected in ((1, {999}), (2, {999, 499}), (4, {999, 749, 499, 249})):
        (part,) = student(teacher, pictures, into, steps=1).batches.parts(0)
        assert set(part.timesteps.tolist()) <= expected
        drawn = student(teacher, pictures, into).sample_timesteps(1000, torch.Generator().manual_seed(0))
        assert {value: 1000 // into for value in expected} == pytest.approx(
            {int(value): int((drawn == value).sum()) for value in drawn.unique()}, rel=0.2
        )


def test_the_avatar_trains_on_what_it_made_itself(teacher, pictures):
    """Against DDIM written out for one picture: the state at a timestep, and the v that leads to the real picture."""
    distiller = student(teacher, pictures, 4, batch=8)
    shares = make_scheduler().alphas_cumprod
    (part,) = distiller.batches.parts(3)
    avatar = distiller.avatar
    picture, tokens, colours = avatar.conditions(part.buffers)
    base = avatar.base(colours, part.buffers.mask)
    truth = avatar.encode(to_unit(part.target.rgb), base)
    noisy, target = distiller.noisy_and_target(part, truth, lambda x, t: avatar(x, t, base, picture, tokens))
    assert len(part.timesteps.unique()) > 1
    for index, timestep in enumerate(part.timesteps.tolist()):
        one = slice(index, index + 1)
        state, now = part.noise[one], 999
        while now > timestep:
            with torch.no_grad():
                v = avatar(state, torch.tensor([now]), base[one], picture[one], tokens[one])
            share, later = shares[now], shares[now - 250]
            clean, noise = share.sqrt() * state - (1 - share).sqrt() * v, (1 - share).sqrt() * state + share.sqrt() * v
            state, now = later.sqrt() * clean + (1 - later).sqrt() * noise, now - 250
        torch.testing.assert_close(noisy[one], state, atol=1e-4, rtol=1e-4)
        share = shares[timestep]
        led_to = share.sqrt() * noisy[one] - (1 - share).sqrt() * target[one]
        torch.testing.assert_close(led_to, truth[one], atol=1e-4, rtol=1e-4)


def head_psnr(avatar: Avatar, pictures: Pictures, steps: int) -> float:
    film, _ = render_timed(avatar.eval(), pictures, steps, eta=0.0, seed=1)
    targets = [pictures[index][1] for index in range(len(pictures))]
    return float(np.mean([psnr(a, t.rgb[0].numpy(), t.head[0].numpy()) for a, t in zip(film, targets, strict=True)]))


def test_distillation_betters_the_few_steps_it_is_made_for(teacher, pictures):
    """1.5 dB in two steps here, 7 in one."""
    before = head_psnr(read_avatar(teacher), pictures, 2)
    distiller = student(teacher, pictures, 2, steps=40, learning_rate=2e-3, warmup_steps=5)
    while distiller.step < distiller.total:
        distiller.train_step()
    assert distiller.avatar.sampling == Sampling(2, 0.0)
    assert head_psnr(distiller.avatar, pictures, 2) > before + 0.7


def test_critic_and_avatar_each_learn_from_their_own_loss():
    """The critic's gradient is that of the hinge loss, what is rendered gets that of looking real, and nothing more."""
    critic = Critic(channels=3, seed=0)
    real, rendered = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16, requires_grad=True)
    critic.loss(real, rendered).backward()
    found = [parameter.grad.clone() for parameter in critic.parameters()]
    critic.zero_grad()
    hinge = (1 - critic.layers(real)).clamp(min=0).mean() + (1 + critic.layers(rendered.detach())).clamp(min=0).mean()
    hinge.backward()
    for ours, parameter in zip(found, critic.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)
    (expected,) = torch.autograd.grad(-critic.layers(rendered).mean(), rendered)
    torch.testing.assert_close(rendered.grad, expected)


def test_a_critic_learns_what_regression_blurs():
    """Stripes against their mean: what is sharp is real after 60 steps."""
    generator, critic = torch.Generator().manual_seed(0), Critic(channels=1, seed=0)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    for _ in range(60):
        sharp = (torch.rand(8, 1, 16, 1, generator=generator) < 0.5).float().expand(-1, -1, -1, 16)
        optimizer.zero_grad()
        critic.loss(sharp, torch.full_like(sharp, 0.5)).backward()
        optimizer.step()
    assert critic.layers(sharp).mean() > critic.layers(torch.full_like(sharp, 0.5)).mean() + 1


CRITIC = {"critic_weight": 0.5, "steps": 4, "learning_rate": 1e-2, "warmup_steps": 0}


def trained_on(distiller: Distiller, step: int) -> Distiller:
    while distiller.step < step:
        distiller.train_step()
    return distiller


def test_a_critic_goes_on_where_its_state_ended(teacher, pictures, tmp_path):
    whole = trained_on(student(teacher, pictures, 2, **CRITIC), 4)
    state = TrainingState(tmp_path, "pipeline.stages.distill", DistillSettings(), [])
    trained_on(student(teacher, pictures, 2, **CRITIC), 2).save(state)
    resumed = student(teacher, pictures, 2, **CRITIC)
    resumed.load(state)
    trained_on(resumed, 4)
    fresh = student(teacher, pictures, 2, **CRITIC).beside.state_dict()
    for name, tensor in whole.beside.state_dict().items():
        assert torch.equal(tensor, resumed.beside.state_dict()[name])
        assert not torch.equal(tensor, fresh[name])
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, resumed.average[name])


def test_parts_of_a_batch_teach_the_critic_what_the_batch_does(teacher, pictures):
    """Gradients, as the mean that Adam keeps: its first step is as large for a gradient that is rounding alone."""
    one, two = (
        trained_on(student(teacher, pictures, 2, **CRITIC, accumulation=parts), 1).optimiser.tensors()
        for parts in (1, 2)
    )
    means = [name for name in one if name.startswith("exp_avg/beside.")]
    assert len(means) == len(list(Critic(1, 0).parameters()))
    assert sum(one[name].abs().max() > 1e-4 for name in means) > len(means) / 2
    for name in means:
        torch.testing.assert_close(one[name], two[name], atol=1e-6, rtol=1e-3)


def test_a_critic_changes_the_avatar_but_not_where_pixels_do_not_count(teacher, pictures):
    plain, judged = (
        trained_on(student(teacher, pictures, 1, **CRITIC | {"critic_weight": weight}), 2).average
        for weight in (0, 0.5)
    )
    assert any(not torch.equal(tensor, judged[name]) for name, tensor in plain.items())
    distiller = student(teacher, pictures, 1, **CRITIC)
    (part,) = distiller.batches.parts(0)
    said = torch.zeros_like(part.noise, requires_grad=True)
    weights = torch.zeros(len(said), *said.shape[2:])
    weights[:, :4] = 1
    distiller.further_loss(part, part.noise, said, torch.zeros_like(said), weights).backward()
    assert said.grad[:, :, :4].abs().max() > 0
    assert not said.grad[:, :, 4:].any()


@settings(max_examples=30)
@given(timestep=st.integers(0, 999), seed=st.integers(0, 2**31 - 1))
def test_the_picture_that_v_predicts_is_the_one_that_v_was_made_of(timestep, seed):
    noisy, picture = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).double()
    timesteps = torch.tensor([timestep, 999])
    v = v_of_picture(noisy, picture, timesteps)
    torch.testing.assert_close(picture_of_v(noisy, v, timesteps), picture, atol=1e-4, rtol=1e-4)


def call(monkeypatch: pytest.MonkeyPatch, stage, arguments: list[object]) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", *map(str, arguments)])
    stage.main()


def distill_arguments(folder: Path, scene: dict[str, list[Path]], teacher: Path, **settings) -> list[object]:
    settings = {"into": 2, "steps": 3, **WHOLE, "save_every": 2} | settings
    files = [part for kind, paths in scene.items() for part in (f"--{kind}", *paths)]
    where = ["--state", folder / "state", "--output", folder / "distilled.safetensors"]
    return ["--settings", json.dumps(settings), "--avatar", teacher, *files, "--held-out-cameras", "front", *where]


@pytest.fixture
def distilled(tmp_path, scene, teacher, monkeypatch) -> Path:
    call(monkeypatch, distill, distill_arguments(tmp_path, scene, teacher))
    return tmp_path / "distilled.safetensors"


def test_render_takes_as_many_steps_as_the_avatar_is_made_for(tmp_path, scene, teacher, distilled, monkeypatch):
    def rendered(avatar: Path, **settings) -> np.ndarray:
        files = ["--avatar", avatar, "--buffers", *scene["buffers"], "--track", scene["tracks"][0]]
        where = ["--cameras", "front", "--output", tmp_path / "r.zarr.zip", "--film", tmp_path / "r.mp4"]
        call(monkeypatch, render, ["--settings", json.dumps(settings), *files, *where])
        return read_arrays(tmp_path / "r.zarr.zip", "rgb")[0]

    own = rendered(distilled)
    assert np.array_equal(own, rendered(distilled, steps=2, eta=0))
    assert not np.array_equal(own, rendered(distilled, steps=4))
    assert np.array_equal(rendered(teacher), rendered(teacher, steps=20, eta=1))
    (before, _), (after, described) = map(read_tensors, (teacher, distilled))
    assert before.keys() == after.keys()
    assert described["sampling"] == {"steps": 2, "eta": 0.0}


def test_an_avatar_from_before_distillation_is_read(tmp_path, teacher):
    avatar = read_avatar(teacher)
    config = {"architecture": avatar.architecture.model_dump(), "code_size": 4, "steps": 80}
    write_tensors(tmp_path / "old.safetensors", trained_tensors(avatar.requires_grad_(True)), config)
    assert read_avatar(tmp_path / "old.safetensors").sampling == Sampling(20, 1.0)


def test_another_avatar_has_another_state(tmp_path, scene, teacher, distilled, monkeypatch):
    arguments = distill_arguments(tmp_path, scene, teacher)
    monkeypatch.setattr(sys, "argv", ["distill", *map(str, arguments)])
    given = distill.arguments()
    own, other = (state_of(given, "distill", avatar).folder for avatar in (teacher, distilled))
    assert own != other
    assert own.is_dir()  # of the run that made `distilled`


def test_what_the_stage_refuses(tmp_path, teacher, monkeypatch):
    other = write_scene(tmp_path / "other")
    with pytest.raises(DataError, match="into is null; expected 1, 2 or 4"):
        call(monkeypatch, distill, distill_arguments(tmp_path, other, teacher, into=None))
    track = {"subject": "tiny", "sequence": "SPIN", "start": 0, "stop": 3}
    write_chunk(other["tracks"][0], {"z_exp": Array(np.zeros((3, 7), np.float32), ("time", "code"), "", "")}, track)
    with pytest.raises(DataError, match=r"z_exp of 7 numbers; .*avatar\.safetensors expects 4"):
        call(monkeypatch, distill, distill_arguments(tmp_path, other, teacher))
    assert not (tmp_path / "distilled.safetensors").exists()


def test_few_steps_beside_many(tmp_path, scene, teacher, distilled, monkeypatch):
    files = ["--trained", teacher, "--few", distilled, "--buffers", *scene["buffers"], "--targets", *scene["targets"]]
    where = ["--output", tmp_path / "speed.tsv", "--film", tmp_path / "speed.mp4"]
    settings = json.dumps({"steps": 20, "frames": 2, "film_seconds": 0.1, "film_scale": 4})
    arguments = ["--settings", settings, *files, "--track", scene["tracks"][0], "--camera", "front", *where]
    passes, forward = [], Avatar.forward
    monkeypatch.setattr(Avatar, "forward", lambda *given: passes.append(1) or forward(*given))
    call(monkeypatch, speed, arguments)
    assert len(passes) == 2 * 2 + 2 * 20  # two pictures in two steps and in twenty
    few, many = csv.DictReader((tmp_path / "speed.tsv").read_text().splitlines(), delimiter="\t")
    assert [(row["steps"], row["eta"], row["pictures"]) for row in (few, many)] == [("2", "0", "2"), ("20", "1", "2")]
    assert min(float(row["pictures_per_s"]) for row in (few, many)) > 0
    with av.open(str(tmp_path / "speed.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape == (4 * 18, 4 * 48, 3)  # three pictures beside each other, titles above
    real = read_arrays(scene["targets"][0], "rgb")[0][0, 1].repeat(4, 0).repeat(4, 1)
    assert np.abs(frames[0][8:, 128:].astype(int) - real).mean() < 12
    call(monkeypatch, speed, [*arguments, "--few", teacher])  # which is made for 20 steps itself
    few, _ = csv.DictReader((tmp_path / "speed.tsv").read_text().splitlines(), delimiter="\t")
    assert (few["steps"], few["eta"]) == ("1", "0")
    with pytest.raises(DataError, match="steps is null; expected the number of steps"):
        call(monkeypatch, speed, [*arguments, "--settings", '{"steps": null}'])
    with pytest.raises(DataError, match="no camera back; it has left, front, right"):
        call(monkeypatch, speed, [*arguments, "--camera", "back"])
    with pytest.raises(DataError, match="nowhere: no small decoder to load"):
        call(monkeypatch, speed, [*arguments, "--decoder", tmp_path / "nowhere"])
