"""retarget: the track that lets another person's sequence drive a subject's head."""

from pathlib import Path

import torch

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import load_prior
from pipeline.motion.retarget import retarget_poses, strengthened
from pipeline.settings.retarget import RetargetSettings
from pipeline.store.chunk import Array, read_arrays, write_chunk


def main() -> None:
    """Read both identities and the driver's track, publish the driven track."""
    parser = cli.parser(__doc__, RetargetSettings)
    parser.add_argument("--prior", type=cli.existing_file, required=True, help="head prior, safetensors")
    parser.add_argument("--driver", type=cli.existing_file, required=True, help="the driver's identity.safetensors")
    parser.add_argument("--track", type=cli.existing_file, required=True, help="the driver's track")
    parser.add_argument("--identity", type=cli.existing_file, required=True, help="the subject's identity.safetensors")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--sequence", required=True, help="name of the driven sequence, driver~sequence")
    parser.add_argument("--output", type=Path, required=True, help="tracks/{driver}~{sequence}.zarr.zip")
    arguments = parser.parse_args()

    prior, driver, driven = load_prior(arguments.prior), *map(read_identity, (arguments.driver, arguments.identity))
    for path, identity in ((arguments.driver, driver), (arguments.identity, driven)):
        if identity.prior != file_digest(arguments.prior):
            raise DataError(f"{path}: fitted with another head prior than {arguments.prior}")
    z_exp, poses = read_arrays(arguments.track, "z_exp", "head_from_world")
    codes = strengthened(torch.from_numpy(z_exp), prior.neutral, arguments.settings.strength)
    axes = ("time", "row", "column")
    write_chunk(
        arguments.output,
        {
            "z_exp": Array(codes.numpy(), ("time", "code"), "1", "expression codes of the driver"),
            "head_from_world": Array(
                retarget_poses(poses, driver, driven), axes, "head unit / m", "similarity from world metres of subject"
            ),
        },
        {**cli.record("retarget", arguments), "start": 0, "stop": len(poses)},
    )


if __name__ == "__main__":
    cli.run(main)
