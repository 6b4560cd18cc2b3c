"""Named tensors in safetensors files whose metadata says what they are, written and read one tensor at a time."""

import json
import struct
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import DataError
from pipeline.store.chunk import publish

Tensors = dict[str, torch.Tensor]
DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
ALIGNMENT = 8  # bytes, of the header's length, so that the data behind it can be mapped


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, object]) -> None:
    """Publish tensors, wherever they lie, and a JSON description in one safetensors file.

    One tensor after another goes to the disk: safetensors' own `save` and `save_file` hold all of the file in memory,
    6.6 GB for the state of the paper's model.
    """
    # Widest numbers first, as the format's library does, so that every tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"config": json.dumps(metadata, sort_keys=True)}}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with publish(path) as partial, partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            if len(flat):
                file.write(flat.view(torch.uint8).numpy().data)


class StoredTensors(Mapping[str, torch.Tensor]):
    """The tensors of an open safetensors file, each read when it is asked for."""

    def __init__(self, file: Any):
        self._file, self._names = file, frozenset(file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def open_tensors(path: Path) -> Generator[tuple[StoredTensors, dict[str, Any]]]:
    """Tensors and description written by `write_tensors`. Raises DataError naming the file when it is not one."""
    try:
        file = safe_open(path, framework="pt")
        description = json.loads(file.metadata()["config"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a readable safetensors file with a config ({error!r})") from error
    with file:
        yield StoredTensors(file), description


def read_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """All tensors and the description written by `write_tensors`, see `open_tensors`."""
    with open_tensors(path) as (tensors, description):
        return dict(tensors), description
