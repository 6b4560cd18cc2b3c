"""fit_identity: one z_id for a subject from key frames of its training sequences."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.cameras.rig import Rig, read_rig
from pipeline.device import claim
from pipeline.head.fit.beside import usual_bias
from pipeline.head.fit.clouds import by_sequence, read_landmarks, read_points
from pipeline.head.fit.fitter import Fitter, fit_identity
from pipeline.head.fit.landmarks import as_seen, believed, bias_of, shared_mm
from pipeline.head.model import pose
from pipeline.head.model.identity import Identity, file_digest, write_identity
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.settings.fit_identity import FitIdentitySettings
from pipeline.workers import compute_alike


def _fitter(prior: HeadPrior, rig: Rig, settings: FitIdentitySettings, detected: bool, steps: int) -> Fitter:
    """The fitter, which knows a detector's usual bias, and that all key frames share the subject's own."""
    if not detected:
        return Fitter.of(deepcopy(prior).to(settings.device), rig, settings)
    believed_mm = shared_mm(settings, min(settings.key_frames, steps))
    seen_by = deepcopy(as_seen(prior, usual_bias(prior))).to(settings.device)
    return Fitter.of(seen_by, rig, settings.model_copy(update=believed_mm), lids=True)


def main() -> None:
    """Read clouds and silhouettes, fit, publish identity.safetensors."""
    parser = cli.parser(__doc__, FitIdentitySettings)
    parser.add_argument("--prior", type=Path, required=True, help="head prior, safetensors")
    parser.add_argument("--cameras", type=Path, required=True, help="cameras.json")
    parser.add_argument("--clouds", type=Path, nargs="+", required=True, help="all spans of all training sequences")
    parser.add_argument("--frames", type=Path, nargs="+", required=True, help="the same of the frames, for their alpha")
    parser.add_argument("--landmarks", type=Path, nargs="+", default=[], help="of the sequences that have some")
    parser.add_argument(
        "--points", type=Path, nargs="+", default=[], help="what triangulate made, instead of landmarks"
    )
    parser.add_argument("--output", type=Path, required=True, help="identity.safetensors")
    arguments = parser.parse_args()
    settings = arguments.settings
    claim(settings.device)
    compute_alike()

    prior = load_prior(arguments.prior)
    detected = read_points(arguments.points, prior)
    landmarks = detected or read_landmarks(arguments.landmarks, prior)
    sequences = by_sequence(arguments.clouds, arguments.frames, landmarks)
    for clouds in sequences:
        clouds.require_plausible()
    rig = read_rig(arguments.cameras)
    sequences = [believed(clouds, rig) for clouds in sequences]
    fitter = _fitter(prior, rig, settings, bool(detected), sum(map(len, sequences)))
    heads, medians, names = fit_identity(fitter, sequences, settings.key_frames)
    for name, median in zip(names, medians, strict=True):
        cli.log.info("%s: median distance on the face %.2f mm", name, median)

    seen = {clouds.sequence: clouds.landmarks for clouds in sequences}
    points = np.stack([seen[name][int(step)] for name, step in (key.rsplit(":", 1) for key in names)])
    bias = {"landmark_bias": bias_of(prior, heads, points, settings.landmark_mm)} if detected else {}
    with torch.no_grad():
        z_id = prior.z_id_from(prior.tensor(heads.identity)).numpy()
    centre, up, front = (np.mean(part, 0) for part in pose.centre_up_front(heads.head_from_world))
    identity = Identity(
        z_id=z_id,
        w_id=heads.identity,
        scale=pose.scale_of(heads.head_from_world)[:1],
        centre=centre,
        up=up / np.linalg.norm(up),
        front=front / np.linalg.norm(front),
        prior=file_digest(arguments.prior),
        key_frames=tuple(names),
        residual_mm=tuple(round(float(median), 3) for median in medians),
        **bias,
    )
    write_identity(arguments.output, identity, cli.record("fit_identity", arguments))


if __name__ == "__main__":
    cli.run(main)
