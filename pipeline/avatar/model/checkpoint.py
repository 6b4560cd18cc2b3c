"""Avatars as safetensors files whose metadata is enough to rebuild the networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.pretrained import load_pretrained
from pipeline.avatar.model.schedule import Sampling
from pipeline.errors import DataError
from pipeline.settings.architecture import Architecture
from pipeline.store.made_by import KEY, kept
from pipeline.store.tensors import Tensors, read_tensors, write_tensors

NETWORKS = ("unet.", "controlnet.", "autoencoder.")


def trained_tensors(avatar: Avatar) -> Tensors:
    """What training makes: trainable parameters, the statistics of the data and a pretrained model's empty prompt.

    The pretrained networks themselves stay outside.
    """
    parameters = {name: p for name, p in avatar.named_parameters() if p.requires_grad}
    statistics = {name: buffer for name, buffer in avatar.named_buffers() if not name.startswith(NETWORKS)}
    return parameters | statistics


def write_avatar(
    path: Path, avatar: Avatar, tensors: Tensors, steps: int, record: Mapping[str, Any] | None = None
) -> None:
    """Publish an avatar with the given trained tensors (by name, see `trained_tensors`) after `steps` steps, with the
    stage and the settings of the `cli.record` that made it."""
    write_tensors(path, tensors, describe(avatar) | {"steps": steps, KEY: kept(record or {})})


def describe(avatar: Avatar) -> dict[str, object]:
    """What has to be known of an avatar to build it again for its weights."""
    shape: dict[str, object] = {"architecture": avatar.architecture.model_dump(), "code_size": avatar.code_size}
    return shape | {"sampling": avatar.sampling._asdict()}


def read_avatar(path: Path) -> Avatar:
    """An avatar from its file, ready to render; raises DataError as `load_avatar` does."""
    return load_avatar(path).eval().requires_grad_(False)


def require_codes(path: Path, avatar: Avatar, track: Path, size: int) -> None:
    """Raise DataError when an avatar cannot read the codes of a track, which have `size` numbers."""
    if size != avatar.code_size:
        raise DataError(f"{track}: z_exp of {size} numbers; {path} expects {avatar.code_size}")


def load_avatar(path: Path) -> Avatar:
    """Rebuild an avatar from its file, ready to be trained on. Raises DataError when the file does not describe one."""
    return _built(path, *read_tensors(path))


def read_training(path: Path) -> Avatar:
    """The running average in a training's saved state, ready to render. Raises DataError as `load_avatar` does."""
    tensors, config = read_tensors(path)
    kind = "average/" if any(name.startswith("average/") for name in tensors) else "now/"  # as it may have none
    average = {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith(kind)}
    return _built(path, average, config).eval().requires_grad_(False)


def _built(path: Path, tensors: Tensors, config: dict) -> Avatar:
    try:
        config["architecture"].pop("precision", None)  # which avatars once recorded; it is the run's own
        if missing := Architecture.model_fields.keys() - config["architecture"].keys():
            raise ValueError(f"the architecture lacks {sorted(missing)}")
        architecture = Architecture.model_validate(config["architecture"])
        of_pretrained = architecture.backbone == "pretrained"
        pretrained = load_pretrained(architecture.pretrained, tensors["text"]) if of_pretrained else None
        avatar = Avatar(architecture, config["code_size"], pretrained)
        expected = trained_tensors(avatar)
        if missing := expected.keys() ^ tensors.keys():
            raise ValueError(f"unmatched weights {sorted(missing)[:4]}")
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(tensors[name])
        if "sampling" in config:  # avatars were once written without
            avatar.sampling = Sampling(**config["sampling"])
    except (KeyError, TypeError, ValidationError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: does not describe an avatar of this version ({error})") from error
    return avatar
