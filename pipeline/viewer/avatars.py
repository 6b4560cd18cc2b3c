"""The newest avatar there is: a finished one, or what a training that runs has saved last."""

from pathlib import Path

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar, read_training
from pipeline.cli import log
from pipeline.errors import DataError
from pipeline.viewer.results import Results


class Avatars:
    """Reads the avatar again when its file is another."""

    def __init__(self, results: Results, training: Path | None):
        self._results, self._training = results, training
        self._read: tuple[Path, int] | None = None
        self._avatar: Avatar | None = None

    def any(self) -> bool:
        """Whether there is one to be read."""
        return self._path() is not None

    def newest(self) -> Avatar | None:
        """The avatar, read anew when there is a newer one; None while there is none."""
        path = self._path()
        if path is None:
            return None
        try:
            version = path, path.stat().st_mtime_ns
            if version != self._read:
                self._read = version
                is_state = path.name == "state.safetensors"
                self._avatar = (read_training(path) if is_state else read_avatar(path)).channels_last()
                log.info("shows %s", path)
        except (DataError, OSError) as error:  # replaced or removed while it was read: the last one is shown on
            log.warning("not shown: %s", error)
        return self._avatar

    def _path(self) -> Path | None:
        states = sorted(self._training.glob("**/state.safetensors"), key=_age) if self._training else []
        return states[-1] if states else self._results.avatar


def _age(path: Path) -> float:
    return path.stat().st_mtime if path.is_file() else 0.0
