"""retarget: the track that lets another person's sequence drive a subject's head."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.fit.eyes import lids_of
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import load_prior, within_reach
from pipeline.head.track import track_arrays
from pipeline.motion.lids import opened, with_lids
from pipeline.motion.retarget import resting, retarget_codes, retarget_gaze, retarget_poses
from pipeline.settings.retarget import RetargetSettings
from pipeline.store.chunk import read_all, read_arrays, write_chunk


def main() -> None:
    """Read both identities, the driver's track and the subject's own ones, publish the driven track."""
    parser = cli.parser(__doc__, RetargetSettings)
    parser.add_argument("--prior", type=cli.existing_file, required=True, help="head prior, safetensors")
    parser.add_argument("--driver", type=cli.existing_file, required=True, help="the driver's identity.safetensors")
    parser.add_argument("--track", type=cli.existing_file, required=True, help="the driver's track")
    parser.add_argument("--identity", type=cli.existing_file, required=True, help="the subject's identity.safetensors")
    parser.add_argument("--own", type=cli.existing_file, nargs="+", required=True, help="the subject's own tracks")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--sequence", required=True, help="name of the driven sequence, driver~sequence")
    parser.add_argument("--output", type=Path, required=True, help="tracks/{driver}~{sequence}.zarr.zip")
    arguments = parser.parse_args()
    settings: RetargetSettings = arguments.settings

    prior, driver, driven = load_prior(arguments.prior), *map(read_identity, (arguments.driver, arguments.identity))
    for path, identity in ((arguments.driver, driver), (arguments.identity, driven)):
        if identity.prior != file_digest(arguments.prior):
            raise DataError(f"{path}: fitted with another head prior than {arguments.prior}")
    z_exp, poses = read_arrays(arguments.track, "z_exp", "head_from_world")
    own = np.concatenate([read_arrays(path, "z_exp")[0] for path in arguments.own])
    neutral = prior.neutral.numpy()
    codes = retarget_codes(z_exp, own, neutral, settings.strength, settings.relative, settings.guard)
    codes = within_reach(prior, codes)
    moved = retarget_poses(poses, driver, driven, settings.head)
    if settings.relative and prior.config.landmarks:
        shares = 1 + settings.strength * (opened(prior, driver.w_id, z_exp, resting(z_exp, neutral)) - 1)
        codes = with_lids(prior, driven.w_id, codes, moved, resting(own, neutral), np.maximum(shares, 0))
    gaze = driven_gaze(arguments.track, arguments.own, settings.relative)
    write_chunk(
        arguments.output,
        track_arrays(codes, moved, gaze, lids_of(prior, driven.w_id, codes, moved)),
        {**cli.record("retarget", arguments), "start": 0, "stop": len(poses)},
    )


def driven_gaze(track: Path, own: list[Path], relative: bool) -> np.ndarray | None:
    """Gaze (T, 2, 2) of the driver, radians, left eye first, yaw and pitch in head space; None if the track lacks it.

    If `relative`, it is moved from the driver's rest to the subject's, where the subject's `own` tracks have a gaze.
    """
    gaze = read_all(track).get("gaze")
    if gaze is None or not relative:
        return gaze
    return retarget_gaze(gaze, [arrays["gaze"] for arrays in map(read_all, own) if "gaze" in arrays])


if __name__ == "__main__":
    cli.run(main)
