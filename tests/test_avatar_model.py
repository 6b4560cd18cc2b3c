"""The avatar's parts against slow references, and what a fresh one must and must not do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from avatar_scene import CAMERAS, TINY, open_pictures, write_scene
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.avatar.data.enlarge import enlarge
from pipeline.avatar.data.pictures import (
    Pictures,
    Target,
    camera_places,
    crop,
    sequence_views,
    stack,
    to_bytes,
    to_unit,
)
from pipeline.avatar.model.attention import add_expression_attention
from pipeline.avatar.model.autoencoder import LatentAutoencoder, SpaceToDepth
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.backbone import make_backbone
from pipeline.avatar.model.checkpoint import read_avatar, trained_tensors, write_avatar
from pipeline.avatar.model.condition import Buffers, Units, condition
from pipeline.avatar.model.planes import PAIRS, FeaturePlanes
from pipeline.avatar.model.schedule import shared_noise
from pipeline.avatar.render import render_views
from pipeline.errors import DataError
from pipeline.raster.buffers import write_buffers
from pipeline.settings.architecture import Architecture
from pipeline.store.chunk import Array, write_chunk
from pipeline.store.reel import open_reels


@pytest.fixture
def pictures(tmp_path):
    paths = write_scene(tmp_path)
    with open_pictures(paths) as opened:
        yield opened


def tiny_avatar(seed: int = 0) -> Avatar:
    torch.manual_seed(seed)
    return Avatar(Architecture(**TINY), code_size=4)


def stirred(avatar: Avatar) -> Avatar:
    """The avatar with every weight moved, so that no part is left at a neutral start."""
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return avatar


def slow_lookup(planes: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Features at one point (5,) in [-1, 1], texel by texel."""
    found = []
    for plane, pair in zip(planes, PAIRS, strict=True):
        size = plane.shape[-1]
        column, row = (min(max((point[k] + 1) / 2 * size - 0.5, 0), size - 1) for k in pair)
        x, y = min(int(column), size - 2), min(int(row), size - 2)
        a, b = column - x, row - y
        found.append(
            (1 - b) * ((1 - a) * plane[:, y, x] + a * plane[:, y, x + 1])
            + b * ((1 - a) * plane[:, y + 1, x] + a * plane[:, y + 1, x + 1])
        )
    return np.concatenate(found)


@given(seed=st.integers(0, 10_000), reach=st.floats(0.5, 1.3))
@settings(max_examples=30, deadline=None)
def test_planes_agree_with_the_slow_lookup(seed, reach):
    planes = FeaturePlanes(size=6, features=3)
    points = np.random.default_rng(seed).uniform(-reach, reach, (5, 5))
    found = planes(torch.tensor(points, dtype=torch.float32)).detach().numpy()
    expected = [slow_lookup(planes.values.detach().numpy(), point) for point in points]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_condition_has_its_channels_in_order_and_a_zero_background(pictures):
    buffers, _ = pictures[1]
    planes, units = FeaturePlanes(8, 2), Units()
    _, depth, x_can, *_ = pictures.statistics()
    units.measure(depth, x_can)
    picture, features = condition(buffers, units, planes)
    assert picture.shape == (1, 9 + 4 * 2, 16, 16)
    assert (picture.permute(0, 2, 3, 1)[~buffers.mask] == 0).all()
    inside, points = picture.permute(0, 2, 3, 1)[buffers.mask], buffers.x_can[buffers.mask]
    middle, half = (depth.max() + depth.min()) / 2, (depth.max() - depth.min()) / 2
    torch.testing.assert_close(inside[:, 0], (buffers.depth[buffers.mask] - middle) / half)
    torch.testing.assert_close(inside[:, 1:3], points[:, :2])  # x and y span [-1, 1]
    torch.testing.assert_close(inside[:, 3], points[:, 2] + 0.5)  # z spans [-1.5, 0.5]
    torch.testing.assert_close(inside[:, 4:7], buffers.normals[buffers.mask])
    torch.testing.assert_close(inside[:, 7:9], (points[:, 3:] - x_can[:, 3:].mean(0)) / (2 * x_can[:, 3:].std(0)))
    torch.testing.assert_close(inside[:, 9:], features[buffers.mask])


@pytest.mark.parametrize("farther", [-0.6, 2.0])
def test_a_head_at_another_distance_is_moved_to_where_training_saw_it(pictures, farther):
    buffers, _ = pictures[1]
    planes, units = FeaturePlanes(8, 2), Units()
    _, depth, x_can, *_ = pictures.statistics()
    units.measure(depth, x_can)
    known, _ = condition(buffers, units, planes)
    away, _ = condition(replace(buffers, depth=buffers.depth + farther), units, planes)
    inside = buffers.mask[0]
    known, away = known[0, 0][inside], away[0, 0][inside]
    torch.testing.assert_close(away - away.mean(), known - known.mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(away.min() if farther < 0 else away.max(), torch.tensor(-1.0 if farther < 0 else 1.0))


def test_a_crop_of_the_condition_is_the_condition_of_the_crop(pictures):
    buffers, _ = pictures[4]
    planes, units = FeaturePlanes(8, 2), Units()
    _, depth, x_can, *_ = pictures.statistics()
    units.measure(depth, x_can)
    whole, _ = condition(buffers, units, planes)
    part, _ = condition(crop(buffers, 2, 4, 8, 10), units, planes)
    assert torch.equal(part, whole[:, :, 2:10, 4:14])


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_expression_attention_changes_nothing_at_first_and_something_later(kind):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    x, t, text, tokens = torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    with torch.no_grad():
        before = unet(x, t, text).sample
        # Down: 1 per level; up: 2 per level; none in the middle.
        assert add_expression_attention(unet, kind) == 2 * 1 + 2 * 2
        after = unet(x, t, text, cross_attention_kwargs={"ip_hidden_states": tokens}).sample
        assert torch.equal(before, after)
        for name, parameter in unet.named_parameters():
            if ".processor.to_out" in name:
                parameter.normal_()
        moved = unet(x, t, text, cross_attention_kwargs={"ip_hidden_states": tokens}).sample
        other = unet(x, t, text, cross_attention_kwargs={"ip_hidden_states": -tokens}).sample
    assert not torch.equal(after, moved)
    assert not torch.equal(moved, other)


@given(height=st.integers(2, 30), width=st.integers(2, 30), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_enlarged_geometry_is_the_nearest_pixels_and_colours_are_bilinear(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    old = torch.randint(2, 20, (2,), generator=generator).tolist()
    rgb = torch.randint(256, (2, *old, 3), generator=generator, dtype=torch.uint8)
    head = torch.rand(2, *old, generator=generator) > 0.5
    target = enlarge(Target(rgb, head, ~head), height, width)
    assert target.rgb.shape == (2, height, width, 3)
    assert target.rgb.dtype == torch.uint8
    for i, j in ((0, 0), (height - 1, width // 2), (height // 2, width - 1)):
        y, x = (min(max((k + 0.5) * size / new, 0), size) for k, size, new in ((i, old[0], height), (j, old[1], width)))
        assert torch.equal(target.head[:, i, j], head[:, int(y), int(x)])
        assert torch.equal(target.trusted[:, i, j], ~head[:, int(y), int(x)])
        y, x = (min(max(at - 0.5, 0), size - 1) for at, size in ((y, old[0]), (x, old[1])))
        a, b = min(int(y), old[0] - 2), min(int(x), old[1] - 2)
        square, dy, dx = rgb[:, a : a + 2, b : b + 2].double(), y - a, x - b
        rows = (1 - dx) * square[:, :, 0] + dx * square[:, :, 1]
        expected = (1 - dy) * rows[:, 0] + dy * rows[:, 1]
        assert (target.rgb[:, i, j] - expected).abs().max() <= 0.51


@given(patch=st.integers(1, 4), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_space_to_depth_loses_nothing(patch, seed):
    pictures = torch.randn(2, 3, 3 * patch, 2 * patch, generator=torch.Generator().manual_seed(seed))
    autoencoder = SpaceToDepth(patch)
    latents = autoencoder.encode(pictures)
    assert latents.shape == (2, autoencoder.channels, 3, 2)
    assert torch.equal(autoencoder.decode(latents), pictures)


def test_bytes_and_unit_range_are_inverse():
    pictures = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(to_bytes(to_unit(pictures)), pictures)


def test_encode_and_decode_are_inverse(pictures):
    avatar = tiny_avatar()
    buffers, target = pictures[0]
    base = avatar.base(avatar.texture_picture(buffers), buffers.mask)
    again = avatar.decode(avatar.encode(to_unit(target.rgb), base), base)
    assert torch.equal(to_bytes(again), target.rgb)


def test_a_picture_does_not_depend_on_its_neighbours_nor_on_the_size_of_a_batch(pictures):
    avatar, rendered = stirred(tiny_avatar()), {}
    for batch in (1, 4):
        together = list(render_views(avatar, pictures, steps=4, eta=1.0, seed=0, batch=batch))
        for index in (0, 4, 8):
            (alone,) = render_views(avatar, Pictures([pictures.views[index]]), steps=4, eta=1.0, seed=0, batch=batch)
            assert torch.equal(alone, together[index])
        assert len(together) == 9
        assert not torch.equal(together[0], together[8])
        rendered[batch] = torch.stack(together).int()
    assert (rendered[1] - rendered[4]).abs().max() <= 1  # convolutions of another size round in another way
    assert (rendered[1] != rendered[4]).float().mean() < 1e-3


def test_a_batch_is_the_same_as_its_pictures(pictures):
    avatar = stirred(tiny_avatar())
    noise = shared_noise(avatar.latent_shape(16, 16), 4, 0)
    parts = [pictures[index][0] for index in range(4)]
    alone = torch.cat([avatar.render(part, noise, 4, 1.0) for part in parts])
    torch.testing.assert_close(avatar.render(stack(parts), noise, 4, 1.0), alone, atol=1e-4, rtol=0)


def test_all_inputs_matter(pictures):
    avatar = stirred(tiny_avatar())
    buffers, _ = pictures[4]
    noise = torch.zeros(1, *avatar.latent_shape(16, 16))
    picture = avatar.render(buffers, noise, 1, 0.0)
    for name in ("depth", "normals", "x_can", "z_exp", "eyes"):
        values = vars(buffers) | {name: getattr(buffers, name) * 0.5}
        assert not torch.equal(picture, avatar.render(Buffers(**values), noise, 1, 0.0)), name


def test_an_avatar_survives_its_file(tmp_path, pictures):
    avatar = stirred(tiny_avatar())
    avatar.describe_data(*pictures.statistics())
    write_avatar(tmp_path / "avatar.safetensors", avatar, trained_tensors(avatar), steps=7)
    again = read_avatar(tmp_path / "avatar.safetensors")
    for name, tensor in trained_tensors(avatar).items():
        assert torch.equal(dict(again.named_parameters(), **dict(again.named_buffers()))[name], tensor), name


def test_a_file_that_is_no_avatar_is_named(tmp_path):
    path = tmp_path / "avatar.safetensors"
    path.write_bytes(b"no avatar")
    with pytest.raises(DataError, match=r"avatar\.safetensors"):
        read_avatar(path)


def test_a_missing_pretrained_model_is_named(tmp_path):
    architecture = Architecture(backbone="pretrained", base="none", predicts="v", pretrained=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        make_backbone(architecture, 73, None)


def test_latent_autoencoder_at_tiny_size():
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
    )
    autoencoder = LatentAutoencoder(vae)
    latents = autoencoder.encode(torch.randn(2, 3, 16, 16))
    assert latents.shape == (2, autoencoder.channels, 16 // autoencoder.factor, 16 // autoencoder.factor)
    assert autoencoder.decode(latents).shape == (2, 3, 16, 16)
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())


@pytest.mark.parametrize(
    "wrong", [{"channels": [10, 16]}, {"attention_levels": 3, "channels": [16, 16]}, {"backbone": "gan"}, {"depth": 1}]
)
def test_an_impossible_architecture_is_refused(wrong):
    with pytest.raises(ValidationError):
        Architecture(**wrong)


def test_networks_that_predict_the_picture_err_alike_in_one_step_and_many(pictures):
    """A network that does not look at the noise says the same picture at every level, and so every number of steps."""
    avatar = tiny_avatar()
    with torch.no_grad():
        for network in (avatar.unet, avatar.controlnet):
            network.time_embedding.linear_2.weight.zero_()  # nor at the level; conv_in starts blind to the noise
    buffers, _ = pictures[4]
    one, many = (avatar.render(buffers, shared_noise((12, 8, 8), steps, 0), steps, 0.0) for steps in (1, 20))
    torch.testing.assert_close(many, one, atol=1e-4, rtol=0)


def test_sides_that_cannot_be_folded_are_refused():
    with pytest.raises(DataError, match="multiples of 2"):
        tiny_avatar().latent_shape(16, 15)


def test_a_gpu_looks_up_what_a_cpu_does(pictures):
    """Everywhere and then masked, or masked at once: `everywhere` takes the first way on a GPU."""
    buffers, planes, units = pictures[4][0], FeaturePlanes(8, 2), Units()
    points = units.points(buffers.x_can)
    whole = planes(points.flatten(0, 2)).unflatten(0, buffers.mask.shape)
    assert torch.equal(planes.everywhere(points, buffers.mask)[buffers.mask], whole[buffers.mask])


def test_pixels_beyond_the_end_of_the_cameras_picture_are_not_trusted():
    mask = torch.ones(1, 40, 40, dtype=torch.bool)
    alpha = torch.full((1, 40, 40), 255, dtype=torch.uint8)
    alpha[:, :, :5] = 0  # the camera's picture begins at column 5
    target = Target.from_pictures(torch.zeros(1, 40, 40, 3, dtype=torch.uint8), alpha, mask)
    assert not target.trusted[:, :, :5].any()
    assert target.trusted[:, :, 12:].all()
    mask[:, :, :5] = False  # the same picture with a mesh that ends there is a silhouette
    assert Target.from_pictures(target.rgb, alpha, mask).trusted.all()


@given(top=st.integers(0, 20), left=st.integers(0, 20), height=st.integers(1, 20), width=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_a_crop_read_from_the_file_is_the_crop_of_the_whole_picture(large_pictures, top, left, height, width):
    whole = [crop(part, top, left, height, width) for part in large_pictures[0]]
    large_pictures.fit_in_memory = False
    parts = large_pictures.cropped(0, top, left, height, width)
    for part, expected in zip(parts, whole, strict=True):
        for name, values in vars(expected).items():
            torch.testing.assert_close(getattr(part, name), values, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(scope="module")
def large_pictures(tmp_path_factory):
    """One view of 40x40 whose mesh and alpha disagree here and there."""
    folder, noise = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    record = {"subject": "s", "sequence": "S", "start": 0, "stop": 1, "cameras": ["a"]}
    patches = noise.random((2, 5, 5)) < 0.8
    mask, alpha = (np.kron(patch, np.ones((8, 8)))[None, None].astype(np.uint8) * 255 for patch in patches)
    axes = ("time", "camera", "row", "column", "channel")
    geometry = {
        "depth": np.where(mask, 0.1 + noise.random(mask.shape, np.float32), 0)[0],
        "normals": noise.random((*mask.shape, 3))[0],
        "x_can": noise.random((*mask.shape, 5), np.float32)[0],
    }
    write_buffers(folder / "buffers.zarr.zip", [geometry], mask.shape, record)
    targets = {"rgb": noise.integers(0, 256, (*mask.shape, 3), np.uint8), "alpha": alpha}
    arrays = {name: Array(values, axes[: values.ndim], "", "") for name, values in targets.items()}
    write_chunk(folder / "targets.zarr.zip", arrays, record)
    write_chunk(folder / "t.zarr.zip", {"z_exp": Array(np.zeros((1, 4), np.float32), ("time", "code"), "", "")}, record)
    with open_reels([folder / "buffers.zarr.zip"]) as buffers, open_reels([folder / "targets.zarr.zip"]) as targets:
        pictures = Pictures(sequence_views(buffers["S"], targets["S"], folder / "t.zarr.zip", [0]))
        assert 0.05 < pictures[0][1].trusted.float().mean() < 0.95
        yield pictures


def test_views_that_do_not_fit_together_are_refused(tmp_path):
    spin, other = write_scene(tmp_path / "a"), write_scene(tmp_path / "b", steps=2)
    with open_reels(spin["buffers"]) as buffers, open_reels(other["targets"]) as targets:
        assert list(camera_places(buffers["SPIN"])) == CAMERAS
        with pytest.raises(DataError, match="2 steps"):
            sequence_views(buffers["SPIN"], targets["SPIN"], spin["tracks"][0], [0])
        with pytest.raises(DataError, match="2 codes"):
            sequence_views(buffers["SPIN"], None, other["tracks"][0], [0])


def test_roughness_is_the_mean_square_between_neighbours():
    planes = FeaturePlanes(size=5, features=3)
    values = planes.values.detach().numpy()
    total = sum((values[..., 1:, :] - values[..., :-1, :]).ravel() ** 2) + sum(
        (values[..., 1:] - values[..., :-1]).ravel() ** 2
    )
    assert planes.roughness().item() == pytest.approx(total / values.size, rel=1e-4)
    with torch.no_grad():
        planes.values.copy_(torch.randn(4, 3, 1, 1).expand_as(planes.values))
    assert planes.roughness() == 0
    assert FeaturePlanes(size=5, features=3, kind="none").roughness() == 0
