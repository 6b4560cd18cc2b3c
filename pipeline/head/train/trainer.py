"""Training of the head prior on exact samples of random heads."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.cli import Progress
from pipeline.head.model.network import linears
from pipeline.head.model.prior import HeadPrior
from pipeline.head.train.bank import Bank
from pipeline.head.train.heads import ExpressionSampler, choose_anchors, head_vertices
from pipeline.head.train.ict import HEAD_PER_CM, FaceModel, Hair, head_from_ict
from pipeline.head.train.mark import mark
from pipeline.settings.prior import PriorModel, PriorSettings
from pipeline.store.state import TrainingState, load_optimiser, optimiser_tensors

NEAR = 0.03  # head units: the distance at which a sample's weight has halved
MM = 250  # in a head unit
EMA_STEPS = 500  # horizon of the averaged weights


def start_codes(prior: HeadPrior, model: FaceModel, anchors: np.ndarray, seed: int) -> None:
    """Set the mean anchors and the codes' statistics before training.

    z_id starts as a linear summary of the known identity weights: the leading principal directions of the whole head
    for the global part, and of the head near each anchor for that member's part; training moves it from there. z_exp
    is the model's expression weights and stays so; its statistics are those of the expressions drawn.
    """
    config, hair = prior.config, Hair(model)
    rest = np.zeros(len(model.expression_modes))
    used = np.unique(model.skin)
    zero = np.zeros(config.identity_modes)
    base = head_vertices(model, hair, zero, rest)
    moves = np.stack(
        [head_vertices(model, hair, step, rest)[used] - base[used] for step in np.eye(config.identity_modes)]
    )
    moves = moves * HEAD_PER_CM  # (I, U, 3)
    places, centres = head_from_ict(base[used]), head_from_ict(base[anchors])
    rows = [_leading(moves, np.ones(len(used)), config.glob)]
    for centre in [*centres, None]:
        far = np.zeros(len(used)) if centre is None else np.linalg.norm(places - centre, axis=1)
        rows.append(_leading(moves, np.exp(-0.5 * (far / 0.12) ** 2), config.loc))
    expressions, rng = ExpressionSampler(model.expression_names), np.random.default_rng([seed, 1 << 32])
    drawn = np.stack([expressions.draw(rng) for _ in range(20_000)])
    variance, direction = np.linalg.eigh(np.cov(drawn.T))
    with torch.no_grad():
        prior.anchor_net.mean.copy_(torch.from_numpy(centres))
        prior.identity.basis.copy_(torch.from_numpy(np.concatenate(rows)))
        prior.expression.mean.copy_(torch.from_numpy(drawn.mean(0)))
        prior.expression.basis.copy_(torch.from_numpy((direction * np.sqrt(variance.clip(min=0)))[:, ::-1].copy()))
        linears(prior.anchor_net.layers)[-1].weight.mul_(0.1)
        prior.ensemble.weights[0][..., -config.coordinates :].mul_(4.0)  # offsets are a tenth of a unit, codes are one
        linears(prior.deformation.layers)[0].weight[:, :3].mul_(4.0)
        prior.deformation.last.weight.mul_(0.1)
    prior.expression.requires_grad_(False)


def _leading(moves: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Rows (count, I): the leading directions of weights (I) whose moves (I, U, 3) matter most under weight (U,)."""
    matrix = (moves * weight[None, :, None]).reshape(len(moves), -1)
    strength, direction = np.linalg.eigh(matrix @ matrix.T)
    strength, direction = np.sqrt(strength[::-1].clip(min=0)), direction[:, ::-1].T
    rows = np.zeros((count, len(moves)))
    n = min(count, len(moves))
    rows[:n] = direction[:n] * np.sqrt(strength[:n] / strength[0])[:, None]
    return rows


def losses(prior: HeadPrior, bank: Bank, heads: Tensor, points: Tensor) -> dict[str, Tensor]:
    """Mean errors over heads (B,) and their points (B, P): sdf, place, hyper, anchors, in head units."""
    take = heads[:, None], points
    x, sdf, x_can, known = bank.x[take], bank.sdf[take], bank.x_can[take], bank.known[take]
    z_id, z_exp = prior.z_id_from(bank.w[heads]), bank.z_exp[heads]
    warped = prior.warp(x, z_id, z_exp)
    weight = 1 / (1 + sdf.abs() / NEAR)
    at_rest = (z_exp == 0).all(-1)[:, None, None]
    return {
        "sdf": (weight * (prior.sdf(warped, z_id) - sdf).abs()).mean(),
        "place": (known * (warped[..., :3] - x_can).abs().sum(-1)).mean(),
        "hyper": (warped[..., 3:].abs() * torch.where(at_rest, 10.0, 1.0)).mean(),
        "anchors": (prior.anchors(z_id) - bank.anchors[heads]).abs().mean(),
    }


class Trainer:
    """One training run, which goes on from its saved state."""

    def __init__(self, prior: HeadPrior, bank: Bank, settings: PriorSettings, state: TrainingState) -> None:
        self.prior, self.bank, self.settings, self.state = prior, bank, settings, state
        self.trained = {name: p for name, p in prior.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}
        self.optimizer = torch.optim.Adam(self.trained.values(), lr=settings.learning_rate, betas=(0.9, 0.99))
        self.random = torch.Generator().manual_seed(settings.seed)
        self.step = 0
        with state.saved() as saved:
            if saved:
                self._resume(*saved)

    def run(self) -> None:
        """Train to the last step; saves the state as it goes."""
        steps, progress = self.settings.steps, Progress(self.settings.steps, "steps", self.step)
        mean: dict[str, float] = {}
        while self.step < steps:
            for key, value in self.one_step().items():
                mean[key] = 0.98 * mean.get(key, value) + 0.02 * value
            progress.update(self.step, "; mm: " + ", ".join(f"{key} {v * MM:.2f}" for key, v in mean.items()))
            if self.step % self.settings.checkpoint_steps == 0 or self.step == steps:
                self._save()

    def averaged(self) -> HeadPrior:
        """The prior with the averaged weights; training is over for it."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self.average[name])
        return self.prior

    def one_step(self) -> dict[str, float]:
        """One optimisation step; the mean errors before it."""
        s = self.settings
        heads = torch.randint(len(self.bank.w), (s.batch_heads,), generator=self.random)
        points = torch.randint(self.bank.x.shape[1], (s.batch_heads, s.batch_points), generator=self.random)
        values = losses(self.prior, self.bank, heads, points)
        total = values["sdf"] + s.correspondence * values["place"] + s.hyper * values["hyper"] + 0.1 * values["anchors"]
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate * self._schedule()
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(1 - 1 / EMA_STEPS, self.step / (self.step + 10))
        now = [p.detach() for p in self.trained.values()]
        get_ema_multi_avg_fn(keep)(list(self.average.values()), now, None)
        return {key: float(value.detach()) for key, value in values.items()}

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.step / self.settings.steps)))

    def _save(self) -> None:
        tensors = {f"now/{name}": p for name, p in self.trained.items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        tensors |= {"random": self.random.get_state()} | optimiser_tensors(self.optimizer, self.trained)
        self.state.save(tensors, {"step": self.step})

    @torch.no_grad()
    def _resume(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[f"now/{name}"])
            self.average[name].copy_(tensors[f"average/{name}"])
        load_optimiser(self.optimizer, self.trained, tensors)
        self.random.set_state(tensors["random"])
        self.step = description["step"]


def new_prior(model: FaceModel, sizes: PriorModel, seed: int) -> tuple[HeadPrior, np.ndarray]:
    """An untrained prior for the face model and the vertices (A,) of its anchors."""
    torch.manual_seed(seed)
    identity_modes = len(model.identity_modes) + Hair.coefficients
    prior = HeadPrior(sizes.config(identity_modes, len(model.expression_modes), len(model.landmarks)))
    mark(prior, model)
    anchors = choose_anchors(model, sizes.pairs, sizes.mid)
    start_codes(prior, model, anchors, seed)
    return prior, anchors
