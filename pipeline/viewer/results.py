"""What there is of a subject's results: found by looking, read when it is shown. Missing stages are no fault."""

from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.cameras.rig import Rig, read_rig
from pipeline.cli import log
from pipeline.errors import DataError
from pipeline.head.model.identity import Identity, read_identity
from pipeline.mesh.mesh import Mesh, mesh_of
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import read_all, read_attributes
from pipeline.store.reel import Reel, open_reels

CHUNKED = ("frames", "clouds", "meshes")
Track = dict[str, np.ndarray]


class Results:
    """A folder such as results/901. Raises DataError where it holds nothing that can be shown."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._reels: dict[tuple[str, str], Reel] = {}
        self._tracks: dict[str, Track] = {}
        if not (folder / "cameras.json").is_file():
            raise DataError(f"{folder}: no cameras.json; expected the results of a subject, such as results/901")

    @property
    def sequences(self) -> list[str]:
        """Names of all sequences that any stage has written, the subject's own first."""
        kinds = [path for kind in CHUNKED for path in (self.folder / kind).glob("*") if path.is_dir()]
        tracks = [path.name.removesuffix(".zarr.zip") for path in (self.folder / "tracks").glob("[!.]*.zarr.zip")]
        return sorted({path.name for path in kinds} | set(tracks), key=lambda name: ("~" in name, name))

    @property
    def avatar(self) -> Path | None:
        """The avatar's file, the distilled one if there is one."""
        found = [self.folder / name for name in ("distilled.safetensors", "avatar.safetensors")]
        return next((path for path in found if path.is_file()), None)

    @cached_property
    def rig(self) -> Rig:
        """The capture's cameras."""
        return read_rig(self.folder / "cameras.json")

    @cached_property
    def identity(self) -> Identity | None:
        """Whose head it is, once that is fitted."""
        path = self.folder / "identity.safetensors"
        return read_identity(path) if path.is_file() else None

    @cached_property
    def mesh_settings(self) -> MeshSettings:
        """Those that the meshes were made with."""
        files = sorted((self.folder / "meshes").glob("*/[!.]*.zarr.zip"))
        return MeshSettings.model_validate(read_attributes(files[0])["settings"]) if files else MeshSettings()

    def reel(self, kind: str, sequence: str) -> Reel | None:
        """All spans of "frames", "clouds" or "meshes" of a sequence; None while some are missing."""
        if found := self._reels.get((kind, sequence)):
            return found
        files = sorted((self.folder / kind / sequence).glob("[!.]*.zarr.zip"))
        if not files:
            return None
        try:
            with open_reels(files) as reels:
                return self._reels.setdefault((kind, sequence), next(iter(reels.values())))
        except DataError as error:  # a workflow that is still at it leaves gaps
            log.warning("not shown: %s", error)
            return None

    def track(self, sequence: str) -> Track | None:
        """All arrays of a sequence's track, by name; None while there is none."""
        path = self.folder / "tracks" / f"{sequence}.zarr.zip"
        if sequence not in self._tracks and path.is_file():
            self._tracks[sequence] = read_all(path)
        return self._tracks.get(sequence)

    def steps(self, sequence: str) -> int:
        """Time steps of a sequence that every kind of file has that is there."""
        track = self.track(sequence)
        lengths = [len(track["z_exp"])] if track else []
        lengths += [reel.steps for kind in CHUNKED if (reel := self.reel(kind, sequence))]
        return min(lengths, default=0)

    def mesh(self, sequence: str, step: int) -> Mesh | None:
        """The fitted mesh of a time step."""
        reel = self.reel("meshes", sequence)
        return None if reel is None else mesh_of(reel, step)

    def cloud(self, sequence: str, step: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Points (N, 3) world metres and colours (N, 3) uint8 of a time step."""
        reel = self.reel("clouds", sequence)
        return None if reel is None else reel.rows(step, "offsets", "points", "colors")

    def pictures(self, sequence: str, step: int) -> np.ndarray | None:
        """What all cameras saw, (C, h, w, 3) uint8 sRGB."""
        reel = self.reel("frames", sequence)
        return None if reel is None else reel.pictures("rgb", step)
