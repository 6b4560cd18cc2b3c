"""A live page of a subject's results, in the browser.

    python -m pipeline.viewer results/901 [--port 8080] [--training runs/901]

Cameras with their pictures, clouds, meshes, the face by sliders, and the avatar rendered for the view on the screen.
Served to this machine alone unless --host is given.
"""

import argparse
import threading
from pathlib import Path

import torch
import viser

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.model.arkit import SHIPPED, read_map
from pipeline.head.model.identity import file_digest
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.provenance import ROOT
from pipeline.raster.backends.choose import make_rasterizer
from pipeline.settings.rig import RigSettings
from pipeline.viewer.avatars import Avatars
from pipeline.viewer.controls import Basis, Controls
from pipeline.viewer.page import Page
from pipeline.viewer.render import Head
from pipeline.viewer.results import Results

PRIOR = ROOT / "pipeline/head/weights/head_prior.safetensors"


def arguments() -> argparse.Namespace:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("results", type=Path, help="a subject's results, such as results/901")
    result.add_argument("--prior", type=Path, default=PRIOR, help="the head prior that the head was fitted with")
    result.add_argument("--map", type=Path, default=SHIPPED, help="the prior's map of ARKit's weights")
    result.add_argument("--training", type=Path, help="state folder of a training to look at while it runs")
    result.add_argument("--rig", default="{}", help="the section rig that the avatar was trained with, JSON")
    result.add_argument("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 serves everybody")
    result.add_argument("--port", type=int, default=8080)
    return result.parse_args()


def read_head(results: Results, path: Path) -> tuple[Head | None, HeadPrior | None]:
    """The subject's head under any expression; None, with a line why, where it cannot be had."""
    if results.identity is None:
        cli.log.warning("no identity.safetensors yet: no sliders and no avatar")
        return None, None
    if not path.is_file() or file_digest(path) != results.identity.prior:
        cli.log.warning("%s is not the head prior of this head: no sliders and no avatar; --prior names another", path)
        return None, None
    prior = load_prior(path)
    return Head(prior, results.identity, results.mesh_settings), prior


def serve(given: argparse.Namespace) -> tuple[viser.ViserServer, Page]:
    """Start the server and show the page."""
    results = Results(given.results)
    head, prior = read_head(results, given.prior)
    arkit = None
    if prior:
        try:
            arkit = read_map(given.map, prior.config.exp)
        except DataError as error:
            cli.log.warning("no sliders by ARKit's names: %s", error)
    server = viser.ViserServer(given.host, given.port, label=f"head {results.folder.name}", verbose=False)
    basis = Basis.of(results, arkit, prior.config.exp if prior else 1)
    avatars = Avatars(results, given.training)
    controls = Controls(server, results, basis, head is not None, avatars.any)
    page = Page(
        server,
        results,
        head,
        controls,
        avatars,
        make_rasterizer("embree"),
        RigSettings.model_validate_json(given.rig),
    )
    cli.log.info("http://%s:%d/ shows %s", given.host, server.get_port(), results.folder)
    return server, page


def main() -> None:
    """Serve until interrupted."""
    torch.set_flush_denormal(True)
    server, page = serve(arguments())
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        page.stop()
        server.stop()


if __name__ == "__main__":
    cli.run(main)
