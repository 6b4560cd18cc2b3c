"""How a run computes, which no file of an avatar depends on."""

from typing import Literal

from pydantic import Field

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
    """Marks a setting, as `Annotated[int, AffectsNoResult()]`, whose change must not restart a training."""
