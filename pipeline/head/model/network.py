"""The two networks of a head prior: the local ensemble behind the identity's SDF and the backward deformation."""

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.settings.prior_config import PriorConfig

SOFTPLUS_BETA = 100.0
WIDEST_BLEND = 8  # the release takes the blend's width from at most the eighth neighbour
# Points that a GPU asks all members about, with a few large products, rather than the nearest ones with hundreds of
# small ones, whose launches take longer: of 11 questions for a mesh of 256^3 voxels 8 are smaller than this.
FEW = 8192


def activate(x: Tensor, kind: str) -> Tensor:
    """Softplus (beta 100) or ReLU, elementwise."""
    return F.softplus(x, beta=SOFTPLUS_BETA) if kind == "softplus" else F.relu(x)


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) * math.sqrt(1 / fan_in))


def linears(layers: Iterable[nn.Module]) -> list[nn.Linear]:
    """The linear ones of some layers, in their order."""
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def member_types(config: PriorConfig) -> tuple[Tensor, Tensor]:
    """Type (M,) int64 of each member and the sign (M,) its x coordinate is multiplied by (the odd ones of a pair)."""
    pair = torch.arange(2 * config.pairs)
    rest = torch.arange(config.members - 2 * config.pairs) + config.pairs
    sign = torch.cat([1.0 - 2.0 * (pair % 2), torch.ones(len(rest))])
    return torch.cat([pair // 2, rest]), sign


class LocalEnsemble(nn.Module):
    """Small networks round anchors, blended with Gaussian weights (MonoNPHM, identity network F_id).

    Weights are stacked by type: `weights[l]` (types, out, in) and `biases[l]` (types, out). The first layer reads
    [z_glob, z_loc, x - anchor, hyper].
    """

    types: Tensor
    sign: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        latent = config.glob + config.loc
        widths = [latent + config.coordinates] + [config.local_width] * config.local_layers + [1]
        self.weights = nn.ParameterList(_uniform((config.types, o, i), i) for i, o in pairwise(widths))
        self.biases = nn.ParameterList(_uniform((config.types, o), i) for i, o in pairwise(widths))
        types, sign = member_types(config)
        self.register_buffer("types", types, persistent=False)
        self.register_buffer("sign", sign, persistent=False)

    def fold(self, z_id: Tensor) -> Tensor:
        """First-layer biases (B, M, width) that hold everything the members know of z_id (B, D)."""
        c = self.config
        glob, loc = z_id[:, : c.glob], z_id[:, c.glob :].reshape(-1, c.members, c.loc)
        first = self.weights[0][self.types]  # (M, width, latent + coordinates)
        bias = torch.einsum("bg,mwg->bmw", glob, first[:, :, : c.glob])
        bias = bias + torch.einsum("bml,mwl->bmw", loc, first[:, :, c.glob : c.glob + c.loc])
        return bias + self.biases[0][self.types]

    def forward(self, x_can: Tensor, anchors: Tensor, folded: Tensor) -> Tensor:
        """SDF (B, P) at x_can (B, P, C) for anchors (B, A, 3) and folded biases (B, M, width).

        Every point asks only its K nearest members and the global one: the B * P * K questions are sorted by type
        so that each local network is one run of dense products.
        """
        c = self.config
        batch, points = x_can.shape[:2]
        near, nearest = self._neighbours(x_can[..., :3], anchors)  # (B, P, K, 3), (B, P, K)
        squared = near.square().sum(-1)
        variance = squared[..., : min(c.neighbours, WIDEST_BLEND)].amax(-1, keepdim=True) / c.blend_std**2 + 1e-12
        weight = torch.exp(-0.5 * squared / variance)
        weight_global = torch.exp(-0.5 * c.global_distance**2 / variance)[..., 0]

        few = x_can.device.type != "cpu" and batch * points <= FEW and not torch.is_grad_enabled()
        local = self.of_all(x_can, anchors, folded, nearest) if few else self.of_nearest(x_can, folded, near, nearest)
        hidden = x_can @ self._spatial(c.types - 1).T + folded[:, -1:]
        whole = self._finish(hidden, c.types - 1)[..., 0]

        total = (weight * local).sum(-1) + weight_global * whole
        return total / (weight.sum(-1) + weight_global + 1e-8)

    def _neighbours(self, x: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (B, P, K, 3) from the K nearest anchors, nearest first, and which they are (B, P, K)."""
        with torch.no_grad():
            # |x|^2 does not change the order, so it is left out
            score = anchors.square().sum(-1)[:, None] - 2 * x @ anchors.mT
            nearest = score.topk(self.config.neighbours, dim=-1, largest=False).indices
        head = torch.arange(len(x), device=x.device)[:, None, None] * self.config.anchors
        return x[:, :, None] - anchors.flatten(0, 1)[head + nearest], nearest

    def of_nearest(self, x_can: Tensor, folded: Tensor, near: Tensor, nearest: Tensor) -> Tensor:
        """What the nearest members (B, P, K) predict at x_can (B, P, C), `near` (B, P, K, 3) from their anchors."""
        c = self.config
        near = torch.cat([near[..., :1] * self.sign[nearest][..., None], near[..., 1:]], -1)
        hyper = x_can[..., None, 3:].expand(-1, -1, c.neighbours, -1)
        rows = torch.cat([near, hyper], -1).reshape(-1, c.coordinates)
        head = torch.arange(len(x_can), device=x_can.device)[:, None, None] * c.members
        local = self._by_type(rows, nearest.reshape(-1), (head + nearest).reshape(-1), folded.flatten(0, 1))
        return local.reshape(nearest.shape)

    def of_all(self, x_can: Tensor, anchors: Tensor, folded: Tensor, nearest: Tensor) -> Tensor:
        """The same by asking every member about every point: 8 times the arithmetic in a fiftieth of the launches."""
        kinds, sign = self.types[: self.config.anchors], self.sign[: self.config.anchors]
        apart = x_can[:, None, :, :3] - anchors[:, :, None]  # (B, A, P, 3)
        apart = torch.cat([apart[..., :1] * sign[:, None, None], apart[..., 1:]], -1)
        rows = torch.cat([apart, x_can[:, None, :, 3:].expand(-1, len(kinds), -1, -1)], -1)
        hidden = rows @ self._spatial(kinds).mT + folded[:, : len(kinds), None]
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[1:]:
            hidden = activate(hidden, self.config.activation) @ weight[kinds].mT + bias[kinds][:, None]
        return hidden[..., 0].mT.gather(-1, nearest)

    def _by_type(self, rows: Tensor, member: Tensor, bias_row: Tensor, folded: Tensor) -> Tensor:
        """Local outputs (N,) for rows (N, C) asked of members (N,) with biases folded[bias_row]."""
        kind = self.types[member]
        order = kind.to(torch.int16).argsort()
        counts = kind.bincount(minlength=self.config.types).tolist()
        of_type = zip(rows[order].split(counts), folded[bias_row[order]].split(counts), strict=True)
        out = [self._finish(torch.addmm(b, r, self._spatial(t).T), t) for t, (r, b) in enumerate(of_type) if len(r)]
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return torch.cat(out)[inverse, 0]

    def _spatial(self, kind: int | Tensor) -> Tensor:
        return self.weights[0][kind, :, -self.config.coordinates :]

    def _finish(self, hidden: Tensor, kind: int) -> Tensor:
        """The layers after the first: (..., width) before its activation to (..., 1)."""
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[1:]:
            hidden = F.linear(activate(hidden, self.config.activation), weight[kind], bias[kind])
        return hidden


class AnchorNet(nn.Module):
    """Anchors of an identity: mean anchors and an MLP on the global part of z_id."""

    mean: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.anchor_width
        self.register_buffer("mean", torch.zeros(config.anchors, 3))
        self.layers = nn.Sequential(
            nn.Linear(config.glob, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 3 * config.anchors),
        )

    def forward(self, z_id: Tensor) -> Tensor:
        """Anchors (..., A, 3) in canonical head space for z_id (..., D)."""
        return self.mean + self.layers(z_id[..., : self.config.glob]).unflatten(-1, (self.config.anchors, 3))


class Deformation(nn.Module):
    """Backward deformation (MonoNPHM, F_exp): posed point, identity summary and z_exp to offsets and hyper."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.skip = config.warp_layers // 2
        self.compressor = nn.Linear(config.z_id + 3 * config.anchors, config.compressed)
        inputs, width = 3 + config.compressed + config.exp, config.warp_width
        self.layers = nn.ModuleList(
            nn.Linear(inputs if i == 0 else width + inputs * (i == self.skip), width) for i in range(config.warp_layers)
        )
        self.last = nn.Linear(width, config.coordinates)

    def fold(self, z_id: Tensor, anchors: Tensor, z_exp: Tensor) -> tuple[Tensor, Tensor]:
        """Biases (..., width) of first and skip layer, of z_id (..., D), anchors (..., A, 3) and z_exp (..., E)."""
        summary = self.compressor(torch.cat([z_id, anchors.flatten(-2)], -1))
        lead = torch.broadcast_shapes(summary.shape[:-1], z_exp.shape[:-1])
        code = torch.cat([summary.expand(*lead, -1), z_exp.expand(*lead, -1)], -1)
        layers = linears(self.layers)
        first, skip = layers[0], layers[self.skip]
        behind = skip.weight[:, self.config.warp_width + 3 :]
        return F.linear(code, first.weight[:, 3:], first.bias), F.linear(code, behind / math.sqrt(2), skip.bias)

    def forward(self, x: Tensor, folded: tuple[Tensor, Tensor]) -> Tensor:
        """Canonical points (B, P, C) for posed points (B, P, 3) and the two folded biases (B, width)."""
        width, half = self.config.warp_width, 1 / math.sqrt(2)
        first, *further = linears(self.layers)
        hidden = F.linear(x, first.weight[:, :3]) + folded[0][:, None]
        for i, layer in enumerate(further, start=1):
            hidden = activate(hidden, self.config.activation)
            if i == self.skip:
                beside = F.linear(x, layer.weight[:, width : width + 3] * half) + folded[1][:, None]
                hidden = F.linear(hidden, layer.weight[:, :width] * half) + beside
            else:
                hidden = layer(hidden)
        out = self.last(activate(hidden, self.config.activation))
        return torch.cat([x + out[..., :3], out[..., 3:]], -1)
