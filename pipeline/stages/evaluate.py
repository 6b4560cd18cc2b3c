"""Measure the avatar and two baselines on held-out cameras and sequences; write metrics.json and their pictures."""

import argparse
from pathlib import Path

from pipeline import cli
from pipeline.avatar.data.chosen import cameras_there
from pipeline.cameras.rig import read_rig
from pipeline.evaluate.baselines.mesh_colour import MeshColour
from pipeline.evaluate.baselines.nearest_frame import NearestFrame
from pipeline.evaluate.evaluation import Judge, Viewing, measure, table, write_comparison, write_metrics
from pipeline.evaluate.footage import Footage, read_tracks
from pipeline.evaluate.intervals import write_figures
from pipeline.evaluate.measures.faces import Embedding, Faces
from pipeline.evaluate.measures.lpips import load_lpips
from pipeline.evaluate.pictures import write_pictures
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.store.reel import open_reels

SHIPPED = "shipped"


def names(text: str) -> tuple[str, ...]:
    """An argparse type: names separated by commas, none when empty."""
    return tuple(name for name in text.split(",") if name)


def arguments() -> argparse.Namespace:
    """The command line."""
    result = cli.parser(__doc__, EvaluateSettings)
    for kind in ("renders", "targets", "buffers", "tracks"):
        result.add_argument(f"--{kind}", type=cli.existing_file, nargs="+", required=True, help="of all sequences")
    result.add_argument("--rig", type=cli.existing_file, required=True, help="rigs/capture.json")
    result.add_argument("--held-out-cameras", type=names, required=True, help="names, separated by commas")
    result.add_argument("--held-out-sequences", type=names, required=True, help="names, separated by commas")
    result.add_argument("--faces", help="folder of the networks of detect, `shipped` for this environment's")
    result.add_argument("--output", type=Path, required=True, help="metrics.json")
    result.add_argument("--pictures", type=Path, required=True, help="pictures.tsv, the figures of every picture")
    result.add_argument("--figures", type=Path, required=True, help="figures.tsv, by sequence and camera, intervals")
    result.add_argument("--comparison", type=Path, required=True, help="comparison.zarr.zip, pictures for the report")
    return result.parse_args()


def judges(faces: str | None, settings: EvaluateSettings) -> list[Judge]:
    """Those whose networks are there; a line for each that is not."""
    result: list[Judge] = []
    if settings.lpips:
        result.append(load_lpips(Path(settings.lpips)).figures)
    else:
        cli.log.info("no LPIPS: evaluate.lpips names no file of its weights")
    if not faces:
        cli.log.info("no AKD, no CSIM: no face networks")
        return result
    embedding = None
    if settings.face_embedding:
        embedding = Embedding(Path(settings.face_embedding), settings.face_colours)
    else:
        cli.log.info("no CSIM: evaluate.face_embedding names no network")
    return [*result, Faces(None if faces == SHIPPED else faces, embedding).figures]


def main() -> None:
    """Read, measure, publish."""
    given = arguments()
    with (
        open_reels(given.renders) as renders,
        open_reels(given.targets) as targets,
        open_reels(given.buffers) as buffers,
    ):
        rig = read_rig(given.rig)
        held_out_cameras = tuple(cameras_there(given.held_out_cameras, rig.names, given.rig))
        footage = Footage(
            rig,
            renders,
            targets,
            buffers,
            read_tracks(given.tracks),
            held_out_cameras,
            given.held_out_sequences,
        )
        baselines = {
            "nearest_frame": NearestFrame(footage).picture,
            "mesh_colour": MeshColour(footage, given.settings.colour_cell, given.settings.colour_steps).picture,
        }
        methods = {"avatar": footage.render, **baselines}
        viewing = Viewing(given.settings.pixels_per_degree, given.settings.frames_per_second)
        pictures = measure(footage, methods, viewing, judges(given.faces, given.settings))
        attributes = {
            **cli.record("evaluate", given),
            "subject": next(iter(targets.values())).attributes["subject"],
            "held_out_cameras": held_out_cameras,
            "held_out_sequences": given.held_out_sequences,
        }
        write_comparison(given.comparison, footage, baselines, given.settings.comparison_pictures, attributes)
    write_pictures(given.pictures, pictures)
    write_figures(given.figures, pictures)
    write_metrics(given.output, table(pictures))


if __name__ == "__main__":
    cli.run(main)
