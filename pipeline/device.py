"""Where a stage computes: on the CPU, or on one GPU of this machine that no other job holds."""

import os
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.cli import log
from pipeline.errors import PipelineError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_held: list[FileLock] = []  # for as long as this process lives


class DeviceError(PipelineError):
    """The device that the settings name is not there."""


def claim(device: str) -> str:
    """Compute on the named device, "cpu" or "cuda", from now on; its name, for torch.

    With "cpu" every GPU is hidden from this process, so that no library takes one by itself. With "cuda" it sees one
    GPU (`claim_gpu`). Must come before anything asks CUDA. Raises DeviceError where PyTorch finds no GPU.
    """
    if device == "cpu":
        os.environ[VISIBLE] = ""
        return device
    if "LOCAL_RANK" not in os.environ:  # else a launcher of several processes has shared the GPUs out
        os.environ[VISIBLE] = claim_gpu(visible_gpus(), lock_folder())
    import torch  # takes seconds, and a stage without networks needs it only here

    if not torch.cuda.is_available():
        raise DeviceError(
            f"the settings ask for a GPU, but PyTorch {torch.__version__} finds none; expected device cpu"
        )
    return device


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them. Raises DeviceError for none."""
    listed = os.environ.get(VISIBLE)
    if listed is None:
        count = len(list(Path("/dev").glob("nvidia[0-9]*"))) or Path("/dev/dxg").exists()  # dxg: Windows' Linux
        listed = ",".join(map(str, range(count)))
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not names:
        raise DeviceError("the settings ask for a GPU, but this process sees none; expected device cpu")
    return names


def lock_folder() -> Path:
    """Where the claims of this user lie; a Slurm job has its own, as "GPU 0" is another one in each."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return Path(tempfile.gettempdir()) / f"diffusion-avatars-gpus-{os.getuid()}" / job


def claim_gpu(names: list[str], locks: Path, every: float = 1.0) -> str:
    """The first of the GPUs that no living process has claimed, waiting until one is free.

    The claim is a lock on a file in the folder `locks`, which the system takes back when the process ends in any way.
    """
    locks.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        for name in names:
            lock = FileLock(locks / f"{name.replace('/', '_')}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            _held.append(lock)
            log.info("GPU %s", name)
            return name
        if not waiting:
            log.info("waiting for a GPU: other jobs hold %s", ", ".join(names))
            waiting = True
        time.sleep(every)
