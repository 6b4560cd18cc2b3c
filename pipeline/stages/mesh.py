"""mesh: the surface of the fitted head at every time step of a span, with canonical coordinates, cut at the neck."""

from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline import cli
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.head.model.identity import file_digest, read_identity
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import cut_through_chin, mesh_head
from pipeline.mesh.mesh import Mesh, write_meshes
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import read_arrays


def main() -> None:
    """Read prior, identity and track, mesh every time step, publish one chunk."""
    parser = cli.parser(__doc__, MeshSettings)
    cli.add_span(parser)
    parser.add_argument("--prior", type=Path, required=True, help="head prior, safetensors")
    parser.add_argument("--identity", type=cli.existing_file, required=True, help="identity.safetensors")
    parser.add_argument("--track", type=cli.existing_file, required=True, help="tracks/{sequence}.zarr.zip")
    parser.add_argument("--output", type=Path, required=True, help="meshes/{sequence}/{span}.zarr.zip")
    arguments = parser.parse_args()
    settings: MeshSettings = arguments.settings

    device = claim(settings.device)
    prior, identity = load_prior(arguments.prior).to(device), read_identity(arguments.identity)
    if identity.prior != file_digest(arguments.prior):
        raise DataError(f"{arguments.identity}: fitted with another head prior than {arguments.prior}")
    z_id = torch.from_numpy(identity.z_id).to(device)
    z_exp, poses = read_arrays(arguments.track, "z_exp", "head_from_world")
    if not 0 <= arguments.start < arguments.stop <= len(poses):
        raise DataError(f"{arguments.track}: {len(poses)} steps; asked for {arguments.start} to {arguments.stop}")
    neck = Plane(settings.neck_offset, settings.neck_tilt_degrees)
    progress = cli.Progress(arguments.stop - arguments.start, "meshes")

    def meshes() -> Iterator[Mesh]:
        for step in range(arguments.start, arguments.stop):
            code = torch.from_numpy(z_exp[step]).to(device)
            try:
                mesh = mesh_head(prior, z_id, code, poses[step], settings.voxel_mm, neck)
            except DataError as error:
                raise DataError(f"{arguments.track}: step {step}: {error}") from error
            if step == arguments.start and cut_through_chin(mesh, neck):
                cli.log.warning(
                    "%s: the neck cut runs through the chin of %s; expected below it: lower mesh.neck_offset (%g)",
                    arguments.track, arguments.subject, neck.offset,
                )  # fmt: skip
            yield mesh
            progress.update(step + 1 - arguments.start, f", {len(mesh.faces)} triangles")

    attributes = {"neck": {"offset": neck.offset, "tilt_degrees": neck.tilt_degrees}}
    write_meshes(arguments.output, meshes(), cli.record("mesh", arguments) | attributes)


if __name__ == "__main__":
    cli.run(main)
