"""The state of a training: keyed by what its result depends on, resumed, and deleted when the result is published."""

import hashlib
import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from pydantic import BaseModel
from torch.optim import Optimizer

from pipeline import provenance
from pipeline.settings.precision import counted
from pipeline.store.made_by import KEY
from pipeline.store.tensors import StoredTensors, open_tensors, write_tensors

DIGITS = 16
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam and AdamW remember of a parameter
RECORD = "zarr.json"  # a chunk's attributes: who made it, with what; its arrays have files of their own
IDENTITY = ("subject", "sequence", "start", "stop", "cameras")  # the attributes that say what a chunk shows
# Modules whose code decides no number: what they say, and where files go.
WITHOUT_RESULT = (
    "pipeline.cli",
    "pipeline.device",
    "pipeline.errors",
    "pipeline.provenance",
    "pipeline.store.state",
    "pipeline.avatar.train.preview",
)


class TrainingState:
    """A folder keyed by everything that a training's result depends on, and the file in it to resume from."""

    def __init__(self, folder: Path, stage: str, settings: BaseModel, files: Iterable[Path], *more: str):
        """`stage` is the module whose code counts, with all that it imports; `files` are the data, `more` what else."""
        self.folder = folder / key(stage, counted(settings), files, *more)
        self.path = self.folder / "state.safetensors"

    def save(self, tensors: Mapping[str, torch.Tensor], description: Mapping[str, object]) -> None:
        """Publish everything that the next step needs."""
        write_tensors(self.path, tensors, description)

    @contextmanager
    def saved(self) -> Generator[tuple[StoredTensors, dict[str, Any]] | None]:
        """What was saved last, None at the start of a training."""
        if not self.path.is_file():
            yield None
            return
        with open_tensors(self.path) as found:
            yield found

    def delete(self) -> None:
        """The result is published: nothing is left to be continued."""
        self.path.unlink(missing_ok=True)


def key(module: str, values: Mapping[str, Any], files: Iterable[Path], *more: str) -> str:
    """Hex digits that change with the code of a module and all that it imports, with settings' values, with files."""
    code = provenance.digest(module, without=WITHOUT_RESULT)
    parts = [code, json.dumps(values, sort_keys=True), *more, *map(content_digest, files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]


def content_digest(path: Path) -> str:
    """Hex digest of what a file holds.

    Of a chunk or another zip archive its directory is enough, which has the size and the checksum of every entry: all
    spans of a capture cost milliseconds, not the reading of every byte. Who made a chunk or a rig when does not count.
    """
    digest = hashlib.sha256()
    if is_zipfile(path):
        with ZipFile(path) as archive:
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                if entry.filename != RECORD:
                    digest.update(f"{entry.filename} {entry.file_size} {entry.CRC}\n".encode())
                else:
                    attributes = json.loads(archive.read(entry)).get("attributes", {})
                    shown = {name: attributes[name] for name in IDENTITY if name in attributes}
                    digest.update(f"{json.dumps(shown, sort_keys=True)}\n".encode())
        return digest.hexdigest()
    if path.suffix == ".json":
        content = json.loads(path.read_text()) | {KEY: None}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def optimiser_tensors(optimiser: Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """What an Adam remembers of named parameters, by `moment/name`: two of its shape, and the steps."""
    return {
        f"{moment}/{name}": tensor
        for name, parameter in parameters.items()
        for moment, tensor in optimiser.state[parameter].items()
    }


def load_optimiser(
    optimiser: Optimizer, parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave; parameters that no step had moved have nothing."""
    fused = any(group.get("fused") for group in optimiser.param_groups)
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            if (saved := tensors.get(f"{moment}/{name}")) is not None:
                counter = saved.to(parameter.device) if fused else saved
                like = counter if moment == "step" else torch.empty_like(parameter).copy_(saved)
                optimiser.state[parameter][moment] = like
