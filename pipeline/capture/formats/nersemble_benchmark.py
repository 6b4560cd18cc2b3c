"""A participant of NeRSemble's benchmark release: docs/captures/nersemble-benchmark.md."""

import re
from pathlib import Path
from typing import ClassVar

from pipeline.capture.formats.base import Film, Source
from pipeline.capture.formats.nersemble import NersembleCapture

CLOUD = re.compile(r"frame_(\d+)\.pcd")


class NersembleBenchmarkCapture(NersembleCapture):
    """NeRSemble's layout at half the size, with `alpha_maps/cam_<serial>.mp4` and `pointclouds/frame_<n>.pcd`.

    Cameras that the benchmark holds out are calibrated but recorded nothing, so they are left out as any such camera.
    """

    kind: ClassVar[str] = "nersemble_benchmark"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Only the benchmark has alpha_maps."""
        return any(folder.glob("sequences/*/alpha_maps"))

    def masks(self, sequence: str) -> dict[str, Source]:
        """A video per camera, grey."""
        folder = self.folder / "sequences" / sequence / "alpha_maps"
        films = {name: folder / f"cam_{name}.mp4" for name in self.pictures(sequence)}
        return {name: Film(path) for name, path in films.items() if path.is_file()}

    def clouds(self, sequence: str) -> dict[int, Path]:
        """Every frame's, if all were downloaded; the default download has the first only."""
        folder = self.folder / "sequences" / sequence / "pointclouds"
        named = {path: CLOUD.fullmatch(path.name) for path in sorted(folder.glob("*.pcd"))}
        return {int(name[1]): path for path, name in named.items() if name}
