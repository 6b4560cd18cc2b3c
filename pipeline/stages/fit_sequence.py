"""fit_sequence: expression code and head pose of every time step of one sequence."""

from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.head.fit.clouds import Clouds, read_landmarks, read_points
from pipeline.head.fit.eyes import eyeballs_of, gaze_of, lids_of, name_unseen
from pipeline.head.fit.fitter import Fitter
from pipeline.head.fit.landmarks import as_seen, believed
from pipeline.head.fit.least_squares.residuals import Heads
from pipeline.head.fit.sequence import BESIDE, Smoothness, fit_sequence
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.head.track import track_arrays
from pipeline.settings.fit_sequence import FitSequenceSettings
from pipeline.store.chunk import Array, read_arrays, write_chunk
from pipeline.workers import compute_alike, workers

MOST_FAILED = 0.5  # share of a track's steps: what is left is no track to train on


def _eyeballs(prior: HeadPrior, identity: np.ndarray, sequence: str) -> dict[str, Array]:
    """Where the eyeballs lie at rest, where the prior knows."""
    if not prior.config.eyes:
        return {}
    spheres = eyeballs_of(prior, identity).astype(np.float32)
    name_unseen(spheres, sequence)
    about = "eyeballs at rest, the left one first: centre and radius"
    return {"eyeballs": Array(spheres, ("eye", "sphere"), "head unit", about)}


def _gaze(prior: HeadPrior, identity: np.ndarray, heads: Heads, lids: np.ndarray, points: Path) -> np.ndarray:
    """Gaze (T, 2, 2) of every time step from the irises in a file of points."""
    irises, seen, landmarks, known = read_arrays(points, "irises", "iris_views", "points", "views")
    irises = np.where(seen[..., None] > 0, irises, np.nan)
    landmarks = np.where(known[..., None] > 0, landmarks, np.nan)
    return gaze_of(prior, identity, heads.head_from_world, irises, landmarks, lids)


def main() -> None:
    """Read identity, clouds and silhouettes, fit, publish the track."""
    parser = cli.parser(__doc__, FitSequenceSettings)
    parser.add_argument("--prior", type=Path, required=True, help="head prior, safetensors")
    parser.add_argument("--identity", type=Path, required=True, help="identity.safetensors")
    parser.add_argument("--cameras", type=Path, required=True, help="cameras.json")
    parser.add_argument("--clouds", type=Path, nargs="+", required=True, help="all spans of the sequence")
    parser.add_argument("--frames", type=Path, nargs="+", required=True, help="the same of the frames, for their alpha")
    parser.add_argument("--landmarks", type=Path, nargs="+", default=[], help="of the sequence, if it has some")
    parser.add_argument("--points", type=Path, help="what triangulate made of the sequence, instead of landmarks")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--threads", type=int, default=1, help="windows tracked at once")
    parser.add_argument("--output", type=Path, required=True, help="tracks/{sequence}.zarr.zip")
    arguments = parser.parse_args()
    settings = arguments.settings
    device = claim(settings.device)
    compute_alike()

    prior, identity = load_prior(arguments.prior), read_identity(arguments.identity)
    detected = read_points([arguments.points] if arguments.points else [], prior)
    landmarks = detected or read_landmarks(arguments.landmarks, prior)
    clouds = Clouds(arguments.clouds, arguments.frames, landmarks)
    if identity.prior != file_digest(arguments.prior):
        raise DataError(
            f"{arguments.identity}: fitted with another head prior than {arguments.prior}; rerun fit_identity"
        )
    if clouds.sequence != arguments.sequence:
        raise DataError(f"{arguments.clouds[0]}: clouds of {clouds.sequence}; expected {arguments.sequence}")
    rig, bias = read_rig(arguments.cameras), identity.landmark_bias
    clouds.require_plausible()
    clouds = believed(clouds, rig)
    measured = bool(detected) and len(bias) > 0
    fitter = Fitter.of(
        deepcopy(as_seen(prior, bias) if measured else prior).to(device),
        rig,
        settings,
        landmarks=measured or not detected,
        lids=measured,
    )
    smoothness = Smoothness(settings.smooth_expression, settings.smooth_degrees, settings.smooth_mm, settings.sweeps)
    who = identity.w_id.astype(float)
    with workers(arguments.threads, compute_alike) if device == "cpu" else nullcontext(map) as run:
        heads, distance_mm = fit_sequence(fitter, who, clouds, settings.window, smoothness, run, BESIDE[device])
    cli.log.info(
        "%s: median distance %.2f mm, worst step %.2f mm", clouds.sequence, np.median(distance_mm), distance_mm.max()
    )
    failed = np.flatnonzero(distance_mm > settings.bad_mm).tolist()
    if len(failed) > MOST_FAILED * len(clouds):
        raise DataError(
            f"{arguments.sequence} of {arguments.subject}: {len(failed)} of {len(clouds)} time steps have failed"
            f" (cloud and face more than {settings.bad_mm} mm apart, in the median {np.median(distance_mm):.1f});"
            " expected no more than half; are the calibration and the sizes of the pictures right?"
        )
    for step in failed:
        cli.log.warning("%s: step %d has failed: median distance %.1f mm", clouds.sequence, step, distance_mm[step])

    with torch.no_grad():
        z_exp = prior.z_exp_from(prior.tensor(heads.expression)).numpy()
    lids, gaze = lids_of(prior, who, z_exp, heads.head_from_world), None
    if lids is not None and arguments.points and prior.config.eyes:
        gaze = _gaze(prior, who, heads, lids, arguments.points)
    write_chunk(
        arguments.output,
        {
            **track_arrays(z_exp, heads.head_from_world, gaze, lids),
            "residual_mm": Array(
                distance_mm.astype(np.float32),
                ("time",),
                "mm",
                "median distance of the step's cloud to the fitted surface on the face",
            ),
            **_eyeballs(prior, who, clouds.sequence),
        },
        {**cli.record("fit_sequence", arguments), "start": 0, "stop": len(clouds), "failed": failed},
    )


if __name__ == "__main__":
    cli.run(main)
