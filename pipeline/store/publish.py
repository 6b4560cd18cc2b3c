"""Files that are either whole or absent, whoever else writes the same one at the same time."""

import glob
import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

HOST = socket.gethostname()


@contextmanager
def publish(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path` at once, on any error it is deleted.

    The temporary file keeps the final suffix (encoders look at it), starts with a dot and names its writer. What dead
    writers of the same file left behind is deleted first; a live one's is left alone, and the last to end wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(path)
    partial = path.with_name(f".{HOST}.{os.getpid()}.{secrets.token_hex(4)}.partial.{path.name}")
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
        _flush(path.parent)  # without it a power cut may forget the new name
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # A full disk does not say which file.
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete_abandoned(path: Path) -> None:
    """Delete partial files of `path` whose writers were processes of this machine and are gone."""
    for partial in path.parent.glob(f".{glob.escape(HOST)}.*.partial.{glob.escape(path.name)}"):
        number = partial.name.removeprefix(f".{HOST}.").split(".")[0]
        if not (number.isdigit() and _alive(int(number))):
            partial.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
