"""A head prior of the release's size without the release's weights: random layers under solved last ones.

For measurements of speed at full size. Every hidden layer is random; the last layer of each local network and of the
deformation is the least squares solution under which the mean code gives the shipped prior's open-mouthed mean head.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.head.model.network import WIDEST_BLEND, activate
from pipeline.head.model.prior import HeadPrior
from pipeline.settings.prior_config import PriorConfig

OFFICIAL = PriorConfig(  # MonoNPHM's configs.yaml as it lies beside the released weights, and its meshing box
    anchors=65,
    pairs=30,
    glob=64,
    loc=32,
    exp=100,
    neighbours=8,
    blend_std=3.75,
    global_distance=0.75,
    local_width=200,
    local_layers=4,
    anchor_width=64,
    compressed=16,
    warp_width=400,
    warp_layers=6,
    activation="softplus",
    identity_modes=128,
    expression_modes=100,
    box_min=(-0.55, -0.5, -0.95),
    box_max=(0.55, 0.75, 0.4),
)
SAMPLES = 40_000  # half of them all over the box, half within NEAR of the surface
NEAR = 0.05  # head units
EXPRESSION = 0.8  # standard deviations of the source's random expression
RIDGE = 1e-6  # of the mean squared feature


def solved(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Weighted least squares: features (P, N), weight (P,), target (P, K) -> last layer (K, N + 1), its bias last."""
    rows = torch.cat([features, torch.ones_like(features[:, :1])], -1).double() * weight.double().sqrt()[:, None]
    right = target.double() * weight.double().sqrt()[:, None]
    normal = rows.T @ rows
    normal += RIDGE * normal.diagonal().mean() * torch.eye(len(normal))
    return torch.linalg.solve(normal, rows.T @ right).T.float()


def surface_anchors(points: Tensor, pairs: int, middle: int) -> Tensor:
    """Mirrored pairs, left and right in turn, and then `middle` points on the middle line: (2 * pairs + middle, 3),
    each as far as possible from those before, out of points (P, 3) on the surface."""
    chosen: list[Tensor] = []
    candidates = [(points[points[:, 0] < -0.04], True)] * pairs + [(points[points[:, 0].abs() < 0.01], False)] * middle
    for among, paired in candidates:
        distance = torch.cdist(among, torch.stack(chosen) if chosen else among.mean(0, keepdim=True)).amin(1)
        point = among[distance.argmax()]
        chosen += [point, point * torch.tensor([-1, 1, 1])] if paired else [point * torch.tensor([0, 1, 1])]
    return torch.stack(chosen)


@torch.no_grad()
def head_like(config: PriorConfig, source: HeadPrior, seed: int = 0) -> HeadPrior:
    """A prior of `config` whose mean codes give a head of `source`, for its box."""
    torch.manual_seed(seed)
    z_id = source.z_id_from(torch.zeros(source.config.identity_modes))
    z_exp = source.z_exp_from(EXPRESSION * torch.randn(source.config.expression_modes))
    low, high = torch.tensor(config.box_min), torch.tensor(config.box_max)
    x = low + torch.rand(8 * SAMPLES, 3) * (high - low)
    sdf = source.sdf(source.warp(x, z_id, z_exp), z_id)
    near = (sdf.abs() < NEAR).nonzero()[: SAMPLES // 2, 0]
    anchors = surface_anchors(x[sdf.abs() < 0.005], config.pairs, config.anchors - 2 * config.pairs)
    x = torch.cat([x[near], x[: SAMPLES // 2]])

    prior = HeadPrior(config)
    for statistics in (prior.identity, prior.expression):
        statistics.mean.normal_(std=0.02)
        statistics.basis.normal_(std=0.002)
    prior.anchor_net.mean.copy_(anchors)
    prior.anchor_net.layers[-1].weight.mul_(0.01)
    prior.anchor_net.layers[-1].bias.zero_()
    mean_id, mean_exp = prior.identity.mean[None], prior.expression.mean[None]
    moved = source.warp(x, z_id, z_exp)
    solve_deformation(prior, mean_id, mean_exp, x, torch.cat([moved[:, :3] - x, moved[:, 3:]], -1))
    solve_ensemble(prior, mean_id, prior.warp(x, mean_id[0], mean_exp[0]), source.sdf(moved, z_id))
    return prior.requires_grad_(False)


def randomise(weight: Tensor, bias: Tensor, coordinates: slice) -> None:
    """Kinks all over the space that coordinates of about 0.3 head units come from."""
    weight.normal_(std=(2 / weight.shape[-1]) ** 0.5)
    weight[..., coordinates] = torch.randn_like(weight[..., coordinates]) * 3
    bias.uniform_(-1, 1)


def solve_deformation(prior: HeadPrior, z_id: Tensor, z_exp: Tensor, x: Tensor, target: Tensor) -> None:
    """Random hidden layers and a last one that gives target (P, 5) at x (P, 3)."""
    net = prior.deformation
    for index, layer in enumerate(net.layers):
        randomise(layer.weight, layer.bias, slice(0, 3) if index == 0 else slice(0, 0))
    folded = net.fold(z_id, prior.anchors(z_id), z_exp)
    features: list[Tensor] = []
    hook = net.last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0][0]))
    net(x[None], folded)
    hook.remove()
    solution = solved(features[0], torch.ones(len(x)), target)
    net.last.weight.copy_(solution[:, :-1])
    net.last.bias.copy_(solution[:, -1])


def solve_ensemble(prior: HeadPrior, z_id: Tensor, x_can: Tensor, target: Tensor) -> None:
    """Random hidden layers and last ones that give target (P,) at x_can (P, 5) wherever a network is asked."""
    net, config = prior.ensemble, prior.config
    for layer, (weight, bias) in enumerate(zip(net.weights[:-1], net.biases[:-1], strict=True)):
        randomise(weight, bias, slice(config.glob + config.loc, None) if layer == 0 else slice(0, 0))
    anchors, folded = prior.anchors(z_id)[0], net.fold(z_id)[0]
    distance, nearest = torch.cdist(x_can[:, :3], anchors).topk(config.neighbours, largest=False)  # (P, K)
    sigma = distance[:, min(WIDEST_BLEND, config.neighbours) - 1, None] / config.blend_std
    weight = torch.exp(-0.5 * (distance / sigma) ** 2)
    spatial = net.weights[0][..., config.glob + config.loc :]
    for kind in range(config.types):
        hidden, weights, targets = [], [], []
        for member in (net.types == kind).nonzero()[:, 0].tolist():
            if member == config.anchors:  # the global one is asked everywhere
                rows, own, local = torch.arange(len(x_can)), torch.ones(len(x_can)), x_can
            else:
                rows, place = ((nearest == member) & (weight > 1e-4)).nonzero().T
                own = weight[rows, place]
                local = x_can[rows] - F.pad(anchors[member], (0, config.hyper))
                local = torch.cat([local[:, :1] * net.sign[member], local[:, 1:]], -1)
            hidden.append(local @ spatial[kind].T + folded[member])
            weights.append(own)
            targets.append(target[rows])
        features = activate(torch.cat(hidden), config.activation)
        for w, b in list(zip(net.weights, net.biases, strict=True))[1:-1]:
            features = activate(features @ w[kind].T + b[kind], config.activation)
        solution = solved(features, torch.cat(weights), torch.cat(targets)[:, None])
        net.weights[-1][kind] = solution[:, :-1]
        net.biases[-1][kind] = solution[:, -1]
