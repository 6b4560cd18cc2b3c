"""animate: the track of a head that keyframes (JSON) or the curves of a face capture app (CSV) move."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.capture.curves import HEAD, mirrored, read_curves, resampled
from pipeline.errors import DataError
from pipeline.head.fit.eyes import lids_of
from pipeline.head.model.arkit import read_map
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import load_prior, within_reach
from pipeline.head.track import track_arrays
from pipeline.motion.animate import Motion, of_curves, of_keyframes
from pipeline.motion.eyes import resting_gaze
from pipeline.motion.retarget import guarded, home, resting
from pipeline.settings.animate import AnimateSettings
from pipeline.settings.keyframes import Animation, read_keys
from pipeline.store.chunk import read_all, read_arrays, read_attributes, write_chunk


def main() -> None:
    """Read the motion and what belongs to the subject, publish the track."""
    parser = cli.parser(__doc__, AnimateSettings)
    parser.add_argument("--motion", type=cli.existing_file, required=True, help="keyframes .json or curves .csv")
    parser.add_argument("--prior", type=cli.existing_file, required=True, help="head prior, safetensors")
    parser.add_argument("--map", type=cli.existing_file, required=True, help="arkit.safetensors, of ARKit's weights")
    parser.add_argument("--identity", type=cli.existing_file, required=True, help="the subject's identity.safetensors")
    parser.add_argument("--tracks", type=cli.existing_file, nargs="+", required=True, help="the subject's own tracks")
    parser.add_argument("--rate", type=float, required=True, help="pictures in a second of the film")
    parser.add_argument("--steps", type=int, required=True, help="time steps that the workflow expects")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--sequence", required=True, help="name of the motion")
    parser.add_argument("--output", type=Path, required=True, help="tracks/{motion}.zarr.zip")
    given = parser.parse_args()
    settings: AnimateSettings = given.settings

    prior, identity = load_prior(given.prior), read_identity(given.identity)
    if identity.prior != file_digest(given.prior):
        raise DataError(f"{given.identity}: fitted with another head prior than {given.prior}")
    arkit = read_map(given.map, prior.config.exp)
    own = {read_attributes(path)["sequence"]: read_arrays(path, "z_exp")[0] for path in given.tracks}
    codes = np.concatenate(list(own.values()))
    gazes = [arrays["gaze"] for arrays in map(read_all, given.tracks) if "gaze" in arrays]
    rest = resting(codes, prior.neutral.numpy())

    def own_face(name: str) -> np.ndarray:
        sequence, _, step = name.rpartition(":")
        if sequence not in own or int(step) >= len(own[sequence]):
            steps = ", ".join(f"{known} (0 to {len(rows) - 1})" for known, rows in own.items())
            raise DataError(f"{given.motion}: no face {name}; there are {steps}")
        return own[sequence][int(step)]

    if given.motion.suffix.lower() == ".csv":
        curves = read_curves(given.motion, settings.timecode_rate)
        curves = resampled(mirrored(curves) if settings.mirrored else curves, given.rate)
        if curves.head is not None:
            signs = [-1 if name.removeprefix("head").lower() in settings.reversed else 1 for name in HEAD]
            curves = replace(curves, head=curves.head * signs)
        motion = of_curves(curves, arkit, rest, home(identity), 1 if settings.angles == "radians" else np.pi / 180)
    else:
        motion = of_keyframes(read_keys(given.motion, Animation), given.rate, arkit, rest, home(identity), own_face)
    if len(motion[0]) != given.steps:
        raise DataError(f"{given.motion}: {len(motion[0])} steps; expected {given.steps}, as when the workflow began")
    z_exp, poses, gaze = finished(motion, rest, codes, home(identity), settings)
    z_exp = within_reach(prior, z_exp)
    lids = lids_of(prior, identity.w_id, z_exp, poses)
    write_chunk(
        given.output,
        track_arrays(z_exp, poses, resting_gaze(gazes) + gaze, lids),
        {**cli.record("animate", given), "start": 0, "stop": given.steps},
    )


def finished(motion: Motion, rest: np.ndarray, own: np.ndarray, still: np.ndarray, settings: AnimateSettings) -> Motion:
    """The motion with the settings' strength, guard and head; the subject's codes are `rest` (E,) and `own` (N, E)."""
    codes, poses, gaze = motion
    moves = guarded(codes - rest, own - rest, settings.guard) if settings.guard else codes - rest
    poses = poses if settings.head else np.broadcast_to(still, poses.shape).copy()
    return (rest + settings.strength * moves).astype(np.float32), poses, gaze


if __name__ == "__main__":
    cli.run(main)
