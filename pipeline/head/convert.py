"""Converts a checkpoint of MonoNPHM, or of a model of its form, to a head prior of this project.

    python -m pipeline.head.convert checkpoint_epoch_2500.tar configs.yaml OUT.safetensors --anchors anchors_65.npy

Every size is read from the config and every tensor is checked against it; what belongs to colour or to the optimisers
is left out. The statistics of the codes come from the codebooks; where landmarks and eyeballs lie on these heads is
carried over from the shipped prior (`pipeline.head.marks`). The authors' weights have their own terms: convert and use
them under those, and pass neither them nor the result on.
"""

import argparse
import logging
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.marks import SHIPPED, marked
from pipeline.head.model.network import WIDEST_BLEND, linears
from pipeline.head.model.prior import HeadPrior, load_prior, save_prior
from pipeline.settings.prior_config import PriorConfig
from pipeline.store.chunk import publish

log = logging.getLogger("pipeline")

IN_YAML = {  # where the release's configs.yaml keeps each size, below `decoder`
    "anchors": "id.nloc",
    "pairs": "id.nsymm_pairs",
    "glob": "id.lat_dim_glob",
    "loc": "id.lat_dim_loc_geo",
    "exp": "ex.lat_dim_ex",
    "hyper": "ex.nhyper",
    "neighbours": "id.nneigh",
    "blend_std": "id.blend_std",
    "local_width": "id.gnn.hidden_dim_geo",
    "local_layers": "id.gnn.nlayers_geo",
    "compressed": "ex.lat_dim_id",
    "warp_width": "ex.hidden_dim",
    "warp_layers": "ex.nlayers",
}
FIXED = {  # what the release writes into its code: the global member's distance, the activation, the meshing box
    "global_distance": 0.75,
    "activation": "softplus",
    "box_min": (-0.55, -0.5, -0.95),
    "box_max": (0.55, 0.75, 0.4),
}
LONGEST_CODE = 1.0  # the release's embeddings shorten longer codes when they are looked up


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file by part (`id_decoder`, `ex_decoder`, `latent_codes`) and name."""

    path: Path
    parts: dict[str, dict[str, Tensor]]

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Tensors and plain values only. Raises DataError where the file is something else."""
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its own text advises to switch the protection off
            raise DataError(
                f"{path}: refused: it is no checkpoint, or reading it could run code hidden in it; expected a file of "
                "tensors and plain values, as MonoNPHM's training writes it"
            ) from error
        except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{path}: not a checkpoint of PyTorch ({reason}); expected a whole one") from error
        parts = {}
        for part in ("id_decoder", "ex_decoder", "latent_codes"):
            if not isinstance(stored, dict) or not isinstance(stored.get(part), dict):
                raise DataError(f"{path}: no '{part}'; expected a checkpoint with id_decoder, ex_decoder, latent_codes")
            parts[part] = {name.removeprefix("module."): value for name, value in stored[part].items()}
        return cls(path, parts)

    def tensor(self, part: str, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """A tensor as float32; None in `shape` stands for any length. Raises DataError where it is not so."""
        value = self.parts[part].get(name)
        expected = f"expected ({', '.join('any' if n is None else str(n) for n in shape)})"
        if not isinstance(value, Tensor):
            raise DataError(f"{self.path}: {part} has no tensor '{name}'; {expected}")
        if not value.isfinite().all():
            raise DataError(f"{self.path}: {part} '{name}' holds {int((~value.isfinite()).sum())} non-finite values")
        if len(shape) != value.ndim or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
            raise DataError(f"{self.path}: {part} '{name}': {expected} by the config, found {tuple(value.shape)}")
        return value.float()


def read_sizes(path: Path) -> dict[str, Any]:
    """The sizes of IN_YAML from a configs.yaml. Raises DataError naming the key that is missing or not supported."""
    try:
        decoder = yaml.safe_load(path.read_text())["decoder"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DataError(f"{path}: no readable 'decoder' section ({error!r}); expected MonoNPHM's config") from error

    def value(key: str) -> Any:
        found = decoder
        for name in key.split("."):
            if not isinstance(found, dict) or name not in found:
                raise DataError(f"{path}: decoder.{key} is missing; expected the configs.yaml beside the checkpoint")
            found = found[name]
        return found

    if value("ex.mode") != "compress":
        raise DataError(f"{path}: decoder.ex.mode is {value('ex.mode')!r}; only 'compress' has a form here")
    sizes = {name: value(key) for name, key in IN_YAML.items()}
    if isinstance(sizes["neighbours"], int) and sizes["neighbours"] < WIDEST_BLEND:
        # below that the release mixes the global member's distance into the blend's width
        raise DataError(f"{path}: decoder.id.nneigh is {sizes['neighbours']}; expected {WIDEST_BLEND} or more")
    return sizes


def read_anchors(path: Path | None, checkpoint: Checkpoint, count: int) -> Tensor:
    """Mean anchors (A, 3) from a .npy file, else from the checkpoint. Raises DataError where neither has them."""
    if path is not None:
        try:
            anchors = torch.from_numpy(np.load(path, allow_pickle=False)).float()
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise DataError(f"{path}: not an array of anchors ({error}); expected ({count}, 3)") from error
    elif "anchors" in checkpoint.parts["id_decoder"]:
        path, anchors = checkpoint.path, checkpoint.parts["id_decoder"]["anchors"].float()
    else:
        raise DataError(
            f"{checkpoint.path}: holds no mean anchors; expected --anchors with anchors_{count}.npy, which is among "
            "the assets of the authors' code"
        )
    if tuple(anchors.shape[-2:]) != (count, 3) or anchors.numel() != 3 * count:
        raise DataError(f"{path}: anchors: expected ({count}, 3), found {tuple(anchors.shape)}")
    if not anchors.isfinite().all():
        raise DataError(f"{path}: anchors: {int((~anchors.isfinite()).sum())} non-finite values; expected none")
    return anchors.reshape(count, 3)


def require_no_more_members(checkpoint: Checkpoint, expected: int) -> None:
    """Raise DataError where the ensemble has other types of members than the config's pairs leave.

    With too many pairs the surplus would never be read, and the distances would be wrong.
    """
    start = "deepSDFensemble.layers."
    names = [name.removeprefix(start) for name in checkpoint.parts["id_decoder"] if name.startswith(start)]
    found = len({name.split(".")[0] for name in names})
    if found != expected:
        raise DataError(
            f"{checkpoint.path}: the ensemble has {found} types of members; expected {expected} by the config "
            f"(decoder.id.nloc - decoder.id.nsymm_pairs + 1)"
        )


def code_statistics(codes: Tensor, modes: int) -> tuple[Tensor, Tensor]:
    """Mean (N,) and basis (N, M) of codes (K, N): the principal directions times their standard deviations.

    M is `modes` or, where the codes span less, their rank.
    """
    codes = codes.double()
    codes = codes * (LONGEST_CODE / codes.norm(dim=1, keepdim=True).clamp(min=LONGEST_CODE))
    mean = codes.mean(0)
    _, spread, directions = torch.linalg.svd(codes - mean, full_matrices=False)
    rank = int((spread > spread[:1] * max(codes.shape) * torch.finfo(torch.float32).eps).sum())
    kept = min(modes, rank)
    return mean.float(), (directions[:kept].T * spread[:kept] / max(len(codes) - 1, 1) ** 0.5).float()


def sources(prior: HeadPrior) -> Iterator[tuple[Tensor, str, list[str]]]:
    """Every weight of the networks, the part of a checkpoint that holds it, and its names there.

    Several names are the types of the ensemble, stacked.
    """
    for layer, (weight, bias) in enumerate(zip(prior.ensemble.weights, prior.ensemble.biases, strict=True)):
        for kind, tensor in (("weight", weight), ("bias", bias)):
            # the members' activations take every other place
            names = [f"deepSDFensemble.layers.{t}.layers.{2 * layer}.{kind}" for t in range(prior.config.types)]
            yield tensor, "id_decoder", names
    for index, linear in zip((0, 2, 4), linears(prior.anchor_net.layers), strict=True):
        yield linear.weight, "id_decoder", [f"mlp_pos.{index}.weight"]
        yield linear.bias, "id_decoder", [f"mlp_pos.{index}.bias"]
    warp = prior.deformation
    named = {"compressor.0": warp.compressor}
    named |= {f"defDeepSDF.lin{index}": linear for index, linear in enumerate([*linears(warp.layers), warp.last])}
    for name, linear in named.items():
        yield linear.weight, "ex_decoder", [f"{name}.weight"]
        yield linear.bias, "ex_decoder", [f"{name}.bias"]


@torch.no_grad()
def convert(
    checkpoint_path: Path, config_path: Path, anchors_path: Path | None, identity_modes: int, expression_modes: int
) -> HeadPrior:
    """The head prior of a checkpoint and its configs.yaml. Raises DataError naming what is missing or misshapen."""
    sizes, checkpoint = read_sizes(config_path), Checkpoint.read(checkpoint_path)
    width = checkpoint.tensor("id_decoder", "mlp_pos.0.bias", (None,))  # the config does not tell
    try:
        config = PriorConfig(**sizes, **FIXED, anchor_width=len(width), identity_modes=1, expression_modes=1)
    except ValidationError as error:
        faults = [f"{IN_YAML.get(str(f['loc'][0]), '') if f['loc'] else ''}: {f['msg']}" for f in error.errors()]
        raise DataError(f"{config_path}: decoder.{'; '.join(faults)}") from error

    require_no_more_members(checkpoint, config.types)
    statistics = {}
    for name, modality, length, modes in (
        ("identity", "geo", config.z_id, identity_modes),
        ("expression", "exp", config.z_exp, expression_modes),
    ):
        codes = checkpoint.tensor("latent_codes", f"codebook.{modality}.embedding.weight", (None, length))
        statistics[name] = code_statistics(codes, modes)
        if statistics[name][1].shape[1] == 0:
            raise DataError(f"{checkpoint_path}: codebook '{modality}' holds {len(codes)} codes that do not vary")
    modes = {f"{name}_modes": basis.shape[1] for name, (_, basis) in statistics.items()}
    prior = HeadPrior(config.model_copy(update=modes))

    for tensor, part, names in sources(prior):
        shape = tuple(tensor.shape if len(names) == 1 else tensor.shape[1:])
        found = [checkpoint.tensor(part, name, shape) for name in names]
        tensor.copy_(found[0] if len(names) == 1 else torch.stack(found))
    prior.anchor_net.mean.copy_(read_anchors(anchors_path, checkpoint, config.anchors))
    for name, (mean, basis) in statistics.items():
        getattr(prior, name).mean.copy_(mean)
        getattr(prior, name).basis.copy_(basis)
    return prior  # `neutral` stays zero: the release starts every face at rest there


def main() -> None:
    """Read, convert, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=cli.existing_file, help="checkpoint_epoch_N.tar")
    parser.add_argument("config", type=cli.existing_file, help="the configs.yaml that lies beside it")
    parser.add_argument("output", type=Path, help="head prior to write, safetensors")
    parser.add_argument("--anchors", type=cli.existing_file, help="mean anchors, anchors_65.npy of the authors' code")
    parser.add_argument("--identity-modes", type=int, default=128, help="directions that the identity fit may move in")
    parser.add_argument("--expression-modes", type=int, default=100, help="and the expression fit")
    given = parser.parse_args()
    if min(given.identity_modes, given.expression_modes) < 1:
        parser.error("expected at least one mode")
    prior = convert(given.checkpoint, given.config, given.anchors, given.identity_modes, given.expression_modes)
    try:
        prior = marked(prior, load_prior(SHIPPED))
    except DataError as error:
        log.warning("%s: without landmarks and eyeballs: %s", given.output, error)
    with publish(given.output) as partial:
        save_prior(prior, partial)
    c = prior.config
    log.info("%s: %d anchors, z_id %d, z_exp %d", given.output, c.anchors, c.z_id, c.z_exp)
    modes = c.identity_modes, c.expression_modes
    log.info("%d identity modes, %d expression modes, %d landmarks, %d eyeballs", *modes, c.landmarks, c.eyes)


if __name__ == "__main__":
    cli.run(main)
