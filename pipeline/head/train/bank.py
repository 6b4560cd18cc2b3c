"""The training data of the head prior: a bank of exact samples of random heads, kept in files of a hundred heads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.cli import Progress
from pipeline.head.train.heads import ExpressionSampler, draw_identity
from pipeline.head.train.ict import FaceModel, Hair, head_from_ict
from pipeline.head.train.samples import HeadSampler
from pipeline.settings.prior import PriorSettings
from pipeline.store.chunk import publish
from pipeline.store.state import key

SHARD_HEADS = 100  # heads in one file


@dataclass(frozen=True)
class Bank:
    """Samples of N heads, P points each: x (N, P, 3), sdf (N, P), x_can (N, P, 3), known (N, P) bool, w (N, I),
    z_exp (N, E) and anchors (N, A, 3); float32, head units."""

    x: Tensor
    sdf: Tensor
    x_can: Tensor
    known: Tensor
    w: Tensor
    z_exp: Tensor
    anchors: Tensor


def bank_key(face_model: Path) -> str:
    """Name of the folder for the shards of a face model's heads: another one after a change of it, or of this code."""
    return f"bank-{key(__name__, {}, [face_model])}"


def make_bank(model: FaceModel, anchors: np.ndarray, settings: PriorSettings, folder: Path) -> Bank:
    """Samples of the settings' random heads, with anchors at the model's vertices (A,).

    Shards already in the folder are taken as they are: `bank_key` names it, and the shards' names hold the seed and the
    sizes.
    """
    heads, points, seed = settings.heads, settings.points, settings.seed
    sampler, expressions = HeadSampler(model), ExpressionSampler(model.expression_names)
    shards, progress = [], Progress(heads, "heads")
    for first in range(0, heads, SHARD_HEADS):
        count = min(SHARD_HEADS, heads - first)
        path = folder / f"heads-{seed}-{points}-{first}-{count}.npz"
        if not path.exists():
            rows = [_head(sampler, expressions, points, [seed, i]) for i in range(first, first + count)]
            with publish(path) as part:
                np.savez(part, allow_pickle=False, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})
        progress.update(first + count)
        shards.append(dict(np.load(path)))
    bank = {name: torch.from_numpy(np.concatenate([shard[name] for shard in shards])) for name in shards[0]}
    return Bank(**bank, anchors=torch.from_numpy(anchor_places(model, sampler.hair, anchors, bank["w"].numpy())))


def _head(sampler: HeadSampler, expressions: ExpressionSampler, points: int, seed: list[int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    w, expression = draw_identity(sampler.model, rng), expressions.draw(rng)
    samples = sampler.draw(w, expression, points, rng)
    return {**vars(samples), "w": w.astype(np.float32), "z_exp": expression.astype(np.float32)}


def anchor_places(model: FaceModel, hair: Hair, anchors: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Anchors (N, A, 3) float32 of the resting heads with identity weights w (N, I), head units."""
    modes = len(model.identity_modes)
    skin = model.neutral[anchors] + np.tensordot(w[:, :modes], model.identity_modes[:, anchors], 1)
    volume = np.stack([hair.offsets(row)[anchors] for row in w[:, modes:]])
    return head_from_ict(skin + volume).astype(np.float32)
