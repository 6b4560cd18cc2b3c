"""MonoNPHM's checkpoints: a synthetic one converted, against a plain reading of the paper's formulas; bad files."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.errors import DataError
from pipeline.head.convert import code_statistics, convert
from pipeline.head.model.prior import HeadPrior, load_prior
from tests import in_process

SMALL = {"nloc": 13, "nsymm_pairs": 5, "nneigh": 8, "blend_std": 3.75, "lat_dim_glob": 6, "lat_dim_loc_geo": 4}
WARP = {"lat_dim_ex": 7, "lat_dim_id": 3, "hidden_dim": 16, "nlayers": 6, "nhyper": 2, "mode": "compress"}


def configs(width: int = 12, **changes: Any) -> dict[str, Any]:
    """A configs.yaml of the release's form, as values."""
    ex, identity = dict(WARP), {**SMALL, "gnn": {"hidden_dim_geo": width, "nlayers_geo": 3, "hidden_dim_app": 9}}
    for name, value in changes.items():
        (ex if name in ex else identity)[name] = value
    return {"decoder": {"decoder_nloc": 48, "ex": ex, "id": identity}, "training": {"lr": 5e-4}}


def checkpoint(config: dict[str, Any], positions: int = 10) -> dict[str, Any]:
    """Random weights under the release's names, with the parts that a head prior does not need."""
    generator = torch.Generator().manual_seed(0)
    ex, identity = config["decoder"]["ex"], config["decoder"]["id"]
    glob, loc, count = identity["lat_dim_glob"], identity["lat_dim_loc_geo"], identity["nloc"]
    z_id = glob + (count + 1) * loc

    def linear(name: str, inputs: int, outputs: int, size: float = 1.5) -> dict[str, torch.Tensor]:
        weight = torch.randn(outputs, inputs, generator=generator) * size / inputs**0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.randn(outputs, generator=generator) * 0.3}

    widths = (
        [glob + loc + 3 + ex["nhyper"]] + [identity["gnn"]["hidden_dim_geo"]] * identity["gnn"]["nlayers_geo"] + [1]
    )
    id_decoder: dict[str, torch.Tensor] = {"communcation_bottleneck1.weight": torch.zeros(16, 12)}  # of the colours
    for kind in range(count - identity["nsymm_pairs"] + 1):
        for layer, sizes in enumerate(pairwise(widths)):
            id_decoder |= linear(f"deepSDFensemble.layers.{kind}.layers.{2 * layer}", *sizes)
    for index, sizes in {0: (glob, positions), 2: (positions, positions), 4: (positions, 3 * count)}.items():
        id_decoder |= linear(f"mlp_pos.{index}", *sizes, size=0.3)
    ex_decoder = linear("compressor.0", z_id + 3 * count, ex["lat_dim_id"])
    inputs, width, depth = 3 + ex["lat_dim_id"] + ex["lat_dim_ex"], ex["hidden_dim"], ex["nlayers"]
    for layer in range(depth + 1):
        into = inputs if layer == 0 else width + inputs * (layer == depth // 2)
        out = 3 + ex["nhyper"] if layer == depth else width
        ex_decoder |= linear(f"defDeepSDF.lin{layer}", into, out, 0.3 if layer == depth else 1.5)
    codes = {"geo": torch.randn(9, z_id, generator=generator) / 20, "exp": torch.randn(30, 7, generator=generator) / 5}
    return {
        "epoch": 2500,
        "id_decoder": id_decoder,
        "ex_decoder": {f"module.{name}": value for name, value in ex_decoder.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "latent_codes": {f"codebook.{name}.embedding.weight": value for name, value in codes.items()},
    }


def write(folder: Path, config: dict[str, Any], stored: Any) -> tuple[Path, Path, Path]:
    """The release's three files."""
    torch.save(stored, folder / "checkpoint.tar")
    (folder / "configs.yaml").write_text(yaml.safe_dump(config))
    anchors = np.random.default_rng(0).normal(0, 0.3, (config["decoder"]["id"]["nloc"], 3))
    np.save(folder / "anchors.npy", anchors)
    return folder / "checkpoint.tar", folder / "configs.yaml", folder / "anchors.npy"


def converted(folder: Path, config: dict[str, Any], stored: Any) -> HeadPrior:
    """The prior of such a checkpoint."""
    return convert(*write(folder, config, stored), 64, 64)


def softplus(x: np.ndarray) -> np.ndarray:
    """ln(1 + exp(100 x)) / 100."""
    return np.logaddexp(0, 100 * x) / 100


def by_the_paper(
    stored: dict[str, Any], config: dict[str, Any], mean: np.ndarray, x: np.ndarray, geo: np.ndarray, exp: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """SDF, canonical coordinates (5,) and anchors (A, 3) of one point x (3,): member by member, straight from a
    checkpoint, in float64."""
    ex, identity = config["decoder"]["ex"], config["decoder"]["id"]
    glob, loc, count = identity["lat_dim_glob"], identity["lat_dim_loc_geo"], identity["nloc"]

    def apply(part: str, name: str, value: np.ndarray) -> np.ndarray:
        prefix = "module." if part == "ex_decoder" else ""
        weight, bias = (stored[part][f"{prefix}{name}.{kind}"].double().numpy() for kind in ("weight", "bias"))
        return weight @ value + bias

    hidden = np.maximum(apply("id_decoder", "mlp_pos.0", geo[:glob]), 0)
    hidden = np.maximum(apply("id_decoder", "mlp_pos.2", hidden), 0)
    anchors = mean + apply("id_decoder", "mlp_pos.4", hidden).reshape(count, 3)

    summary = apply("ex_decoder", "compressor.0", np.concatenate([geo, anchors.ravel()]))
    given = np.concatenate([x, summary, exp])
    hidden = given
    for layer in range(ex["nlayers"]):
        if layer == ex["nlayers"] // 2:
            hidden = np.concatenate([hidden, given]) / np.sqrt(2)
        hidden = softplus(apply("ex_decoder", f"defDeepSDF.lin{layer}", hidden))
    moved = apply("ex_decoder", f"defDeepSDF.lin{ex['nlayers']}", hidden)
    x_can, hyper = x + moved[:3], moved[3:]

    distance = np.linalg.norm(x_can - anchors, axis=1)
    nearest = np.argsort(distance)[: identity["nneigh"]]
    sigma = distance[nearest[:8]].max() / identity["blend_std"]
    total, weights = 0.0, 0.0
    for member in [*nearest, count]:  # the last one is the global member
        local = x_can - (anchors[member] if member < count else 0)
        pairs = identity["nsymm_pairs"]
        kind = member // 2 if member < 2 * pairs else member - pairs
        if member < 2 * pairs and member % 2:
            local = local * [-1, 1, 1]
        hidden = np.concatenate([geo[:glob], geo[glob + member * loc : glob + (member + 1) * loc], local, hyper])
        for layer in range(identity["gnn"]["nlayers_geo"] + 1):
            hidden = softplus(hidden) if layer else hidden
            hidden = apply("id_decoder", f"deepSDFensemble.layers.{kind}.layers.{2 * layer}", hidden)
        weight = np.exp(-0.5 * ((distance[member] if member < count else 0.75) / sigma) ** 2)
        total, weights = total + weight * hidden[0], weights + weight
    return total / (weights + 1e-8), np.concatenate([x_can, hyper]), anchors


@pytest.mark.parametrize(
    "changes",
    [{}, {"nneigh": 12}, {"nloc": 9, "nsymm_pairs": 3, "lat_dim_ex": 7, "blend_std": 4.0, "hidden_dim": 20}],
    ids=["8 neighbours", "12 neighbours", "other sizes"],
)
def test_converted_is_the_papers_formula(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = configs(**changes)
    stored = checkpoint(config)
    prior = converted(tmp_path, config, stored).double()
    rng, mean = np.random.default_rng(1), np.load(tmp_path / "anchors.npy").astype(np.float32).astype(float)
    geo, exp = rng.normal(0, 0.5, prior.config.z_id), rng.normal(0, 0.5, prior.config.z_exp)
    points = rng.uniform(-0.6, 0.6, (20, 3))
    z_id, z_exp = torch.from_numpy(geo), torch.from_numpy(exp)
    with torch.no_grad():
        x_can = prior.warp(torch.from_numpy(points), z_id, z_exp)
        sdf = prior.sdf(x_can, z_id)
    for point, mine, place in zip(points, sdf, x_can, strict=True):
        value, canonical, anchors = by_the_paper(stored, config, mean, point, geo, exp)
        assert mine.item() == pytest.approx(value, abs=1e-9)
        np.testing.assert_allclose(place, canonical, atol=1e-9)
    np.testing.assert_allclose(prior.anchors(z_id).detach(), anchors, atol=1e-9)


def test_statistics_reproduce_the_codes(tmp_path: Path) -> None:
    config = configs()
    stored = checkpoint(config)
    long = stored["latent_codes"]["codebook.geo.embedding.weight"]
    long[4] *= 3 / long[4].norm()  # the release shortens it to 1 whenever it is used
    prior = converted(tmp_path, config, stored)
    assert (prior.config.identity_modes, prior.config.expression_modes) == (8, 7)  # 9 codes; codes of width 7
    codes = long / long.norm(dim=1, keepdim=True).clamp(min=1)
    assert torch.allclose(prior.identity.mean, codes.mean(0), atol=1e-6)
    w = (codes - prior.identity.mean) @ torch.linalg.pinv(prior.identity.basis).T
    assert torch.allclose(prior.z_id_from(w), codes, atol=1e-5)
    assert torch.allclose(w.T @ w / 8, torch.eye(8), atol=1e-4)  # standard normal under the codes
    assert code_statistics(codes, 3)[1].shape == (prior.config.z_id, 3)
    assert torch.equal(prior.neutral, torch.zeros(7))


def run(files: tuple[Path, Path, Path], output: Path, *more: str) -> subprocess.CompletedProcess:
    """The command as a user runs it."""
    return in_process.run("head.convert", *files[:2], output, *more)


def test_the_command_writes_a_prior(tmp_path: Path) -> None:
    config = configs()
    files, output = write(tmp_path, config, checkpoint(config)), tmp_path / "prior.safetensors"
    done = run(files, output)
    assert done.returncode == 1
    assert "checkpoint.tar: holds no mean anchors; expected --anchors with anchors_13.npy" in done.stderr
    assert not output.exists()
    done = run(files, output, "--anchors", str(files[2]), "--identity-modes", "5")
    assert done.returncode == 0, done.stderr
    assert "prior.safetensors: without landmarks and eyeballs: " in done.stderr  # random weights make no head
    prior = load_prior(output)
    assert prior.config.landmarks == 0
    assert (prior.config.identity_modes, prior.config.neighbours, prior.config.anchor_width) == (5, 8, 10)
    assert np.allclose(prior.anchor_net.mean, np.load(files[2]))


def test_anchors_may_lie_in_the_checkpoint(tmp_path: Path) -> None:
    config = configs()
    stored = checkpoint(config)
    stored["id_decoder"]["anchors"] = torch.arange(39.0).reshape(1, 13, 3)
    files = write(tmp_path, config, stored)
    assert torch.equal(convert(*files[:2], None, 4, 4).anchor_net.mean, torch.arange(39.0).reshape(13, 3))
    np.save(files[2], np.zeros((12, 3)))
    with pytest.raises(DataError, match=r"anchors\.npy: anchors: expected \(13, 3\), found \(12, 3\)"):
        convert(*files, 4, 4)
    np.save(files[2], np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"anchors\.npy: not an array of anchors"):
        convert(*files, 4, 4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nneigh", None, r"configs\.yaml: decoder\.id\.nneigh is missing; expected the configs\.yaml beside"),
        ("nneigh", 5, r"decoder\.id\.nneigh is 5; expected 8 or more"),
        ("nsymm_pairs", 9, "9 pairs need 18 anchors, there are 13"),
        ("blend_std", "wide", r"decoder\.id\.blend_std: Input should be a valid number"),
        ("mode", "glob_only", r"decoder\.ex\.mode is 'glob_only'; only 'compress'"),
        ("lat_dim_glob", 5, r"'mlp_pos\.0\.weight': expected \(10, 5\) by the config, found \(10, 6\)"),
        ("nlayers", 7, r"ex_decoder 'compressor|ex_decoder .*lin"),
    ],
)
def test_configs_that_do_not_fit_are_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    stored = checkpoint(configs())
    config = configs(**({} if value is None else {key: value}))
    if key == "lat_dim_glob":  # codes and ensemble of that width, so that only the anchors' network is at odds
        names = {**checkpoint(config)["id_decoder"]}
        kept = {name: tensor for name, tensor in stored["id_decoder"].items() if name.startswith("mlp_pos")}
        stored = {**checkpoint(config), "id_decoder": names | kept}
    if value is None:
        del config["decoder"]["id"][key]
    with pytest.raises(DataError, match=message):
        converted(tmp_path, config, stored)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("id_decoder", None, None, r"checkpoint\.tar: no 'id_decoder'; expected a checkpoint with id_decoder"),
        ("id_decoder", "mlp_pos.2.bias", None, r"id_decoder has no tensor 'mlp_pos\.2\.bias'; expected \(10\)"),
        (
            "id_decoder",
            "deepSDFensemble.layers.3.layers.2.weight",
            torch.zeros(12, 11),
            r"'deepSDFensemble\.layers\.3\.layers\.2\.weight': expected \(12, 12\) by the config, found \(12, 11\)",
        ),
        ("ex_decoder", "module.defDeepSDF.lin3.weight", torch.zeros(16, 16), r"expected \(16, 29\).*found \(16, 16\)"),
        ("latent_codes", "codebook.geo.embedding.weight", None, r"expected \(any, 62\)"),
        ("latent_codes", "codebook.exp.embedding.weight", torch.ones(5, 7), "'exp' holds 5 codes that do not vary"),
        ("latent_codes", "codebook.exp.embedding.weight", torch.full((5, 7), torch.nan), "holds 35 non-finite values"),
        ("id_decoder", "mlp_pos.2.bias", torch.full((10,), torch.inf), r"'mlp_pos\.2\.bias' holds 10 non-finite"),
    ],
)
def test_missing_and_misshapen_tensors_are_named(
    tmp_path: Path, part: str, name: str, value: Any, message: str
) -> None:
    config = configs()
    stored = checkpoint(config)
    if name is None:
        del stored[part]
    elif value is None:
        del stored[part][name]
    else:
        stored[part][name] = value
    with pytest.raises(DataError, match=message):
        converted(tmp_path, config, stored)


@pytest.mark.parametrize("more", [1, 2])
def test_more_pairs_than_the_ensemble_has_are_refused(tmp_path: Path, more: int) -> None:
    """Every tensor that is asked for is there then, but the last members would never be looked at."""
    stored = checkpoint(configs(nsymm_pairs=4))
    with pytest.raises(DataError, match=rf"has 10 types of members; expected {10 - more} by the config"):
        converted(tmp_path, configs(nsymm_pairs=4 + more), stored)


def test_anchors_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path, configs(), checkpoint(configs()))
    np.save(files[2], np.full((13, 3), np.nan))
    with pytest.raises(DataError, match=r"anchors\.npy: anchors: 39 non-finite values"):
        convert(*files, 4, 4)


def test_an_empty_file_is_one_line(tmp_path: Path) -> None:
    files = write(tmp_path, configs(), checkpoint(configs()))
    for path, message in zip(
        files, ("not a checkpoint of PyTorch", "no readable 'decoder'", "not an array"), strict=True
    ):
        content = path.read_bytes()
        path.write_bytes(b"")
        with pytest.raises(DataError, match=re.escape(f"{path.name}: {message}")) as caught:
            convert(*files, 4, 4)
        assert "\n" not in str(caught.value)
        path.write_bytes(content)


class Trap:
    """Pickled, it would make a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    config = configs()
    sprung = tmp_path / "sprung"
    files = write(tmp_path, config, {**checkpoint(config), "extra": Trap(sprung)})
    done = run(files, tmp_path / "prior.safetensors", "--anchors", str(files[2]))
    assert done.returncode == 1
    assert "checkpoint.tar: refused" in done.stderr.splitlines()[-1]
    assert "could run code" in done.stderr
    assert "weights_only" not in done.stderr
    assert not sprung.exists()
    files[0].write_text("not a checkpoint")
    with pytest.raises(DataError, match="refused: it is no checkpoint"):
        convert(*files, 4, 4)
