"""The head prior: signed distance and backward deformation of heads under identity and expression codes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.head.model.network import AnchorNet, Deformation, LocalEnsemble
from pipeline.settings.prior_config import WHERE_FROM, PriorConfig

CHUNK = 16384  # points evaluated at once without gradients: the activations stay in the caches
GPU_CHUNK = 16 * CHUNK  # on a GPU, where a chunk has to fill the machine: 2 GB a layer at the release's widths


class CodeStatistics(nn.Module):
    """Gaussian of a code: mean (N,) and basis (N, M) with code = mean + basis @ w, w ~ N(0, I)."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width))
        self.basis = nn.Parameter(torch.zeros(width, modes))

    def forward(self, w: Tensor) -> Tensor:
        """Codes (..., N) of standard normal weights (..., M)."""
        return self.mean + w @ self.basis.T


class HeadPrior(nn.Module):
    """Signed distance field of heads in MonoNPHM's form. Lengths are head units (0.25 m)."""

    neutral: Tensor
    eye_radius: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.anchor_net = AnchorNet(config)
        self.ensemble = LocalEnsemble(config)
        self.deformation = Deformation(config)
        self.identity = CodeStatistics(config.z_id, config.identity_modes)
        self.expression = CodeStatistics(config.z_exp, config.expression_modes)
        self.register_buffer("neutral", torch.zeros(config.z_exp))
        if config.landmarks:
            self.landmarks = CodeStatistics(3 * config.landmarks, config.identity_modes).requires_grad_(False)
        if config.eyes:
            self.eyes = CodeStatistics(3 * config.eyes, config.identity_modes).requires_grad_(False)
            self.register_buffer("eye_radius", torch.zeros(config.eyes))

    def sdf(self, x_can: Tensor, z_id: Tensor) -> Tensor:
        """Signed distance (..., P), negative inside, at canonical points x_can (..., P, 5) of identity z_id (..., D).

        Leading dimensions broadcast.
        """
        lead = torch.broadcast_shapes(x_can.shape[:-2], z_id.shape[:-1])
        count = x_can.shape[-2]
        if z_id.shape[:-1].numel() == 1:  # one identity: its frames are just more points
            z_id, points = z_id.reshape(1, -1), x_can.reshape(1, -1, x_can.shape[-1])
        else:
            z_id = z_id.expand(*lead, -1).reshape(-1, z_id.shape[-1])
            points = x_can.expand(*lead, -1, -1).reshape(len(z_id), count, -1)
        anchors, folded = self.anchor_net(z_id), self.ensemble.fold(z_id)
        return _in_chunks(lambda part: self.ensemble(part, anchors, folded), points).reshape(*lead, count)

    def warp(self, x: Tensor, z_id: Tensor, z_exp: Tensor) -> Tensor:
        """Canonical and hyper coordinates (..., P, 5) of posed points x (..., P, 3) for z_id (..., D), z_exp (..., E).

        Leading dimensions broadcast (frames with one z_id, one point set under many codes).
        """
        lead = torch.broadcast_shapes(x.shape[:-2], z_id.shape[:-1], z_exp.shape[:-1])
        folded = self.deformation.fold(z_id, self.anchor_net(z_id), z_exp)
        folded = tuple(bias.expand(*lead, -1).reshape(-1, bias.shape[-1]) for bias in folded)
        points = x.expand(*lead, -1, -1).reshape(-1, *x.shape[-2:])
        out = _in_chunks(lambda part: self.deformation(part, folded), points)
        return out.reshape(*lead, x.shape[-2], self.config.coordinates)

    def field(self, z_id: Tensor, z_exp: Tensor) -> Callable[[Tensor], Tensor]:
        """`sdf` of `warp` for one z_id (D,) and z_exp (E,): posed points (P, 3) to signed distances (P,), head units.

        What the networks know of the codes is computed once, here, not for every call.
        """
        anchors, locally = self.anchor_net(z_id[None]), self.ensemble.fold(z_id[None])
        moved = self.deformation.fold(z_id[None], anchors, z_exp[None])

        def distance(points: Tensor) -> Tensor:
            return self.ensemble(self.deformation(points, moved), anchors, locally)

        return lambda points: _in_chunks(distance, points[None])[0]

    def anchors(self, z_id: Tensor) -> Tensor:
        """Anchors (..., A, 3) of identities z_id (..., D), canonical head space."""
        return self.anchor_net(z_id)

    def landmarks_from(self, w: Tensor) -> Tensor:
        """Landmarks (..., L, 3) of identity weights w (..., I), canonical head space; only where the config has some.

        In the order of `pipeline.capture.landmarks.FIXED`.
        """
        return self.landmarks(w).unflatten(-1, (self.config.landmarks, 3))

    def eyes_from(self, w: Tensor) -> Tensor:
        """Centres (..., 2, 3) of the eyeballs of identity weights w (..., I), the left one first, head space; only
        where the config has some. No expression moves them. `eye_radius` (2,): their mean radius.
        """
        return self.eyes(w).unflatten(-1, (self.config.eyes, 3))

    def tensor(self, values: np.ndarray | Tensor) -> Tensor:
        """Numbers in the weights' precision, on their device."""
        like = self.identity.mean
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)

    def z_id_from(self, w: Tensor) -> Tensor:
        """Identity codes (..., D) of standard normal weights (..., I)."""
        return self.identity(w)

    def z_exp_from(self, w: Tensor) -> Tensor:
        """Expression codes (..., E) of standard normal weights (..., J)."""
        return self.expression(w)


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers in float64, from whatever device."""
    return tensor.detach().double().cpu().numpy()


def within_reach(prior: HeadPrior, z_exp: np.ndarray) -> np.ndarray:
    """Codes (..., E) no lower than the least that training showed: below it the shipped prior's lids do not shut."""
    least = prior.config.least_code
    return z_exp if least is None else np.maximum(z_exp, least)


def _in_chunks(function, points: Tensor) -> Tensor:
    """function over points (B, P, C) in runs of so many points where no gradient is recorded."""
    step = max(1, (CHUNK if points.device.type == "cpu" else GPU_CHUNK) // max(1, len(points)))
    if torch.is_grad_enabled() or points.shape[1] <= step:
        return function(points)
    return torch.cat([function(part) for part in points.split(step, dim=1)], dim=1)


def save_prior(prior: HeadPrior, path: Path) -> None:
    """Write the weights with the config as JSON in the header."""
    state = {name: tensor.detach().contiguous() for name, tensor in prior.state_dict().items()}
    path.write_bytes(save(state, {"config": prior.config.model_dump_json()}))  # save_file: others may not read it


def load_prior(path: Path) -> HeadPrior:
    """The prior stored at path (safetensors with its config in the header), frozen, for evaluation.

    Raises DataError where the file is missing, is no prior, or holds a tensor of a wrong shape.
    """
    if not path.is_file():
        raise DataError(f"{path}: no head prior there; {WHERE_FROM}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("config")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"{path}: not a safetensors file ({error}); {WHERE_FROM}") from error
    if header is None:
        raise DataError(f"{path}: no 'config' in the header, so not a head prior; {WHERE_FROM}")
    try:
        prior = HeadPrior(PriorConfig.model_validate(json.loads(header)))
    except (ValidationError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: bad config in the header: {error}") from error
    expected = prior.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        want = tuple(expected[name].shape) if name in expected else "nothing"
        have = tuple(state[name].shape) if name in state else "nothing"
        if want != have:
            raise DataError(f"{path}: tensor '{name}': expected {want}, found {have}")
    prior.load_state_dict(state)
    torch.set_flush_denormal(True)  # Softplus with beta 100 makes denormal numbers, which are slow
    return prior.eval().requires_grad_(False)
