"""The paper's ablations: each changes what it says, is trained with its own settings, and lands in one table."""

import json
import os
import re
import sys

import pytest
import torch
from avatar_scene import TINY, open_pictures, write_scene
from hypothesis import given
from hypothesis import strategies as st

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.planes import FeaturePlanes, sphere
from pipeline.avatar.train.loop import Trainer
from pipeline.errors import ConfigError, DataError
from pipeline.evaluate.paper_tables import (
    ABLATED,
    DEFERRED,
    TITLES,
    WHOLE,
    WRITERS,
    ablation_rows,
    order,
)
from pipeline.planning.config import load
from pipeline.planning.presets import ABLATIONS, BASELINES, laid_over
from pipeline.provenance import ROOT
from pipeline.settings.ablations import AblationsSettings
from pipeline.settings.architecture import Architecture
from pipeline.settings.train import TrainSettings
from pipeline.stages import ablations
from tests import forked
from tests.test_config import DEMO

SHORT = {"texture_steps": 2, "steps": 3, "crop_height": 12, "crop_width": 12, "architecture": TINY}


def settings_of(name: str) -> TrainSettings:
    """The training settings of a variant at tiny size."""
    return TrainSettings(**laid_over(SHORT, (ABLATIONS | BASELINES).get(name, {}).get("train", {})))


def stirred(name: str) -> Avatar:
    """A variant with every weight moved, so that nothing is left at a neutral start."""
    torch.manual_seed(0)
    avatar = Avatar(settings_of(name).architecture, code_size=4)
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return avatar


@pytest.fixture
def pictures(tmp_path):
    paths = write_scene(tmp_path)
    with open_pictures(paths) as opened:
        yield opened


def render(avatar: Avatar, buffers: Buffers, seed: int = 0, steps: int = 1) -> torch.Tensor:
    noise = torch.randn(steps, *avatar.latent_shape(16, 16), generator=torch.Generator().manual_seed(seed))
    return avatar.render(buffers, noise, steps, 0.0)


def other(buffers: Buffers, name: str) -> Buffers:
    """The same buffers, one of them changed."""
    return Buffers(**vars(buffers) | {name: getattr(buffers, name) * 0.5})


def test_names_are_the_same_everywhere():
    assert AblationsSettings().variants == tuple(ABLATIONS)
    assert {WHOLE, *ABLATIONS} == ABLATED.keys()
    assert {DEFERRED} == BASELINES.keys() < TITLES.keys() > ABLATED.keys()


@pytest.mark.parametrize("preset", ["demo", "paper"])
@pytest.mark.parametrize("name", [*ABLATIONS, *BASELINES])
def test_a_variant_is_the_whole_but_for_its_part(preset, name):
    whole = load(DEMO | {"preset": preset, "span": 5})
    ablated = whole.ablated(name)
    assert ablated.train != whole.train
    same = whole.model_copy(update={"train": ablated.train})
    assert ablated == same
    expected = laid_over(whole.train.model_dump(), whole.all_variants[name]["train"])
    assert ablated.train.model_dump() == expected


@pytest.mark.parametrize("name", [*ABLATIONS, *BASELINES])
def test_every_variant_trains(name, pictures):
    settings = settings_of(name)
    torch.manual_seed(0)
    avatar = Avatar(settings.architecture, code_size=4)
    avatar.describe_data(*pictures.statistics())
    trainer = Trainer(avatar, pictures, settings)
    before = {part: tensor.clone() for part, tensor in avatar.unet.named_parameters()}
    for _ in range(trainer.total):
        trainer.train_step()
    moved = [part for part, tensor in avatar.unet.named_parameters() if not torch.equal(tensor, before[part])]
    assert len(moved) > 0.9 * len(before)


@pytest.mark.parametrize(("name", "reads"), [(WHOLE, True), ("no_expression", False)])
def test_only_without_expression_does_the_picture_not_depend_on_the_code(name, reads, pictures):
    avatar, (buffers, _) = stirred(name), pictures[4]
    assert torch.equal(render(avatar, buffers), render(avatar, other(buffers, "z_exp"))) != reads
    assert any("to_tokens" in part or ".processor." in part for part, _ in avatar.named_parameters()) == reads


@pytest.mark.parametrize(("name", "reads"), [(WHOLE, True), ("no_diffusion", False)])
def test_only_one_pass_is_blind_to_noise(name, reads, pictures):
    avatar, (buffers, _) = stirred(name), pictures[4]
    pairs = [(render(avatar, buffers, 0), render(avatar, buffers, seed, steps)) for seed, steps in ((1, 1), (0, 4))]
    assert [torch.equal(*pair) for pair in pairs] == [not reads] * 2


def test_without_prior_there_is_no_controlnet_and_the_unet_reads_the_condition(pictures):
    whole, plain = stirred(WHOLE), stirred("no_prior")
    assert not list(plain.controlnet.parameters())
    patch, channels = TINY.get("patch", 2), 9 + 5 * TINY["plane_features"]
    assert plain.unet.conv_in.in_channels == whole.unet.conv_in.in_channels + channels * patch**2
    buffers, _ = pictures[4]
    for name in ("depth", "normals", "x_can", "z_exp"):
        assert not torch.equal(render(plain, buffers), render(plain, other(buffers, name))), name


def test_without_prior_the_gradients_limit_is_on_the_unet(pictures):
    limits = {"limited": "controlnet", "gradient_limit": 1e-12, "texture_steps": 0}
    settings = TrainSettings(**settings_of("no_prior").model_dump() | limits)
    trainer = Trainer(stirred("no_prior"), pictures, settings)
    trainer.train_step()
    largest = dict.fromkeys(("unet", "planes"), 0.0)
    for name, parameter in trainer.optimiser.parameters.items():
        part = name.split(".")[0]
        largest[part] = max(largest.get(part, 0.0), float(parameter.grad.abs().max()))
    assert largest["unet"] < 1e-9 < largest["planes"]


@pytest.mark.parametrize(("name", "planes"), [(WHOLE, 5), ("spherical_uv", 3), ("no_features", 0)])
def test_planes_of_the_variants(name, planes, pictures):
    avatar, (buffers, _) = stirred(name), pictures[4]
    assert avatar.planes.values.shape[0] == planes
    picture, _, colours = avatar.conditions(buffers)
    assert picture.shape[1] == 9 + planes * TINY["plane_features"]
    assert bool(colours.any()) == (planes > 0)


@given(longitude=st.floats(-0.99, 0.99), latitude=st.floats(-0.99, 0.99), radius=st.floats(0.1, 2))
def test_the_sphere_gives_back_longitude_and_latitude(longitude, latitude, radius):
    a, b = torch.tensor(longitude * torch.pi), torch.tensor(latitude * torch.pi / 2)
    point = radius * torch.stack([b.cos() * a.sin(), b.sin(), b.cos() * a.cos()])
    found = sphere(torch.cat([point, torch.zeros(2)])[None])
    torch.testing.assert_close(found, torch.tensor([[longitude, latitude]]), atol=1e-4, rtol=0)


def test_points_on_one_ray_share_their_spherical_features():
    planes = FeaturePlanes(8, 3, kind="spherical")
    point = torch.tensor([[0.2, 0.3, 0.1, 0.5, -0.5]])
    far = point * torch.tensor([3.0, 3, 3, 1, 1])
    torch.testing.assert_close(planes(point), planes(far))
    assert not torch.equal(FeaturePlanes(8, 3)(point), FeaturePlanes(8, 3)(far))


def test_the_mask_is_a_channel_of_its_own(pictures):
    buffers, _ = pictures[4]
    avatar = Avatar(Architecture(**TINY, mask_channel=True), code_size=4)
    picture, *_ = avatar.conditions(buffers)
    assert picture.shape[1] == 9 + 5 * TINY["plane_features"] + 1
    assert torch.equal(picture[:, -1], buffers.mask.float())


def test_a_regression_that_sees_other_timesteps_is_refused():
    with pytest.raises(ValueError, match="expected 1 with"):
        TrainSettings(architecture={"process": "regression"})


def test_the_workflow_gives_every_variant_its_own_settings():
    done = forked.snakemake(ROOT, os.environ, "-n", "-p", "-F", "ablations")
    assert done.returncode == 0, done.stdout
    commands = re.findall(
        r"python -m pipeline\.stages\.train --settings '(.*?)' .*/(\w+)/avatar\.safetensors", done.stdout
    )
    found = {folder: json.loads(settings) for settings, folder in commands}
    for name in ABLATIONS:
        assert found[name] == json.loads(load(DEMO).ablated(name).stage("train", whole=True)), name
    assert found["901"] == json.loads(load(DEMO).stage("train"))


def metrics(psnr: float) -> str:
    figures = {"psnr": psnr, "psnr_head": psnr - 1, "ssim_head": 0.9, "flip_head": 0.1, "pictures": 3}
    return json.dumps({"heldout_both": {"avatar": figures}, "heldout_camera": {}})


def test_the_table_has_our_figures_beside_the_papers(tmp_path, monkeypatch):
    variants = ["spherical_uv", "no_prior"]
    paths = [tmp_path / f"{name}.json" for name in (WHOLE, *variants)]
    for index, path in enumerate(paths):
        path.write_text(metrics(20.0 + index))
    arguments = ["ablations", "--settings", json.dumps({"variants": variants}), "--whole", str(paths[0])]
    arguments += ["--output", *(str(tmp_path / f"t{ending}") for ending in WRITERS), "--ablated"]
    monkeypatch.setattr(sys, "argv", [*arguments, *map(str, paths[1:])])
    ablations.main()
    header, *rows = (line.split("\t") for line in (tmp_path / "t.tsv").read_text().splitlines())
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert list(found) == [WHOLE, *variants]
    assert [row["psnr"] for row in found.values()] == ["20.00", "21.00", "22.00"]
    assert (found["no_prior"]["paper_psnr"], found["no_prior"]["paper_lpips"]) == ("24.5", "0.078")
    assert "flicker" not in header
    assert found[WHOLE]["paper_jod"] == "7.85"
    page = (tmp_path / "t.md").read_text()
    assert page.count("\n|") == 4
    assert TITLES["spherical_uv"] in page
    told = json.loads((tmp_path / "t.json").read_text())["methods"]
    assert (told["no_prior"]["psnr"], told["no_prior"]["paper_psnr"]) == (22.0, 24.5)
    tabular = (tmp_path / "t.tex").read_text()
    assert tabular.count(r"\\") == 4
    assert r"paper\_psnr" in tabular
    monkeypatch.setattr(sys, "argv", [*arguments, str(paths[1])])
    with pytest.raises(DataError, match="1 files of metrics; expected one for each of spherical_uv, no_prior"):
        ablations.main()


def test_deferred_rendering_learns_from_absolute_errors(pictures):
    """The same step, but for the error's power: its loss is the mean of |x0's error|, by hand."""
    losses = {}
    for error in ("absolute", "squared"):
        settings = settings_of(DEFERRED).model_copy(update={"error": error, "texture_steps": 0, "texture_weight": 0.0})
        settings = settings.model_copy(update={"plane_smoothness": 0.0, "batch": 1})
        torch.manual_seed(0)
        avatar = Avatar(settings.architecture, code_size=4)
        avatar.describe_data(*pictures.statistics())
        trainer = Trainer(avatar, pictures, settings)
        (part,) = [trainer.batches.on_device(part) for part in trainer.batches.read(0)]
        condition, tokens, colours = avatar.conditions(part.buffers)
        base = avatar.base(colours, part.buffers.mask)
        truth = avatar.encode(part.target.rgb.permute(0, 3, 1, 2).float() / 127.5 - 1, base)
        predicted = -avatar(part.noise, part.timesteps, base, condition, tokens)  # v at the last timestep is -x0
        apart = (predicted - truth).abs() if error == "absolute" else (predicted - truth).square()
        weights = torch.nn.functional.avg_pool2d(part.weights, avatar.autoencoder.factor)
        expected = (apart.mean(1) * weights).sum() / weights.sum()
        losses[error] = float(trainer.train_step().detach()), float(expected.detach())
    for found, expected in losses.values():
        assert found == pytest.approx(expected, rel=1e-3)
    assert losses["absolute"][0] != pytest.approx(losses["squared"][0], rel=0.05)


def test_the_papers_order_is_said_where_it_holds_and_where_not():
    def measured(psnr: float, jod: float) -> dict:
        return {"heldout_both": {"avatar": {"psnr_paper": psnr, "jod": jod}}}

    rows = ablation_rows({WHOLE: measured(25, 8), "no_diffusion": measured(26, 7), "no_prior": measured(24, 7.5)})
    lines = dict(line.split(": ", 1) for line in order(rows))
    assert lines["PSNR"] == "2 of 3 pairs as in the paper; here no_diffusion over whole"
    assert lines["JOD"] == "2 of 3 pairs as in the paper; here no_prior over no_diffusion"  # 7.69 and 7.67 there
    assert lines["LPIPS"] == "not measured here"


def test_baselines_stand_beside_the_avatar(tmp_path, monkeypatch):
    methods = ("avatar", "mesh_colour", "nearest_frame")
    whole = {"heldout_both": {name: {"psnr": 20.0 + number} for number, name in enumerate(methods)}}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    (tmp_path / "deferred.json").write_text(metrics(24.0))
    arguments = ["ablations", "--whole", str(tmp_path / "whole.json"), "--deferred", str(tmp_path / "deferred.json")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(tmp_path / "t.tsv"), str(tmp_path / "t.md")])
    ablations.main()
    header, *rows = (line.split("\t") for line in (tmp_path / "t.tsv").read_text().splitlines())
    expected = {WHOLE: "20.00", DEFERRED: "24.00", "mesh_colour": "21.00", "nearest_frame": "22.00"}
    assert {row[0]: row[1] for row in rows} == expected
    assert rows[1][header.index("paper_psnr")] == "24.5"


def test_variants_of_ones_own_are_laid_over_and_checked():
    wide = {"train": {"architecture": {"plane_size": 64}}}
    settings = load(DEMO | {"variants": {"wide": wide}})
    settings.check_variants()
    assert settings.ablated("wide").train.architecture.plane_size == 64
    for variants, message in (
        ({"no_prior": {}}, "no_prior"),
        ({"a/b": {}}, "a/b"),
        ({"x": {"mesh": {"voxel_mm": 3}}}, r"variants\.x: mesh: variants share it; expected train, render, evaluate"),
        ({"x": {"train": {"stepz": 3}}}, r"config: variants\.x\.train\.stepz: unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(DEMO | {"variants": variants}).check_variants()
