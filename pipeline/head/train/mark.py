"""Adds to a head prior trained on ICT-FaceKit where landmarks and eyeballs lie, and how far its codes reach.

    python -m pipeline.head.train.mark IN.safetensors OUT.safetensors --ict ict_facekit.npz

The landmarks are vertices of the face model and the eyeballs' centres means of some, so their places at rest are linear
in the identity weights. Expression weights were never below zero in training. Training says all this by itself. The
networks and codes stay as they are, bit for bit.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.model.prior import CodeStatistics, HeadPrior, load_prior, save_prior
from pipeline.head.train.ict import HEAD_PER_CM, FaceModel, Hair, head_from_ict, load_face_model
from pipeline.store.chunk import publish


@torch.no_grad()
def mark(prior: HeadPrior, model: FaceModel) -> None:
    """Set the places of landmarks and eyeballs in a prior whose identity weights are the model's, then the hair's."""
    _set(prior.landmarks, model.neutral[model.landmarks], model.identity_modes[:, model.landmarks])
    balls = [np.unique(ball) for ball in _eyeballs(model)]
    centres = np.stack([model.neutral[ball].mean(0) for ball in balls])
    _set(prior.eyes, centres, np.stack([model.identity_modes[:, ball].mean(1) for ball in balls], 1))
    off = [np.linalg.norm(model.neutral[ball] - centre, axis=-1) for ball, centre in zip(balls, centres, strict=True)]
    prior.eye_radius.copy_(torch.tensor([HEAD_PER_CM * distance.mean() for distance in off]))


def _eyeballs(model: FaceModel) -> list[np.ndarray]:
    """The triangles of each eyeball, the subject's left one first."""
    left = model.neutral[model.eyeballs, 0].mean(1) > 0
    return [model.eyeballs[left], model.eyeballs[~left]]


def _set(places: CodeStatistics, mean: np.ndarray, modes: np.ndarray) -> None:
    """Places from their mean (L, 3) and its identity modes (I, L, 3) in the face model, cm."""
    moves = HEAD_PER_CM * modes.astype(float)
    hair = np.zeros((Hair.coefficients, *mean.shape))  # grows round the face, not in it
    places.mean.copy_(torch.from_numpy(head_from_ict(mean).reshape(-1)))
    places.basis.copy_(torch.from_numpy(np.concatenate([moves, hair]).reshape(-1, mean.size).T.copy()))


def marked(prior: HeadPrior, model: FaceModel) -> HeadPrior:
    """The same prior with landmarks and eyeballs. Raises DataError when its identity weights cannot be the model's."""
    expected = len(model.identity_modes) + Hair.coefficients
    if prior.config.identity_modes != expected:
        raise DataError(f"a prior of {prior.config.identity_modes} identity weights; ICT-FaceKit's have {expected}")
    result = HeadPrior(
        prior.config.model_copy(update={"landmarks": len(model.landmarks), "eyes": 2, "least_code": 0.0})
    )
    result.load_state_dict(prior.state_dict(), strict=False)
    mark(result, model)
    return result


def main() -> None:
    """Read, mark, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path, help="head prior trained by pipeline.stages.prior")
    parser.add_argument("output", type=Path, help="the same with landmarks and eyeballs")
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    given = parser.parse_args()
    result = marked(load_prior(given.prior), load_face_model(given.ict))
    with publish(given.output) as partial:
        save_prior(result, partial)


if __name__ == "__main__":
    cli.run(main)
