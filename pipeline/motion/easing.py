"""Values between keys."""

from collections.abc import Sequence

import numpy as np

from pipeline.settings.keyframes import Easing, Key


def eased(share: np.ndarray, easing: Easing) -> np.ndarray:
    """How far (...,) from one key to the next, at shares 0..1 (...,) of the time between."""
    if easing == "smooth":
        return share * share * (3 - 2 * share)
    if easing == "in":
        return share * share
    if easing == "out":
        return share * (2 - share)
    return np.where(share < 1, 0.0, 1.0) if easing == "hold" else share


def between(keys: Sequence[Key], values: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Values (T, ...) at moments (T,) from those of K keys (K, ...); before the first and after the last they stay."""
    moments = np.array([key.seconds for key in keys])
    after = np.searchsorted(moments, seconds, side="right").clip(1, max(len(keys) - 1, 1))
    if len(keys) == 1:
        return np.repeat(values, len(seconds), axis=0)
    share = ((seconds - moments[after - 1]) / (moments[after] - moments[after - 1])).clip(0, 1)
    way = np.array([eased(part, keys[place].easing) for part, place in zip(share, after, strict=True)])
    way = way.reshape(-1, *[1] * (values.ndim - 1))
    return (1 - way) * values[after - 1] + way * values[after]
