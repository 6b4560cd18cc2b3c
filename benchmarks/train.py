"""Time a training step of the avatar against the same networks on unfolded pixels; one JSON line last.

    python -m benchmarks.train [--steps 4] [--batch 2] [--height 192 --width 144]

images_per_s, s_per_step and cpu_s_per_image are those of the shipped loop; unfolded_s_per_step is the same loop without
space-to-depth (patch 1), measured in turns with ours; ratio is unfolded over ours. Pictures are random: a step's cost
does not depend on what they show.
"""

import argparse
import json
import time

import numpy as np
import torch

from pipeline.avatar.condition import Buffers
from pipeline.avatar.data import Pictures, Target
from pipeline.avatar.loop import Trainer
from pipeline.avatar.model import Avatar
from pipeline.settings.train import TrainSettings

CODE_SIZE = 64
HEAD_SHARE = 0.5


class RandomPictures(Pictures):
    """As many random views as asked for; half of the pixels show the head."""

    def __init__(self, count: int, height: int, width: int):
        super().__init__([])
        self._count, self._shape = count, (1, height, width)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Buffers, Target]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.rand(self._shape, generator=generator) < HEAD_SHARE
        depth, normals, x_can = (
            torch.rand(*self._shape, *more, generator=generator) - 0.5 for more in ((), (3,), (5,))
        )
        rgb = torch.randint(256, (*self._shape, 3), generator=generator, dtype=torch.uint8)
        codes = torch.randn(1, CODE_SIZE, generator=generator)
        return Buffers(depth, normals, x_can, mask, codes), Target(rgb, mask, torch.ones_like(mask))


def trainer(settings: TrainSettings, pictures: Pictures, patch: int) -> Trainer:
    """A fresh trainer of the settings' architecture with another patch."""
    torch.manual_seed(0)
    return Trainer(Avatar(settings.architecture.model_copy(update={"patch": patch}), CODE_SIZE), pictures, settings)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="measured steps of each kind")
    parser.add_argument("--batch", type=int, default=TrainSettings().batch)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=144)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    settings = TrainSettings(texture_steps=0, steps=given.steps + 1, batch=given.batch)
    pictures = RandomPictures(4 * given.batch, given.height, given.width)
    ours, unfolded = (trainer(settings, pictures, patch) for patch in (settings.architecture.patch, 1))
    wall, cpu = {ours: [], unfolded: []}, {ours: [], unfolded: []}
    for _ in range(given.steps + 1):
        for each in (ours, unfolded):
            started, worked = time.perf_counter(), time.process_time()
            each.train_step()
            wall[each].append(time.perf_counter() - started)
            cpu[each].append(time.process_time() - worked)
    # Kernels are chosen and memory is taken in the first step: left out.
    s_per_step, unfolded_s_per_step = (float(np.median(wall[each][1:])) for each in (ours, unfolded))
    figures = {
        "images_per_s": given.batch / s_per_step,
        "s_per_step": s_per_step,
        "cpu_s_per_image": float(np.median(cpu[ours][1:])) / given.batch,
        "unfolded_s_per_step": unfolded_s_per_step,
        "ratio": unfolded_s_per_step / s_per_step,
        "parameters": ours.size,
        "batch": given.batch,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
