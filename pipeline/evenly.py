"""The one way to pick some of many: evenly spread, the first and the last among them."""

import numpy as np


def evenly(total: int, count: int) -> np.ndarray:
    """Indices (at most `count`,) int64 into `total` things in a row, rising, none twice, both ends among them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
