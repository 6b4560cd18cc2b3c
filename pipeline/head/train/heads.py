"""Random heads for training: identities, hair and expressions drawn from their training distribution."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from pipeline.head.train.ict import FaceModel, Hair

NEUTRAL_SHARE, SINGLE_SHARE = 0.15, 0.15


class ExpressionSampler:
    """Sparse mixes of expression weights in 0..1, mostly symmetric, with open jaws, smiles and blinks among them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        index = {name: i for i, name in enumerate(names)}
        self.index = index
        self.partner = np.array([index.get(_other_side(name), i) for i, name in enumerate(names)])
        self.usual = np.array(
            [i for i, n in enumerate(names) if not n.startswith(("PupilDilate", "mouthClose", "jawOpen"))]
        )

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Weights (X,) of one expression; exactly zero (neutral) in a fixed share of the draws."""
        weight = np.zeros(len(self.names))
        kind = rng.random()
        if kind < NEUTRAL_SHARE:
            return weight
        if kind < NEUTRAL_SHARE + SINGLE_SHARE:
            weight[rng.integers(len(self.names))] = rng.random()
        else:
            for i in self._some(rng):
                value = rng.beta(1.2, 1.6)
                weight[i] = value
                if rng.random() < 0.7:
                    weight[self.partner[i]] = np.clip(value + 0.1 * rng.normal(), 0, 1)
            for share, stem in ((0.25, "mouthSmile"), (0.25, "eyeBlink")):
                if rng.random() < share:
                    self._set(weight, stem, np.clip(rng.beta(2, 1) + 0.1 * rng.normal(size=2), 0, 1))
            if rng.random() < 0.45:
                self._set(weight, "jawOpen", np.full(2, rng.beta(1.3, 1.2)))
        if "jawOpen" in self.index and "mouthClose" in self.index:
            jaw = weight[self.index["jawOpen"]]  # closing lips belongs to an open jaw
            weight[self.index["mouthClose"]] = jaw * rng.random() if rng.random() < 0.15 else 0.0
        return weight

    def _some(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.usual, rng.integers(1, 1 + min(8, len(self.usual))), replace=False)

    def _set(self, weight: np.ndarray, stem: str, values: np.ndarray) -> None:
        for i, name in enumerate(n for n in (stem, stem + "_L", stem + "_R") if n in self.index):
            weight[self.index[name]] = values[i % 2]


def _other_side(name: str) -> str:
    return name[:-2] + {"_L": "_R", "_R": "_L"}.get(name[-2:], name[-2:])


def draw_identity(model: FaceModel, rng: np.random.Generator) -> np.ndarray:
    """Identity weights (I + 12,) ~ N(0, 1): the model's modes, then the hair's coefficients."""
    return rng.normal(size=len(model.identity_modes) + Hair.coefficients)


def head_vertices(model: FaceModel, hair: Hair, w: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) cm of a head with hair for identity weights w (I + 12,) and expression weights (X,)."""
    modes = len(model.identity_modes)
    return model.shape(w[:modes], expression) + hair.offsets(w[modes:])


def choose_anchors(model: FaceModel, pairs: int, mid: int) -> np.ndarray:
    """Vertices (2 * pairs + mid,) for anchors: left and right of each pair in turn, then those on the middle line.

    The first pairs are on the ears and the eyes, whose surfaces are the finest; the others are a farthest-point choice
    in which distances on the face count 2.5 times.
    """
    used = np.unique(model.skin)
    x = model.neutral[used]
    front = np.isin(used, np.unique(model.face)) & (x[:, 2] > np.median(x[np.isin(used, model.face), 2]) - 3)
    density = np.where(front, 2.5, 1.0)
    above_cut = x[:, 1] > -13.0
    width = np.abs(x[:, 0]).max()
    middle = np.flatnonzero((np.abs(x[:, 0]) < 0.01 * width) & above_cut)
    left = np.flatnonzero((x[:, 0] > 0.07 * width) & above_cut)
    on_line = _farthest(x[middle], density[middle], mid, [int(x[middle, 2].argmax())], np.full(len(middle), np.inf))
    fine = KDTree(x[left]).query([model.ear_middle, model.eye_middle])[1][:pairs]
    to_line = np.linalg.norm(x[left][:, None] - x[middle[on_line]], axis=-1).min(1)
    on_left = _farthest(x[left], density[left], pairs, fine, np.minimum(to_line, 2 * x[left, 0]))
    left_vertices = used[left[on_left]]
    both = np.stack([left_vertices, model.mirror[left_vertices]], 1).ravel()
    return np.concatenate([both, used[middle[on_line]]])


def _farthest(
    points: np.ndarray, density: np.ndarray, count: int, first: Sequence[int], distance: np.ndarray
) -> np.ndarray:
    """Indices (count,) of points (N, 3): the first ones, then each the farthest from those before it and from what
    else there is, at distances (N,)."""
    chosen: list[int] = []
    for i in range(count):
        chosen.append(int(first[i] if i < len(first) else (distance * density).argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen, int)
