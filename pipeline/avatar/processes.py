"""Training in one process or many: its device, and sums over all of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import torch
from accelerate import Accelerator

from pipeline.errors import PipelineError

P = ParamSpec("P")
R = TypeVar("R")
ANOTHER = "another process of this training is out of reach; expected its own error to say why"


@dataclass(frozen=True)
class Processes:
    """This process's device and its place among `count`; `sum` adds a tensor up over all, `wait` waits for all."""

    device: torch.device
    index: int = 0
    count: int = 1
    sum: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
    wait: Callable[[], None] = lambda: None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.index == 0

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the sum of all processes' gradients.

        Once a step, and not by a wrapper round the model, which would sum after every part and see only its `forward`.
        """
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        summed = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, values in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))


def launched(batch: int, accumulation: int, device: str) -> Processes:
    """The processes that `accelerate launch` started, or this one alone, on the CPU or on GPUs.

    Raises PipelineError when the batch cannot be shared out evenly.
    """
    accelerator = Accelerator(cpu=device == "cpu")
    count = accelerator.num_processes
    if batch % (count * accumulation):
        raise PipelineError(
            f"a batch of {batch} pictures; expected a multiple of {count} processes times "
            f"{accumulation} parts (accumulation)"
        )
    if count == 1:
        return Processes(accelerator.device)
    return Processes(
        accelerator.device,
        accelerator.process_index,
        count,
        sum=_together(partial(accelerator.reduce, reduction="sum")),
        wait=_together(accelerator.wait_for_everyone),
    )


def _together(call: Callable[P, R]) -> Callable[P, R]:
    """Something that all processes do together, with one line where another has ended: that one says why."""

    @wraps(call)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return call(*arguments, **options)
        except RuntimeError as error:
            raise PipelineError(f"{ANOTHER} ({str(error).splitlines()[0]})") from error

    return called
