"""The head prior: folded and grouped evaluation against a plain one, symmetry, derivatives, files, training."""

import json
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import igl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipeline.errors import DataError
from pipeline.head.model.network import activate, member_types
from pipeline.head.model.prior import CHUNK, HeadPrior, load_prior, save_prior
from pipeline.head.train.bank import make_bank
from pipeline.head.train.heads import ExpressionSampler, choose_anchors, draw_identity
from pipeline.head.train.ict import load_face_model, rim_edges
from pipeline.head.train.samples import HeadSampler
from pipeline.head.train.trainer import new_prior
from pipeline.settings.prior import PriorSettings
from pipeline.settings.prior_config import PriorConfig
from pipeline.store.tensors import open_tensors
from tests import in_process
from tests.tiny_face import write_tiny_face

SIZES = {
    "anchors": 9,
    "pairs": 3,
    "glob": 6,
    "loc": 4,
    "exp": 5,
    "neighbours": 4,
    "blend_std": 3.0,
    "global_distance": 0.2,
    "local_width": 12,
    "local_layers": 3,
    "anchor_width": 8,
    "compressed": 4,
    "warp_width": 16,
    "warp_layers": 5,
    "activation": "softplus",
    "identity_modes": 7,
    "expression_modes": 5,
    "box_min": (-1, -1, -1),
    "box_max": (1, 1, 1),
}
TINY_TRAINING = {
    "model": {"pairs": 3, "mid": 2, "glob": 6, "loc": 3, "neighbours": 3, "local_width": 16, "warp_width": 24},
    "heads": 6,
    "points": 64,
    "steps": 60,
    "batch_heads": 4,
    "batch_points": 32,
    "checkpoint_steps": 5,
}


def random_prior(seed: int = 0, **changes) -> HeadPrior:
    """An untrained prior with spread anchors and codes that matter."""
    torch.manual_seed(seed)
    prior = HeadPrior(PriorConfig(**{**SIZES, **changes}))
    with torch.no_grad():
        prior.anchor_net.mean.normal_(std=0.4)
        for statistics in (prior.identity, prior.expression):
            statistics.mean.normal_()
            statistics.basis.normal_()
    return prior.requires_grad_(False)


def plain_sdf(prior: HeadPrior, x_can: torch.Tensor, z_id: torch.Tensor) -> torch.Tensor:
    """Signed distances (P,) at x_can (P, 5) of z_id (D,): all members at all points, nothing folded."""
    c = prior.config
    anchors = prior.anchors(z_id)
    glob, loc = z_id[: c.glob], z_id[c.glob :].reshape(c.members, c.loc)
    types, sign = member_types(c)
    distance = (x_can[:, None, :3] - anchors).norm(dim=-1)  # (P, A)
    ordered = distance.sort(dim=-1).values
    sigma = ordered[:, min(c.neighbours, 8) - 1] / c.blend_std
    total, weights = torch.zeros(len(x_can), dtype=x_can.dtype), torch.zeros(len(x_can), dtype=x_can.dtype)
    for member in range(c.members):
        local = x_can.clone()
        if member < c.anchors:
            local[:, :3] -= anchors[member]
            local[:, 0] *= sign[member]
            asked = distance[:, member] <= ordered[:, c.neighbours - 1]
            weight = torch.exp(-0.5 * (distance[:, member] / sigma) ** 2) * asked
        else:
            weight = torch.exp(-0.5 * (c.global_distance / sigma) ** 2)
        hidden = torch.cat([glob.expand(len(local), -1), loc[member].expand(len(local), -1), local], -1)
        for layer, (w, b) in enumerate(zip(prior.ensemble.weights, prior.ensemble.biases, strict=True)):
            hidden = activate(hidden, c.activation) if layer else hidden
            hidden = hidden @ w[types[member]].T + b[types[member]]
        total, weights = total + weight * hidden[:, 0], weights + weight
    return total / (weights + 1e-8)


def plain_warp(prior: HeadPrior, x: torch.Tensor, z_id: torch.Tensor, z_exp: torch.Tensor) -> torch.Tensor:
    """Canonical points (P, 5) of x (P, 3): the network as MonoNPHM writes it, codes repeated at every point."""
    net = prior.deformation
    summary = net.compressor(torch.cat([z_id, prior.anchors(z_id).flatten()]))
    inputs = torch.cat([x, summary.expand(len(x), -1), z_exp.expand(len(x), -1)], -1)
    hidden = inputs
    for i, layer in enumerate(net.layers):
        hidden = torch.cat([hidden, inputs], -1) / np.sqrt(2) if i == net.skip else hidden
        hidden = activate(layer(hidden), prior.config.activation)
    out = net.last(hidden)
    return torch.cat([x + out[:, :3], out[:, 3:]], -1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), neighbours=st.integers(1, 9), activation=st.sampled_from(["softplus", "relu"]))
def test_grouped_and_folded_is_the_plain_network(seed: int, neighbours: int, activation: str) -> None:
    prior = random_prior(seed, neighbours=neighbours, activation=activation).double()
    z_id, z_exp = prior.z_id_from(torch.randn(3, 7).double()), prior.z_exp_from(torch.randn(3, 5).double())
    x = torch.randn(3, 50, 3).double() * 0.5
    x_can = prior.warp(x, z_id, z_exp)
    assert torch.allclose(
        x_can, torch.stack([plain_warp(prior, *row) for row in zip(x, z_id, z_exp, strict=True)]), atol=1e-9
    )
    expected = torch.stack([plain_sdf(prior, *row) for row in zip(x_can, z_id, strict=True)])
    assert torch.allclose(prior.sdf(x_can, z_id), expected, atol=1e-9)


def test_the_field_of_one_head_is_what_its_parts_give() -> None:
    prior = random_prior(4).double()
    z_id, z_exp = prior.z_id_from(torch.randn(7).double()), prior.z_exp_from(torch.randn(5).double())
    points = torch.randn(60, 3).double()
    expected = prior.sdf(prior.warp(points, z_id, z_exp), z_id)
    assert torch.allclose(prior.field(z_id, z_exp)(points), expected, atol=1e-12)


def test_all_members_asked_give_what_the_nearest_give() -> None:
    """How a GPU asks about few points."""
    prior = random_prior(3).double()
    ensemble, z_id = prior.ensemble, prior.z_id_from(torch.randn(2, 7).double())
    x_can, anchors, folded = torch.randn(2, 40, 5).double(), prior.anchors(z_id), ensemble.fold(z_id)
    near, nearest = ensemble._neighbours(x_can[..., :3], anchors)
    expected = ensemble.of_nearest(x_can, folded, near, nearest)
    assert torch.allclose(ensemble.of_all(x_can, anchors, folded, nearest), expected, atol=1e-12)


def test_single_precision_stays_within_1e5() -> None:
    prior = random_prior(1)
    z_id, z_exp = prior.z_id_from(torch.randn(7)), prior.z_exp_from(torch.randn(5))
    x = torch.randn(500, 3) * 0.5
    x_can = prior.warp(x, z_id, z_exp)
    assert (x_can - plain_warp(prior, x, z_id, z_exp)).abs().max() < 1e-5
    assert (prior.sdf(x_can, z_id) - plain_sdf(prior, x_can, z_id)).abs().max() < 1e-5


def test_leading_dimensions_broadcast() -> None:
    prior = random_prior(2)
    z_id, z_exp = prior.z_id_from(torch.randn(7)), prior.z_exp_from(torch.randn(4, 5))
    x = torch.randn(20, 3)
    frames = prior.warp(x, z_id, z_exp)  # one identity and point set, four frames
    assert frames.shape == (4, 20, 5)
    one_by_one = torch.stack([prior.warp(x, z_id, code) for code in z_exp])
    assert torch.allclose(frames, one_by_one, atol=1e-6)
    together = prior.sdf(frames, z_id)
    assert torch.allclose(together, prior.sdf(frames, z_id.expand(4, -1)), atol=1e-6)
    both = prior.sdf(frames[0], torch.stack([z_id, z_id + 1]))  # one point set, two identities
    assert both.shape == (2, 20)
    assert torch.allclose(both[0], together[0], atol=1e-6)
    assert prior.anchors(z_id.expand(2, 3, -1)).shape == (2, 3, 9, 3)


def test_chunks_change_nothing() -> None:
    prior = random_prior(3)
    z_id, z_exp = prior.z_id_from(torch.randn(7)), prior.z_exp_from(torch.randn(5))
    x = torch.randn(CHUNK + 100, 3)
    with torch.no_grad():
        parts = prior.sdf(prior.warp(x, z_id, z_exp), z_id)
    with torch.enable_grad():
        whole = prior.sdf(prior.warp(x, z_id, z_exp), z_id)
    assert torch.allclose(parts, whole, atol=1e-6)


def test_mirrored_codes_give_the_mirrored_head() -> None:
    prior = random_prior(4).double()
    c = prior.config
    with torch.no_grad():  # symmetric anchors that do not move, and no global member, which has no mirror
        prior.anchor_net.layers[-1].weight.zero_()
        prior.anchor_net.layers[-1].bias.zero_()
        prior.anchor_net.mean[1 : 2 * c.pairs : 2] = prior.anchor_net.mean[0 : 2 * c.pairs : 2] * torch.tensor(
            [-1, 1, 1]
        )
        prior.anchor_net.mean[2 * c.pairs :, 0] = 0
        for kind in range(c.pairs, c.types):  # members on the middle line are symmetric where x has no weight
            prior.ensemble.weights[0][kind, :, c.glob + c.loc] = 0
    z_id = prior.z_id_from(torch.randn(7).double())
    mirrored = z_id.clone()
    loc = mirrored[c.glob :].view(c.members, c.loc)
    loc[: 2 * c.pairs] = loc[: 2 * c.pairs].view(c.pairs, 2, c.loc).flip(1).reshape(-1, c.loc)
    x = torch.randn(100, 5).double()
    flip = torch.tensor([-1, 1, 1, 1, 1])
    assert torch.allclose(prior.sdf(x * flip, mirrored), prior.sdf(x, z_id), atol=1e-9)


def test_derivatives_match_finite_differences() -> None:
    prior = random_prior(5).double()
    z_id, z_exp = prior.z_id_from(torch.randn(7).double()), prior.z_exp_from(torch.randn(5).double())
    x = torch.randn(5, 3).double() * 0.4

    def field(x: torch.Tensor, z_id: torch.Tensor, z_exp: torch.Tensor) -> torch.Tensor:
        return prior.sdf(prior.warp(x, z_id, z_exp), z_id)

    inputs = tuple(value.clone().requires_grad_(True) for value in (x, z_id, z_exp))
    assert torch.autograd.gradcheck(field, inputs, eps=1e-7, atol=1e-4, nondet_tol=0)


def test_saved_is_loaded(tmp_path: Path) -> None:
    prior, path = random_prior(6), tmp_path / "prior.safetensors"
    save_prior(prior, path)
    (path.parent / "any").touch()
    assert path.stat().st_mode == (path.parent / "any").stat().st_mode  # others may read it where they may read files
    back = load_prior(path)
    assert back.config == prior.config
    assert not any(p.requires_grad for p in back.parameters())
    z_id, x = prior.z_id_from(torch.randn(7)), torch.randn(10, 5)
    assert torch.equal(back.sdf(x, z_id), prior.sdf(x, z_id))


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    with pytest.raises(DataError, match=r"prior\.safetensors: no head prior there.*pipeline\.stages\.prior"):
        load_prior(path)
    path.write_bytes(b"not a tensor file")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_prior(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="no 'config'"):
        load_prior(path)
    prior = random_prior(7)
    save_prior(prior, path)
    config, state = prior.config.model_dump_json(), load_file(path)
    save_file({**state, "neutral": torch.zeros(4)}, path, metadata={"config": config})
    with pytest.raises(DataError, match=r"'neutral': expected \(5,\), found \(4,\)"):
        load_prior(path)
    save_file(state, path, metadata={"config": config.replace('"pairs":3', '"pairs":8')})
    with pytest.raises(DataError, match="8 pairs need 16 anchors"):
        load_prior(path)


def test_the_release_is_another_config() -> None:
    release = PriorConfig(
        **{
            **SIZES,
            "anchors": 65,
            "pairs": 30,
            "glob": 64,
            "loc": 32,
            "exp": 100,
            "neighbours": 8,
            "blend_std": 3.75,
            "global_distance": 0.75,
            "local_width": 200,
            "local_layers": 4,
            "anchor_width": 64,
            "compressed": 16,
            "warp_width": 400,
            "warp_layers": 6,
        }
    )
    assert (release.z_id, release.members, release.types) == (2176, 66, 36)
    prior = HeadPrior(release)
    assert sum(p.numel() for p in prior.ensemble.parameters()) == 36 * 141_201
    assert sum(p.numel() for p in prior.deformation.parameters()) == 899_605 + 37_952
    assert sum(p.numel() for p in prior.anchor_net.parameters()) == 20_995


@pytest.fixture(scope="module")
def face_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.npz"
    write_tiny_face(path)
    return path


def test_the_surface_is_closed_where_a_scan_sees_it(face_file: Path) -> None:
    model = load_face_model(face_file)
    for mouth in (model.lips, model.pocket):
        assert len(rim_edges(np.concatenate([model.skin, model.collar, model.lids, mouth]))) == 0


def test_what_lies_under_the_lids_is_no_surface(face_file: Path) -> None:
    model = load_face_model(face_file)
    sampler, rest = HeadSampler(model), np.zeros(len(model.expression_names))
    neutral = sampler.vertices(np.zeros(len(model.identity_modes) + 12), rest)
    on_eyeballs = neutral[model.eyeballs].mean(1)
    with_lids, triangles = model.with_collar(neutral), np.ascontiguousarray(sampler.open_mouth, np.int64)
    depth = np.sqrt(igl.point_mesh_squared_distance(on_eyeballs, with_lids, triangles)[0])
    covered = igl.fast_winding_number(with_lids, triangles, on_eyeballs) > 0.5
    found = sampler.signed_distance(neutral, neutral, on_eyeballs)
    assert covered.sum() > 20
    assert (~covered).sum() > 20
    assert (found[covered] <= 1e-6 - depth[covered]).all()
    assert np.allclose(found[~covered], 0, atol=1e-6)


def test_an_open_mouth_is_hollow_and_a_closed_one_is_not(face_file: Path) -> None:
    model = load_face_model(face_file)
    sampler, rest = HeadSampler(model), np.zeros(len(model.expression_names))
    identity = np.zeros(len(model.identity_modes) + 12)
    neutral = sampler.vertices(identity, rest)
    jaw = np.eye(len(rest))[model.expression_names.index("jawOpen")]
    behind = neutral[model.lip_pairs].mean((0, 1)) - [0, 0, 0.5]
    opened = sampler.vertices(identity, jaw)
    assert sampler.signed_distance(neutral, neutral, behind[None])[0] < 0
    assert sampler.signed_distance(opened, neutral, opened[model.lip_pairs].mean((0, 1))[None] - [0, 0, 0.5])[0] > 0
    deep = opened[model.lip_pairs].mean((0, 1)) - [0, 0, 2.5]
    assert sampler.signed_distance(opened, neutral, deep[None])[0] < 0


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_samples_are_distances_and_places(face_file: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = load_face_model(face_file)
    sampler, expressions = HeadSampler(model), ExpressionSampler(model.expression_names)
    w, expression = draw_identity(model, rng), expressions.draw(rng)
    assert ((expression >= 0) & (expression <= 1)).all()
    drawn = sampler.draw(w, expression, 300, rng)
    neutral = sampler.vertices(w, np.zeros_like(expression))
    again = sampler.draw(w, np.zeros_like(expression), 300, rng)
    assert again.known.all()
    assert np.array_equal(again.x, again.x_can)
    cm = drawn.x_can[drawn.known].astype(float) / 0.04 + [0, -0.5, 3.5]
    at_rest = sampler.signed_distance(neutral, neutral, cm) * 0.04  # a point keeps its distance while it is followed
    assert np.median(np.abs(at_rest - drawn.sdf[drawn.known])) < 0.01
    assert (drawn.sdf < 0).any()
    assert (drawn.sdf > 0).any()


def test_anchors_are_mirrored_pairs(face_file: Path) -> None:
    model = load_face_model(face_file)
    places = model.neutral[choose_anchors(model, 4, 3)]
    assert np.allclose(places[:8:2] * [-1, 1, 1], places[1:8:2], atol=1e-3)
    assert np.allclose(places[8:, 0], 0, atol=1e-3)
    assert len(np.unique(places, axis=0)) == 11
    left = model.neutral[np.unique(model.skin)]
    left = left[left[:, 0] > 1]
    for place, fine in zip(places[:4:2], (model.ear_middle, model.eye_middle), strict=True):
        assert np.linalg.norm(place - fine) <= np.linalg.norm(left - fine, axis=1).min() + 1e-6


def test_a_wrong_face_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no ICT-FaceKit model there"):
        load_face_model(tmp_path / "face.npz")
    np.savez(tmp_path / "face.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"face\.npz: not an ICT-FaceKit model: no faces"):
        load_face_model(tmp_path / "face.npz")


def test_codes_start_as_summaries_of_the_known_weights(face_file: Path, tmp_path: Path) -> None:
    model, chosen = load_face_model(face_file), PriorSettings.model_validate(TINY_TRAINING)
    prior, anchors = new_prior(model, chosen.model, 0)
    bank = make_bank(model, anchors, chosen, tmp_path)
    assert bank.x.shape == (6, 64, 3)
    assert torch.equal(prior.z_id_from(torch.zeros(prior.config.identity_modes)), torch.zeros(prior.config.z_id))
    assert (prior.anchors(prior.z_id_from(bank.w)) - bank.anchors).abs().max() < 0.4
    stored = make_bank(model, anchors, chosen, tmp_path)  # from the file this time
    assert torch.equal(bank.sdf, stored.sdf)


def command(face: Path, folder: Path, **changes) -> list[str]:
    sizes = json.dumps({**TINY_TRAINING, **changes})
    paths = ["--ict", str(face), "--state", str(folder / "state"), "--output", str(folder / "prior.safetensors")]
    return ["stages.prior", "--settings", sizes, *paths]


def test_training_resumes_after_a_kill(face_file: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def start(folder: Path) -> BaseProcess:
        return in_process.fork(tmp_path / "said.log", *command(face_file, folder))

    def run(folder: Path) -> None:
        process = start(folder)
        process.join()
        assert process.exitcode == 0, (tmp_path / "said.log").read_text()

    run(whole)
    process = start(broken)
    saved = "state/*/state.safetensors"
    until = time.monotonic() + 60
    while not list(broken.glob(saved)) and time.monotonic() < until:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not (broken / "prior.safetensors").exists()
    (state,) = broken.glob(saved)
    with open_tensors(state) as (_, described):
        assert 0 < described["step"] < TINY_TRAINING["steps"]
    run(broken)
    one, other = load_file(whole / "prior.safetensors"), load_file(broken / "prior.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(broken.rglob("*.partial.*"))
    assert not list(broken.glob(saved))  # published, so nothing is left over to be continued


def test_the_stage_names_a_missing_face_model(tmp_path: Path) -> None:
    done = in_process.run(*command(tmp_path / "none.npz", tmp_path))
    assert done.returncode == 1
    assert "none.npz: no ICT-FaceKit model there" in done.stderr
    assert not (tmp_path / "prior.safetensors").exists()


def test_shipped_weights_are_heads() -> None:
    prior = load_prior(Path("pipeline/head/weights/head_prior.safetensors"))
    z_id = prior.z_id_from(torch.zeros(prior.config.identity_modes))
    points = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.1, 0.7], [0.9, 0.2, 0.0], [0.0, 1.2, 0.0], [0.0, -0.2, 0.1]])
    with torch.no_grad():
        inside = prior.sdf(prior.warp(points, z_id, prior.neutral), z_id) < 0
    assert inside.tolist() == [True, False, False, False, True]
