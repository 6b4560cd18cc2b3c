"""How a run computes, which no file of an avatar depends on."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from pipeline.settings.base import OnDevice

Precision = Literal["float32", "tf32", "bfloat16"]
Compile = Literal["none", "default", "reduce-overhead"]


class Computing(OnDevice):
    """For stages that run an avatar's networks."""

    precision: Precision = Field(
        default="float32",
        description="of networks and autoencoder: float32; tf32: matrix products and convolutions in TF32, on a GPU "
        "that has it; bfloat16: these in bfloat16. Trained weights, losses and latents stay float32",
    )
    compile: Compile = Field(
        default="none",
        description="torch.compile's mode for the networks; compiling takes minutes and needs a C++ compiler; "
        "reduce-overhead uses CUDA graphs on a GPU",
    )


class AffectsNoResult:
    """Marks a setting, as `Annotated[int, AffectsNoResult()]`, whose change must not run a training again."""


def counted(settings: BaseModel) -> dict[str, Any]:
    """The settings' values, as JSON, without those marked as AffectsNoResult."""
    found: dict[str, Any] = {}
    ignored = aside(settings)
    for name, value in settings.model_dump(mode="json").items():
        if name not in ignored:
            nested = getattr(settings, name)
            found[name] = counted(nested) if isinstance(nested, BaseModel) else value
    return found


def aside(settings: BaseModel) -> dict[str, Any]:
    """The values of the settings that are marked so."""
    fields = type(settings).model_fields
    marked = {name for name in fields if any(isinstance(mark, AffectsNoResult) for mark in fields[name].metadata)}
    return settings.model_dump(mode="json", include=marked)
