"""fit_sequence: expression code and head pose of every time step of one sequence."""

from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.errors import DataError
from pipeline.head.fit.clouds import Clouds, read_landmarks, read_points
from pipeline.head.fit.eyes import gaze_of
from pipeline.head.fit.fitter import Fitter, Smoothness, fit_sequence
from pipeline.head.fit.landmarks import as_seen, believed
from pipeline.head.fit.lids import apertures
from pipeline.head.fit.residuals import Heads, canonical_landmarks
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.settings.fit_sequence import FitSequenceSettings
from pipeline.store.chunk import Array, read_arrays, write_chunk
from pipeline.workers import compute_alike, workers

MOST_FAILED = 0.5  # share of a track's steps: what is left is no track to train on


def _eyes(
    prior: HeadPrior, identity: np.ndarray, heads: Heads, z_exp: np.ndarray, points: Path | None
) -> dict[str, Array]:
    """Lids and, where irises were seen, gaze of every time step, as far as the prior knows where they lie; eyeballs."""
    found = {}
    if prior.config.eyes:
        centres = prior.eyes_from(torch.as_tensor(identity, dtype=torch.float32))
        spheres = torch.cat([centres, prior.eye_radius[:, None]], -1).numpy()
        about = "eyeballs at rest, the left one first: centre and radius"
        found["eyeballs"] = Array(spheres, ("eye", "sphere"), "head unit", about)
    if prior.config.landmarks:
        places = canonical_landmarks(prior, identity)[0]
        lids = apertures(prior, identity, z_exp, heads.head_from_world, places)
        about = "between the lids of the left and the right eye"
        found["lids"] = Array(lids.astype(np.float32), ("time", "eye"), "mm", about)
        if points and prior.config.eyes:
            irises, seen, landmarks, known = read_arrays(points, "irises", "iris_views", "points", "views")
            irises = np.where(seen[..., None] > 0, irises, np.nan)
            landmarks = np.where(known[..., None] > 0, landmarks, np.nan)
            gaze = gaze_of(prior, identity, heads.head_from_world, irises, landmarks, lids)
            about = "yaw to the subject's left and pitch upwards of the left and the right eye, head space"
            found["gaze"] = Array(gaze.astype(np.float32), ("time", "eye", "angle"), "radian", about)
    return found


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
        as_seen(prior, bias) if measured else prior,
        rig,
        settings,
        landmarks=measured or not detected,
        lid_bias=identity.lid_bias if measured else None,
    )
    smoothness = Smoothness(settings.smooth_expression, settings.smooth_degrees, settings.smooth_mm, settings.sweeps)
    with workers(arguments.threads, compute_alike) as run:
        heads, distance_mm = fit_sequence(fitter, identity.w_id.astype(float), clouds, settings.window, smoothness, run)
    cli.log.info(
        "%s: median distance %.2f mm, worst step %.2f mm", clouds.sequence, np.median(distance_mm), distance_mm.max()
    )
    failed = np.flatnonzero(distance_mm > settings.bad_mm).tolist()
    if len(failed) > MOST_FAILED * len(clouds):
        raise DataError(
            f"{arguments.sequence} of {arguments.subject}: {len(failed)} of {len(clouds)} time steps have failed"
            f" (cloud and head more than {settings.bad_mm} mm apart, in the median {np.median(distance_mm):.1f});"
            " expected no more than half; are the calibration and the sizes of the pictures right?"
        )
    for step in failed:
        cli.log.warning("%s: step %d has failed: median distance %.1f mm", clouds.sequence, step, distance_mm[step])

    with torch.no_grad():
        z_exp = prior.z_exp_from(torch.as_tensor(heads.expression, dtype=torch.float32)).numpy()
    eyes = _eyes(prior, identity.w_id.astype(float), heads, z_exp, arguments.points)
    write_chunk(
        arguments.output,
        {
            "z_exp": Array(z_exp, ("time", "code"), "1", "expression codes of the head prior"),
            "head_from_world": Array(
                heads.head_from_world,
                ("time", "row", "column"),
                "head unit / m",
                "similarity from world metres to head units",
            ),
            "residual_mm": Array(
                distance_mm.astype(np.float32),
                ("time",),
                "mm",
                "median distance of the step's cloud to the fitted surface",
            ),
            **eyes,
        },
        {**cli.record("fit_sequence", arguments), "start": 0, "stop": len(clouds), "failed": failed},
    )


if __name__ == "__main__":
    cli.run(main)
