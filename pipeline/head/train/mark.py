"""Teaches a head prior that was trained on ICT-FaceKit where facial landmarks lie; training does it by itself.

    python -m pipeline.head.train.mark IN.safetensors OUT.safetensors --ict ict_facekit.npz

The landmarks are vertices of the face model, so their places at rest are linear in the identity weights. The networks
and codes stay as they are, bit for bit.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.model.prior import HeadPrior, load_prior, save_prior
from pipeline.head.train.ict import HEAD_PER_CM, FaceModel, Hair, head_from_ict, load_face_model
from pipeline.store.chunk import publish


@torch.no_grad()
def mark(prior: HeadPrior, model: FaceModel) -> None:
    """Set the places of the landmarks in a prior whose identity weights are the model's, then the hair's."""
    mean = head_from_ict(model.neutral[model.landmarks])  # (L, 3)
    moves = HEAD_PER_CM * model.identity_modes[:, model.landmarks].astype(float)  # (I, L, 3)
    hair = np.zeros((Hair.coefficients, *mean.shape))  # grows round the face, not in it
    prior.landmarks.mean.copy_(torch.from_numpy(mean.reshape(-1)))
    prior.landmarks.basis.copy_(torch.from_numpy(np.concatenate([moves, hair]).reshape(-1, mean.size).T.copy()))


def marked(prior: HeadPrior, model: FaceModel) -> HeadPrior:
    """The same prior with landmarks. Raises DataError when its identity weights cannot be the model's."""
    expected = len(model.identity_modes) + Hair.coefficients
    if prior.config.identity_modes != expected:
        raise DataError(f"a prior of {prior.config.identity_modes} identity weights; ICT-FaceKit's have {expected}")
    result = HeadPrior(prior.config.model_copy(update={"landmarks": len(model.landmarks)}))
    result.load_state_dict(prior.state_dict(), strict=False)
    mark(result, model)
    return result


def main() -> None:
    """Read, mark, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path, help="head prior trained by pipeline.stages.prior")
    parser.add_argument("output", type=Path, help="the same with landmarks")
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    given = parser.parse_args()
    result = marked(load_prior(given.prior), load_face_model(given.ict))
    with publish(given.output) as partial:
        save_prior(result, partial)


if __name__ == "__main__":
    cli.run(main)
