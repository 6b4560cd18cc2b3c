"""How well landmarks and eyeballs are carried to a prior whose own ones are known, as to a stranger.

    python -m benchmarks.marks [--prior F] [--modes N] [--heads N]

The prior is stripped of its landmarks and eyeballs, with `--modes` its identity weights are cut to the widest
directions too, and `pipeline.head.marks` carries those of the shipped prior to it. By default it is the shipped one;
other networks are those of earlier trainings, from the history, marked by `pipeline.head.train.mark`. Prints one JSON
line:

rest_mm, rest_eyes_mm: mean distance of landmarks and eyeballs to the prior's own ones on the mean head.
random_mm, random_p90_mm, random_eyes_mm: the same on random heads.
still_mm, still_eyes_mm: on these, where they would lie if no identity moved them.
seconds: of CPU time.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.head.marks import SHIPPED, marked
from pipeline.head.model.prior import HeadPrior, load_prior, numbers


def cut(prior: HeadPrior, modes: int) -> HeadPrior:
    """The prior with the widest directions of its identity alone."""
    state = prior.state_dict()
    _, _, directions = np.linalg.svd(numbers(prior.identity.basis), full_matrices=False)
    for name in ("identity.basis", "landmarks.basis", "eyes.basis"):
        state[name] = state[name] @ prior.tensor(directions[:modes].T)
    result = HeadPrior(prior.config.model_copy(update={"identity_modes": modes}))
    result.load_state_dict(state)
    return result.requires_grad_(False)


def stripped(prior: HeadPrior) -> HeadPrior:
    """The prior without landmarks and eyeballs."""
    result = HeadPrior(prior.config.model_copy(update={"landmarks": 0, "eyes": 0}))
    result.load_state_dict({name: prior.state_dict()[name] for name in result.state_dict()})
    return result.requires_grad_(False)


def main() -> None:
    """Strip, carry, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=SHIPPED, help="head prior with landmarks and eyeballs")
    parser.add_argument("--modes", type=int, help="identity weights that it keeps; by default all")
    parser.add_argument("--heads", type=int, default=200, help="random heads")
    given = parser.parse_args()
    torch.set_num_threads(1)
    truth = load_prior(given.prior)
    truth = cut(truth, given.modes) if given.modes else truth
    begun = time.process_time()
    carried = marked(stripped(truth), load_prior(SHIPPED))
    seconds = time.process_time() - begun
    weights = torch.randn((given.heads + 1, truth.config.identity_modes), generator=torch.Generator().manual_seed(0))
    weights[0] = 0
    mm = 1e3 / truth.config.units_per_metre

    def off(name: str, shown: torch.Tensor) -> np.ndarray:
        found, true = getattr(carried, name)(shown), getattr(truth, name)(weights)
        return mm * numbers((found - true).norm(dim=-1))

    landmarks, eyes = off("landmarks_from", weights), off("eyes_from", weights)
    figures = {
        "rest_mm": landmarks[0].mean(),
        "rest_eyes_mm": eyes[0].mean(),
        "random_mm": landmarks[1:].mean(),
        "random_p90_mm": np.quantile(landmarks[1:], 0.9),
        "random_eyes_mm": eyes[1:].mean(),
        "still_mm": off("landmarks_from", 0 * weights)[1:].mean(),
        "still_eyes_mm": off("eyes_from", 0 * weights)[1:].mean(),
        "seconds": seconds,
    }
    print(json.dumps({name: round(float(value), 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
