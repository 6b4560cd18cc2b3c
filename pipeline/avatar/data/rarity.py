"""How rare the expressions of the training pictures are, so that some can be drawn more often."""

import torch


def rarity(codes: torch.Tensor) -> torch.Tensor:
    """Weights (N,) float64 of codes (N, E): the squared distance to the nearest other code, over the mean of them.

    Equal codes (one time step seen by many cameras) count as one, and weigh alike; all weigh 1 where no two differ.
    """
    different, which = codes.double().unique(dim=0, return_inverse=True)
    if len(different) == 1:
        return torch.ones(len(codes), dtype=torch.float64)
    # Not by matrix products, which lose what tells neighbours apart. The nearest of all is the code itself.
    distances = torch.cdist(different, different, compute_mode="donot_use_mm_for_euclid_dist")
    weights = distances.topk(2, largest=False).values[:, 1].square()[which]
    return weights / weights.mean()
