"""What every stage that trains an avatar does: arguments, data, a state of its own, stopping and publishing."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from pydantic import BaseModel

from pipeline import cli
from pipeline.avatar.data.chosen import camera_places
from pipeline.avatar.data.pictures import Pictures, View, sequence_views
from pipeline.avatar.model.checkpoint import write_avatar
from pipeline.avatar.train.loop import Loop
from pipeline.avatar.train.preview import Board, preview
from pipeline.cameras.rig import read_rig
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.raster.rasterized import RasterizedReel
from pipeline.store.chunk import read_attributes
from pipeline.store.reel import Reel, open_reels
from pipeline.store.state import TrainingState

KINDS = ("targets", "tracks")


def parser(about: str | None, settings: type[BaseModel]) -> argparse.ArgumentParser:
    """A stage's parser with the arguments that name the training data and where the results go."""
    result = cli.parser(about, settings)
    for kind in KINDS:
        result.add_argument(f"--{kind}", type=cli.existing_file, nargs="+", required=True, help="training sequences")
    given = result.add_mutually_exclusive_group(required=True)
    given.add_argument("--buffers", type=cli.existing_file, nargs="+", default=[], help="training sequences, stored")
    given.add_argument(
        "--meshes", type=cli.existing_file, nargs="+", default=[], help="instead of --buffers: rasterised here"
    )
    result.add_argument("--rig", type=cli.existing_file, help="rigs/capture.json, with --meshes")
    result.add_argument("--held-out-cameras", default="", help="names, separated by commas, that training never sees")
    result.add_argument("--state", type=Path, required=True, help="folder of training states and sample pictures")
    result.add_argument("--output", type=Path, required=True, help="the avatar's safetensors")
    return result


def state_of(given: argparse.Namespace, stage: str, *more: Path) -> TrainingState:
    """The state of the arguments' training by a stage, whose result depends on the files `more` too."""
    rig = [given.rig] if given.meshes else []
    files = (*given.buffers, *given.meshes, *rig, *given.targets, *given.tracks, *more)
    return TrainingState(given.state, f"pipeline.stages.{stage}", given.settings, files, given.held_out_cameras)


def training_buffers(given: argparse.Namespace, stack: ExitStack) -> dict[str, Reel]:
    """Buffers by sequence, stored or rasterised here. Raises DataError where the files do not fit the settings."""
    source = given.settings.buffers
    if (source == "stored") != bool(given.buffers) or bool(given.meshes) != bool(given.rig):
        raise DataError(f"buffers are {source}; expected {'--buffers' if source == 'stored' else '--meshes and --rig'}")
    if source == "stored":
        return stack.enter_context(open_reels(given.buffers))
    rig, meshes = read_rig(given.rig), stack.enter_context(open_reels(given.meshes))
    rasterized: dict[str, Reel] = {sequence: RasterizedReel(reel, rig, source) for sequence, reel in meshes.items()}
    for reel in rasterized.values():
        stack.callback(reel.close)
    return rasterized


def training_views(given: argparse.Namespace, buffers: dict[str, Reel], targets: dict[str, Reel]) -> list[View]:
    """Every view of the training sequences but those of the held-out cameras."""
    tracks = {read_attributes(path)["sequence"]: path for path in given.tracks}
    if not buffers.keys() == targets.keys() == tracks.keys():
        raise DataError(
            f"buffers of {list(buffers)}, targets of {list(targets)}, tracks of {list(tracks)}; expected equal"
        )
    held_out = given.held_out_cameras.split(",")
    views = []
    for sequence, reel in buffers.items():
        known = camera_places(reel)
        lost = [name for name in held_out if name and name not in known]
        if lost and not known.keys() & set(held_out):
            raise DataError(
                f"{reel.paths[0]}: no camera {', '.join(lost)}, which is held out (split.cameras): calibrate left it "
                f"out; hold out others of {', '.join(known)}"
            )
        places = [place for name, place in known.items() if name not in held_out]
        views += sequence_views(reel, targets[sequence], tracks[sequence], places)
    if not views:
        raise DataError(f"{given.targets[0]}: no picture is left to train on without cameras {held_out}")
    return views


def train(given: argparse.Namespace, stage: str, make: Callable[[Pictures], Loop], *more: Path) -> None:
    """Read the pictures, run the loop made for them, publish its running average; `stage` and `more` as in `state_of`.

    SIGTERM saves the state and ends with status 143; the next call carries on from it.
    """
    state = state_of(given, stage, *more)
    claim(given.settings.device)
    torch.set_flush_denormal(True)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    with ExitStack() as stack:
        buffers, targets = training_buffers(given, stack), stack.enter_context(open_reels(given.targets))
        pictures = Pictures(training_views(given, buffers, targets))
        torch.manual_seed(given.settings.seed)
        loop = make(pictures)
        if loop.processes.is_main:
            board = stack.enter_context(closing(Board(state.folder)))
            cli.log.info("%d pictures, %d trained numbers, state in %s", len(pictures), loop.size, state.folder)
        loop.run(
            state,
            preview=lambda: board.picture(loop.step, preview(loop.avatar, pictures)),
            stopping=lambda: bool(stop),
            record=lambda step, figures: board.figures(step, figures._asdict()),
        )
    if loop.step < loop.total:
        sys.exit(128 + signal.SIGTERM)
    if loop.processes.is_main:
        write_avatar(given.output, loop.avatar, loop.average, loop.step, cli.record(stage, given))
        state.delete()
