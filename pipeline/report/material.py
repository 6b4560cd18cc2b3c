"""Everything the report shows, opened but not read: pictures are fetched one by one when a tile asks for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cameras.rig import Rig, read_rig
from pipeline.errors import DataError
from pipeline.evaluate.intervals import read_intervals
from pipeline.evaluate.measures.image import psnr
from pipeline.raster.coding import read_buffers
from pipeline.store.chunk import read_arrays, read_attributes
from pipeline.store.reel import Reel, open_reels

BASELINES = ("nearest_frame", "mesh_colour")


@dataclass(frozen=True)
class Shot:
    """One picture of the capture."""

    sequence: str
    step: int
    camera: str


@dataclass(frozen=True)
class Material:
    """Reels by sequence; `frames` have the cameras of `cameras`, `buffers` and `targets` those of `rig`.

    `quality` is what fit_quality wrote, by sequence; `intervals` those of the means of `metrics`, by split, method and
    figure. `baselines` (P, h, w, 3) by name show `shots`, the headline
    pictures that evaluate kept.
    """

    frames: dict[str, Reel]
    clouds: dict[str, Reel]
    buffers: dict[str, Reel]
    targets: dict[str, Reel]
    renders: dict[str, Reel]
    head_from_world: dict[str, np.ndarray]
    residual_mm: dict[str, np.ndarray]
    cameras: Rig
    rig: Rig
    quality: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, dict[str, float]]]
    intervals: dict[tuple[str, str, str], tuple[float, float]]
    shots: list[Shot]
    baselines: dict[str, np.ndarray]
    held_out: dict[str, list[str]]

    def frame(self, shot: Shot, name: str = "rgb") -> np.ndarray:
        """`rgb` (H, W, 3) or `alpha` (H, W) of the whole frame."""
        camera = self.cameras.index(shot.camera)
        return self.cameras.cameras[camera].own(self.frames[shot.sequence].picture(name, shot.step, camera))

    def buffer(self, shot: Shot, name: str) -> np.ndarray:
        """`depth`, `normals`, `x_can` or `mask` (h, w, ...) of the rig's picture."""
        return read_buffers(self.buffers[shot.sequence], shot.step, self.rig.index(shot.camera), (name,))[name]

    def target(self, shot: Shot) -> np.ndarray:
        """The true head over white (h, w, 3)."""
        return self.targets[shot.sequence].picture("rgb", shot.step, self.rig.index(shot.camera))

    def head(self, shot: Shot) -> np.ndarray:
        """The head mask of the target (h, w) bool."""
        return self.targets[shot.sequence].picture("alpha", shot.step, self.rig.index(shot.camera)) > 127

    def render(self, shot: Shot) -> np.ndarray:
        """The avatar's picture (h, w, 3)."""
        reel = self.renders[shot.sequence]
        return reel.picture("rgb", shot.step, reel.attributes["cameras"].index(shot.camera))

    def cloud(self, shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points, normals and colors (N, 3) of the shot's step."""
        points, normals, colors = self.clouds[shot.sequence].rows(shot.step, "offsets", "points", "normals", "colors")
        return points, normals, colors

    def headline_psnr(self) -> dict[str, np.ndarray]:
        """PSNR (P,) inside the head of the headline shots, by method."""
        pictures = {"avatar": [self.render(shot) for shot in self.shots], **self.baselines}
        truths, heads = [self.target(shot) for shot in self.shots], [self.head(shot) for shot in self.shots]
        return {
            name: np.array([psnr(*triple) for triple in zip(made, truths, heads, strict=True)])
            for name, made in pictures.items()
        }


def _rendered_shots(renders: dict[str, Reel]) -> list[Shot]:
    """The middle step of every rendered sequence: shown when nothing is held out both ways."""
    return [Shot(name, reel.steps // 2, reel.attributes["cameras"][0]) for name, reel in renders.items()]


@contextmanager
def open_material(
    frames: list[Path],
    clouds: list[Path],
    tracks: list[Path],
    buffers: list[Path],
    targets: list[Path],
    renders: list[Path],
    quality: list[Path],
    cameras: Path,
    rig: Path,
    metrics: Path,
    figures: Path,
    comparison: Path,
) -> Iterator[Material]:
    """Open the workflow's files; of the renders only those on the capture's rig (capture.zarr.zip) are used.

    Raises DataError naming the file that is missing, no chunk, or without the array asked for.
    """
    known = read_attributes(comparison)
    with (
        open_reels(frames) as frame_reels,
        open_reels(clouds) as cloud_reels,
        open_reels(buffers) as buffer_reels,
        open_reels(targets) as target_reels,
        open_reels([path for path in renders if path.name == "capture.zarr.zip"]) as render_reels,
    ):
        if not render_reels:
            raise DataError("none of the renders is a capture.zarr.zip: nothing to compare with the capture")
        of_track: dict[str, Any] = {
            read_attributes(path)["sequence"]: read_arrays(path, "head_from_world", "residual_mm") for path in tracks
        }
        shots = [Shot(*picture) for picture in known["pictures"]]
        yield Material(
            frame_reels,
            cloud_reels,
            buffer_reels,
            target_reels,
            render_reels,
            {name: poses for name, (poses, _) in sorted(of_track.items())},
            {name: residuals for name, (_, residuals) in sorted(of_track.items())},
            read_rig(cameras),
            read_rig(rig),
            {figures["sequence"]: figures for figures in (json.loads(path.read_text()) for path in quality)},
            json.loads(metrics.read_text()),
            read_intervals(figures),
            shots or _rendered_shots(render_reels),
            dict(zip(BASELINES, read_arrays(comparison, *BASELINES), strict=True)) if shots else {},
            {"cameras": known["held_out_cameras"], "sequences": known["held_out_sequences"]},
        )
