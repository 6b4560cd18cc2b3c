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
from pipeline.store.reel import Reel

CHUNKED = ("frames", "clouds", "meshes")
Track = dict[str, np.ndarray]
Files = tuple[tuple[Path, int], ...]  # and when each was written, nanoseconds


class Results:
    """A folder such as results/901. Raises DataError where it holds nothing that can be shown.

    What was read is kept until `look_again` finds other files in its place.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._reels: dict[tuple[str, str], tuple[Files, Reel | None]] = {}
        self._tracks: dict[str, tuple[Files, Track]] = {}
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

    def look_again(self) -> bool:
        """Forget what stages have written anew or added to since it was read, and say whether there was any.

        For the thread that reads, since it closes files.
        """
        reels = [key for key, (files, _) in self._reels.items() if files != self._spans(*key)]
        tracks = [name for name, (files, _) in self._tracks.items() if files != _dated([self._track_file(name)])]
        for key in reels:
            _, reel = self._reels.pop(key)
            if reel:
                reel.close()
        for name in tracks:
            del self._tracks[name]
        return bool(reels or tracks)

    def _spans(self, kind: str, sequence: str) -> Files:
        return _dated(sorted((self.folder / kind / sequence).glob("[!.]*.zarr.zip")))

    def reel(self, kind: str, sequence: str) -> Reel | None:
        """The spans of "frames", "clouds" or "meshes" of a sequence from its first step on, up to one that is missing
        while a workflow is still at it; None while the first is."""
        known = self._reels.get((kind, sequence))
        if known is None:
            files = self._spans(kind, sequence)
            if not files:
                return None
            self._reels[kind, sequence] = known = files, _opened([path for path, _ in files])
        return known[1]

    def _track_file(self, sequence: str) -> Path:
        return self.folder / "tracks" / f"{sequence}.zarr.zip"

    def track(self, sequence: str) -> Track | None:
        """All arrays of a sequence's track, by name; None while there is none."""
        known = self._tracks.get(sequence)
        if known is None:
            files = _dated([self._track_file(sequence)])
            if not files:
                return None
            self._tracks[sequence] = known = files, read_all(files[0][0])
        return known[1]

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
        if reel is None:
            return None
        points, colours = reel.rows(step, "offsets", "points", "colors")
        return points, colours

    def pictures(self, sequence: str, step: int) -> np.ndarray | None:
        """What all cameras saw, (C, h, w, 3) uint8 sRGB."""
        reel = self.reel("frames", sequence)
        return None if reel is None else reel.pictures("rgb", step)


def _dated(paths: list[Path]) -> Files:
    """Those of the files that are there, with the time when each was written."""
    return tuple((path, path.stat().st_mtime_ns) for path in paths if path.is_file())


def _opened(paths: list[Path]) -> Reel | None:
    """The spans of one sequence that follow each other without a gap from its first step on."""
    try:
        attributes = [(read_attributes(path), path) for path in paths]
        spans = sorted((about["start"], about["stop"], path) for about, path in attributes)
        there: list[Path] = []
        reached = 0
        for start, stop, path in spans:
            if start != reached:
                break
            there.append(path)
            reached = stop
        return Reel(there) if there else None
    except DataError as error:
        log.warning("not shown: %s", error)
        return None
