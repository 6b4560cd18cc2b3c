"""The paper's model: what it trains and what it does not, and the stages with a pretrained model of random weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from pydantic import ValidationError
from safetensors import safe_open

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar, trained_tensors, write_avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.pretrained import Pretrained, load_pretrained, load_tiny_decoder
from pipeline.avatar.model.schedule import Sampling
from pipeline.avatar.train.loop import Trainer
from pipeline.errors import DataError
from pipeline.planning.config import load
from pipeline.planning.presets import PRESETS, laid_over
from pipeline.provenance import ROOT
from pipeline.settings.architecture import Architecture
from pipeline.settings.recipe import Recipe
from pipeline.stages import train
from pipeline.store.chunk import read_arrays
from pipeline.store.tensors import read_tensors
from tests import in_process
from tests.latent_model import STABLE_DIFFUSION_2_1, TINY, write_latent_model
from tests.test_config import DEMO

CODE_SIZE = 200
WIDTHS = [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320]  # of the 15 attentions
PAPER = PRESETS["paper"]["train"]
SMALL = {"steps": 4, "batch": 2, "crop_height": 16, "crop_width": 16, "save_every": 2, "preview_every": 4}
SMALL_ARCHITECTURE = {"plane_size": 8, "condition_widths": [8, 16]}


def paper_settings(model: Path, **more) -> dict:
    """The preset's training settings, cut to a tiny model and a few steps."""
    small = {"architecture": {"pretrained": str(model), **SMALL_ARCHITECTURE}}
    return laid_over(laid_over(PAPER, SMALL), laid_over(small, more))


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def expected_expression_size(kind: str) -> int:
    """Key and value read tokens of 1024, query and output are as wide as the block; only the output has a bias."""
    squares = {"shared": 1, "separate": 2}[kind]
    return sum(2 * 1024 * width + squares * width**2 + width for width in WIDTHS)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return write_latent_model(tmp_path_factory.mktemp("hub") / "tiny", TINY)


def tiny_avatar(model: Path, **more) -> Avatar:
    torch.manual_seed(1)
    return Avatar(Architecture(**paper_settings(model, architecture=more)["architecture"]), code_size=4)


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_the_paper_trains_exactly_this(kind):
    """At full size, on a device without memory: names and numbers of everything that is trained."""
    architecture = Architecture(**PAPER["architecture"] | {"expression": kind})
    with torch.device("meta"):
        unet, vae = (
            network(**STABLE_DIFFUSION_2_1[name])
            for network, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
        )
        assert (count(unet), count(vae)) == (865_910_724, 83_653_863)  # Stable Diffusion 2.1's
        encoder = sum(map(count, (unet.conv_in, unet.time_embedding, unet.down_blocks, unet.mid_block)))
        avatar = Avatar(architecture, CODE_SIZE, Pretrained(unet, vae, torch.zeros(1, 77, 1024)))
    sizes: dict[str, int] = {}
    for name, parameter in avatar.named_parameters():
        if parameter.requires_grad:
            part = "expression" if ".processor." in name else name.split(".")[0]
            assert part != "expression" or name.startswith(("unet.down_blocks", "unet.up_blocks"))
            sizes[part] = sizes.get(part, 0) + parameter.numel()
    embedding = sum(
        9 * inward * outward + outward
        for inward, outward in [(73, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, 320)]
    )
    zero_convolutions = sum(width**2 + width for width in [320] * 4 + [640] * 3 + [1280] * 5 + [1280])
    assert sizes == {
        "planes": 4 * 16 * 512 * 512,
        "to_tokens": (CODE_SIZE + 6 + 1) * 4 * 1024,  # six numbers of the eyes beside z_exp
        "controlnet": encoder + embedding + zero_convolutions,
        "expression": expected_expression_size(kind),
    }
    assert len({name.split(".processor.")[0] for name, _ in avatar.named_parameters() if ".processor." in name}) == 15
    kept = trained_tensors(avatar).keys() - {name for name, p in avatar.named_parameters() if p.requires_grad}
    assert kept == {"text", "code_mean", "code_scale", "eyes.mean", "eyes.eyeballs"} | {
        f"units.{name}" for name in ("depth_middle", "depth_scale", "hyper_middle", "hyper_scale")
    }


def test_one_word_selects_the_paper_and_what_stands_in_a_section_wins():
    paper = load(laid_over(DEMO, {"preset": "paper", "train": {"batch": 4, "architecture": {"plane_features": 8}}}))
    assert (paper.train.batch, paper.train.architecture.plane_features) == (4, 8)
    assert (paper.train.steps, paper.train.learning_rate, paper.train.plane_learning_rate) == (100_000, 1e-4, 1e-2)
    assert (paper.train.limited, paper.train.gradient_limit) == ("controlnet", 1.0)
    assert (paper.train.eye_weight, paper.train.mouth_weight, paper.train.rare_share) == (1.0, 1.0, 0.0)
    assert (paper.rig.width, paper.rig.height) == (512, 512)
    assert (paper.render.steps, paper.render.eta) == (None, None)  # as the avatar's file says
    assert (paper.distill.limited, paper.distill.batch, paper.distill.texture_steps) == ("controlnet", 8, 0)
    assert json.loads(paper.stage("train"))["architecture"]["backbone"] == "pretrained"
    assert load(DEMO | {"preset": "demo"}).train == load(DEMO).train


def test_networks_that_predict_v_sample_as_in_the_paper_and_those_that_predict_the_picture_in_one_step(model):
    assert tiny_avatar(model).sampling == Sampling(20, 1.0)
    assert Avatar(Architecture(), code_size=4).sampling == Sampling(1, 0.0)


def test_a_fresh_avatar_computes_what_its_pretrained_model_does(model, pictures):
    for kind in ("shared", "separate"):
        avatar, alone = tiny_avatar(model, expression=kind), load_pretrained(str(model))
        picture, tokens, _ = avatar.conditions(pictures[4][0])
        assert picture.shape == (1, 73, 16, 16)
        assert tokens.shape == (1, 4, 8)
        latents, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([700])
        with torch.no_grad():
            v = avatar(latents, timesteps, torch.zeros(()), picture, tokens)
            torch.testing.assert_close(v, alone.unet(latents, timesteps, alone.text).sample, atol=1e-6, rtol=0)


def test_the_separate_attention_starts_as_a_copy_of_the_texts(model):
    avatar = tiny_avatar(model, expression="separate")
    layers = [module for name, module in avatar.unet.named_modules() if name.endswith("attn2")]
    equipped = [layer for layer in layers if hasattr(layer.processor, "to_q")]
    assert len(equipped) == len(layers) - 1  # all but the middle's
    for layer in equipped:
        for name in ("to_q", "to_k", "to_v"):
            own, texts = getattr(layer.processor, name).weight, getattr(layer, name).weight
            assert torch.equal(own, texts)
            assert own.requires_grad
            assert not texts.requires_grad
        assert not layer.processor.to_out.weight.any()


def test_training_moves_the_trained_and_nothing_else(model, pictures):
    avatar = tiny_avatar(model)
    avatar.describe_data(*pictures.statistics())
    before = {name: tensor.clone() for name, tensor in avatar.state_dict().items()}
    recipe = {name: value for name, value in paper_settings(model).items() if name != "architecture"}
    trainer = Trainer(avatar, pictures, Recipe(**recipe | {"weight_decay": 0.0, "learning_rate": 1e-2}))
    for _ in range(4):
        trainer.train_step()
    moved = {name for name, tensor in avatar.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved <= trainer.optimiser.parameters.keys()
    still = trainer.optimiser.parameters.keys() - moved
    assert not still, still
    assert all(torch.equal(trainer.average[name], tensor) for name, tensor in trained_tensors(avatar).items())


def test_an_avatar_round_a_pretrained_model_survives_its_file(model, pictures, tmp_path):
    avatar = tiny_avatar(model)
    avatar.describe_data(*pictures.statistics())
    with torch.no_grad():
        for parameter in avatar.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    write_avatar(tmp_path / "avatar.safetensors", avatar, trained_tensors(avatar), steps=1)
    again = read_avatar(tmp_path / "avatar.safetensors")
    noise = torch.randn(4, *avatar.latent_shape(16, 16))
    rendered = [each.render(pictures[4][0], noise, 4, 1.0) for each in (avatar, again)]
    assert torch.equal(*rendered)
    assert rendered[0].std() > 0.01


@pytest.mark.parametrize("limited", ["all", "controlnet"])
def test_the_gradient_is_limited_where_asked(model, pictures, limited):
    """A limit near zero leaves no gradient where it is put on, and all of it elsewhere."""
    avatar = tiny_avatar(model)
    recipe = {name: value for name, value in paper_settings(model).items() if name != "architecture"}
    trainer = Trainer(avatar, pictures, Recipe(**recipe | {"limited": limited, "gradient_limit": 1e-12}))
    trainer.train_step()
    size = {part: 0.0 for part in ("controlnet", "planes", "to_tokens", "unet")}
    for name, parameter in trainer.optimiser.parameters.items():
        size[name.split(".")[0]] += float(parameter.grad.abs().sum())
    assert size["controlnet"] < 1e-9
    assert (size["unet"] < 1e-9) == (limited == "all")


def stage(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return in_process.run(f"stages.{name}", *arguments, cwd=ROOT)


def train_arguments(folder: Path, scene: dict[str, list[Path]], settings: dict) -> list[str]:
    files = [part for kind, paths in scene.items() for part in (f"--{kind}", *map(str, paths))]
    where = ["--state", str(folder / "state"), "--output", str(folder / "avatar.safetensors")]
    return ["--settings", json.dumps(settings), *files, "--held-out-cameras", "front", *where]


def render(folder: Path, scene: dict[str, list[Path]]) -> subprocess.CompletedProcess:
    files = ["--buffers", *map(str, scene["buffers"]), "--track", str(scene["tracks"][0])]
    where = ["--output", str(folder / "r.zarr.zip"), "--film", str(folder / "r.mp4")]
    settings = json.dumps({"film_seconds": 0.2})
    return stage("render", "--settings", settings, "--avatar", str(folder / "distilled.safetensors"), *files, *where)


def distill_arguments(folder: Path, scene: dict[str, list[Path]]) -> list[str]:
    settings = PRESETS["paper"]["distill"] | SMALL | {"into": 2}
    arguments = train_arguments(folder, scene, settings)
    avatar = folder / "avatar.safetensors"
    return [*arguments[:-1], str(folder / "distilled.safetensors"), "--avatar", str(avatar)]


def check_distilled(folder: Path) -> None:
    """What is trained is what the paper trains: all of that moves, nothing else is in the file."""
    (before, _), (after, described) = (
        read_tensors(folder / name) for name in ("avatar.safetensors", "distilled.safetensors")
    )
    assert before.keys() == after.keys()
    kept = {"text", "code_mean", "code_scale"} | {name for name in before if name.startswith(("units.", "eyes."))}
    assert {name for name, tensor in after.items() if torch.equal(tensor, before[name])} == kept
    assert described["sampling"] == {"steps": 2, "eta": 0.0}


def test_train_distill_and_render_with_a_pretrained_model(tmp_path, scene, model):
    """End to end; the avatar's file has no pretrained network in it, and rendering needs no text encoder."""
    own = Path(shutil.copytree(model, tmp_path / "model"))
    trained = stage("train", *train_arguments(tmp_path, scene, paper_settings(own)))
    assert trained.returncode == 0, trained.stderr
    with safe_open(tmp_path / "avatar.safetensors", framework="pt") as file:
        names, text = set(file.keys()), file.get_tensor("text")
    assert torch.equal(text, load_pretrained(str(model)).text)
    assert text.shape == (1, 7, 8)
    assert text.abs().sum() > 0
    assert all(".processor." in name for name in names if name.startswith("unet."))
    assert not any(name.startswith("autoencoder.") for name in names)
    shutil.rmtree(own / "text_encoder")
    shutil.rmtree(own / "tokenizer")
    distilled = stage("distill", *distill_arguments(tmp_path, scene))
    assert distilled.returncode == 0, distilled.stderr
    check_distilled(tmp_path)
    rendered = render(tmp_path, scene)
    assert rendered.returncode == 0, rendered.stderr
    assert "2 steps of diffusion, eta 0" in rendered.stderr
    (rgb,) = read_arrays(tmp_path / "r.zarr.zip", "rgb")
    assert rgb.shape == (3, 3, 16, 16, 3)
    assert len(np.unique(rgb)) > 10
    shutil.rmtree(own)
    with pytest.raises(DataError, match=f"{own}: no pretrained model to load"):
        read_avatar(tmp_path / "avatar.safetensors")


TINY_DECODER = {"decoder_block_out_channels": (4, 4), "num_decoder_blocks": (1, 1)} | {
    "encoder_block_out_channels": (4, 4),
    "num_encoder_blocks": (1, 1),
}


def test_a_small_decoder_decodes_in_the_autoencoders_place(model, pictures, tmp_path):
    torch.manual_seed(2)
    small = AutoencoderTiny(**TINY_DECODER)
    small.save_pretrained(tmp_path / "small")
    AutoencoderTiny(**TINY_DECODER, latent_channels=16).save_pretrained(tmp_path / "other")
    avatar = tiny_avatar(model)
    latents = torch.randn(1, *avatar.latent_shape(16, 16))
    whole = avatar.autoencoder.decode(latents)
    with pytest.raises(DataError, match=r"other: decodes 16 channels and enlarges them 2 times; expected 4 and 2"):
        avatar.autoencoder.decode_with(load_tiny_decoder(str(tmp_path / "other")), str(tmp_path / "other"))
    avatar.autoencoder.decode_with(load_tiny_decoder(str(tmp_path / "small")), "small")
    rendered = avatar.autoencoder.decode(latents)
    assert rendered.shape == whole.shape == (1, 3, 16, 16)
    assert torch.equal(rendered, small.decode(latents).sample)
    picture = torch.rand(1, 3, 16, 16)
    assert torch.equal(avatar.encode(picture, torch.zeros(())), tiny_avatar(model).encode(picture, torch.zeros(())))


def test_a_small_decoder_that_is_missing_or_not_wanted_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no small decoder to load .*madebyollin/taesd.*render\.decoder"):
        load_tiny_decoder(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"folds its pictures.*expected render\.decoder null"):
        Avatar(Architecture(), code_size=4).autoencoder.decode_with(AutoencoderTiny(**TINY_DECODER), "small")


def test_a_model_that_the_hub_lacks_is_one_line(tmp_path, scene, monkeypatch):
    arguments = train_arguments(tmp_path, scene, paper_settings("no-such-owner/no-such-model"))
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError) as error:
        train.main()
    said = str(error.value)
    assert said.startswith("no-such-owner/no-such-model: no pretrained model to load (")
    assert said.endswith(
        "folder with the subfolders scheduler, unet, vae, tokenizer and text_encoder in diffusers' format"
    )
    assert "\n" not in said
    assert not (tmp_path / "avatar.safetensors").exists()


def test_a_model_that_predicts_noise_is_refused(tmp_path):
    folder = write_latent_model(tmp_path / "noise", TINY, prediction_type="epsilon")
    with pytest.raises(DataError, match="predicts epsilon; expected v_prediction"):
        load_pretrained(str(folder))


def test_widths_that_do_not_reach_the_latents_are_refused(model):
    with pytest.raises(DataError, match="divides pictures by 2 but condition_widths"):
        tiny_avatar(model, condition_widths=[8, 16, 32])
    with pytest.raises(ValidationError, match="whole pictures"):
        Architecture(backbone="pretrained")


def test_a_wider_first_layer_and_half_precision(model, pictures):
    wide = tiny_avatar(model, condition_widths=[64, 64])
    assert wide.controlnet.controlnet_cond_embedding.conv_in.weight.shape[:2] == (64, 73)
    full, half = tiny_avatar(model), tiny_avatar(model)
    half.compute_in("bfloat16")
    noise = torch.randn(1, *full.latent_shape(16, 16))
    first, second = (avatar.render(pictures[4][0], noise, 1, 0.0) for avatar in (full, half))
    assert first.dtype == second.dtype == torch.float32
    for parameter in half.parameters():
        assert parameter.dtype == torch.float32 or not parameter.requires_grad
    assert half.unet.conv_in.weight.dtype == torch.bfloat16  # frozen: rounded once
    assert not torch.equal(first, second)
    assert (first - second).abs().mean() < 0.01


def test_buffers_of_another_code_matter(model, pictures):
    avatar = tiny_avatar(model)
    with torch.no_grad():
        for name, parameter in avatar.named_parameters():
            if ".processor.to_out" in name:
                parameter.normal_()
    noise = torch.randn(1, *avatar.latent_shape(16, 16))
    buffers = pictures[4][0]
    other = Buffers(**vars(buffers) | {"z_exp": buffers.z_exp + 1})
    assert not torch.equal(*(avatar.render(part, noise, 1, 0.0) for part in (buffers, other)))


@pytest.mark.parametrize("name", ["no_diffusion", "no_prior"])
def test_without_the_pretrained_model_the_paper_trains_a_unet_of_its_size(name):
    architecture = load(DEMO | {"preset": "paper"}).ablated(name).train.architecture
    with torch.device("meta"):
        avatar = Avatar(architecture, CODE_SIZE)
    assert all(parameter.requires_grad for parameter in avatar.parameters())
    assert count(avatar.unet) == pytest.approx(865_910_724 + expected_expression_size("shared"), rel=0.05)
    assert avatar.latent_shape(512, 512)[1:] == (64, 64)
