"""rig: the cameras to render the head from: the capture's cropped round it, one of them, or a path before it."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.orbit import Frame, Picture, crop_round, orbit
from pipeline.cameras.path import held_to_head, shake, through
from pipeline.cameras.rig import Rig, read_rig, write_rig
from pipeline.errors import DataError
from pipeline.head.model.identity import Identity, read_identity
from pipeline.head.model.pose import centre_up_front
from pipeline.motion.easing import between
from pipeline.motion.retarget import home
from pipeline.settings.keyframes import CameraPath, read_keys
from pipeline.settings.rig import RigSettings
from pipeline.store.chunk import read_arrays


def main() -> None:
    """Read the cameras and where the head is, publish the rig."""
    parser = cli.parser(__doc__, RigSettings)
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--identity", type=cli.existing_file, required=True, help="identity.safetensors")
    parser.add_argument("--rig", choices=("capture", "camera", "orbit", "shake", "path"), required=True)
    parser.add_argument("--track", type=cli.existing_file, help="track of the motion that a path is for")
    parser.add_argument("--camera", help="name of the capture's camera, with --rig camera")
    parser.add_argument("--path", type=cli.existing_file, help="views of the path, JSON, with --rig path")
    parser.add_argument("--rate", type=float, default=24, help="pictures in a second of the film that a path is for")
    parser.add_argument(
        "--stabilised", choices=("world", "head"), default="world", help="what stands still in the film"
    )
    parser.add_argument("--output", type=Path, required=True, help="rigs/capture.json or rigs/{rig}/{motion}.json")
    arguments = parser.parse_args()
    needs = {
        "--track": arguments.rig != "capture",
        "--camera": arguments.rig == "camera",
        "--path": arguments.rig == "path",
    }
    for option, needed in needs.items():
        if needed != (getattr(arguments, option[2:]) is not None):
            raise DataError(f"{option} {'is needed for' if needed else 'does not go with'} --rig {arguments.rig}")

    identity = read_identity(arguments.identity)
    poses = read_arrays(arguments.track, "head_from_world")[0] if arguments.track else np.zeros((0, 4, 4))
    write_rig(arguments.output, make(arguments, identity, poses), cli.record("rig", arguments))


def make(arguments: argparse.Namespace, identity: Identity, poses: np.ndarray) -> Rig:
    """The rig that the command line asks for; `poses` (T, 4, 4) are the motion's, for all but the capture's rig."""
    settings: RigSettings = arguments.settings
    cameras = read_rig(arguments.cameras)
    picture = Picture(settings.width, settings.height, settings.metres)

    def frame_of(pose: np.ndarray) -> Frame:
        return Frame.upright(*centre_up_front(pose)).shifted(settings.shift_up, settings.shift_front)

    rest = home(identity)
    if arguments.rig == "capture":
        return crop_round(cameras.cameras, frame_of(rest).centre, picture)
    if arguments.rig == "camera":
        rig = crop_round([cameras.cameras[cameras.index(arguments.camera)]], frame_of(rest).centre, picture)
    elif arguments.rig == "orbit":
        frame = frame_of(rest)
        if arguments.stabilised == "world":  # round where the head is on the way, so that it stays in the picture
            frame = replace(frame, centre=np.mean([frame_of(pose).centre for pose in poses], axis=0))
        rig = orbit(cameras.cameras, frame, picture, len(poses), settings.sway_degrees, settings.nod_degrees)
    elif arguments.rig == "shake":
        rest = poses[0]
        rig = shake(Frame.upright(*centre_up_front(rest)), picture, len(poses))
    else:
        views = read_keys(arguments.path, CameraPath).views
        seconds = np.arange(len(poses)) / arguments.rate
        eyes, targets, zoom = (
            between(views, np.array([getattr(view, name) for view in views], float), seconds)
            for name in ("eye", "look_at", "zoom")
        )
        rig = through(frame_of(rest), picture, eyes, targets, zoom)
    return held_to_head(rig, rest, poses) if arguments.stabilised == "head" else rig


if __name__ == "__main__":
    cli.run(main)
