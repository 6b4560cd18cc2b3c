"""One run at a time in a results folder: a lock that dies with the process that holds it."""

import fcntl
import os
import socket
import time
from pathlib import Path

from pipeline.errors import PipelineError

_held: dict[Path, int] = {}  # open for as long as this process lives


class BusyError(PipelineError):
    """Another run works in the folder; says which."""


def lock_folder(folder: Path) -> None:
    """Take the folder's lock until this process ends, however it ends. Raises BusyError when another run has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / ".lock").resolve()
    if path in _held:
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 1000).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise BusyError(f"{folder}: another run works in this folder ({holder}); wait for it or stop it") from None
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')}".encode())
    _held[path] = handle
