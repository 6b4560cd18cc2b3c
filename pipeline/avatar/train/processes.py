"""Training in one process or many: its device, and sums over all of them."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator

from pipeline.errors import PipelineError
from pipeline.settings.base import Device


def make_accelerator(batch: int, accumulation: int, device: Device) -> Accelerator:
    """This process's place among those that `accelerate launch` started, or alone, on the CPU or a GPU.

    Raises PipelineError when the batch cannot be shared out evenly.
    """
    accelerator = Accelerator(cpu=device == "cpu")
    if batch % (accelerator.num_processes * accumulation):
        raise PipelineError(
            f"a batch of {batch} pictures; expected a multiple of {accelerator.num_processes} processes times "
            f"{accumulation} parts (accumulation)"
        )
    return accelerator


def over_processes(accelerator: Accelerator, values: torch.Tensor) -> torch.Tensor:
    """The sum of every process's values, in every process."""
    return accelerator.reduce(values, reduction="sum") if accelerator.num_processes > 1 else values


def sum_gradients(accelerator: Accelerator, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every process the sum of all processes' gradients.

    Once a step, and not by a wrapper round the model, which would sum after every part and see only its `forward`.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if accelerator.num_processes > 1:
        summed = over_processes(accelerator, torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, values in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))
