"""Ways to make a few-step avatar of a trained one, compared at a third of the demo's size; JSON lines.

    python -m benchmarks.distill --results results/901 --teacher teacher.safetensors [--ways own_walk] [--few 1 2 4]

The teacher predicts v and sees all timesteps alike, as the paper's model does; it is trained first where its file is
missing. The first lines are the teacher's own, drawn in 1, 2, 4 and 20 steps. Then each way makes an avatar for 1, 2
and 4 steps of it. Figures are means over the held-out camera's film of the held-out sequence: PSNR and FLIP in the
head's pixels against the real pictures, sharpness as in benchmarks.prediction.

pictures     real pictures with noise at the timesteps that drawing visits; wanted is the real picture
own_walk     what the avatar itself makes of noise up to such a timestep; wanted is the real picture
teacher      the same; wanted is what the teacher makes of the same noise in 20 steps
fixed_noise  the same, but always from the one noise that the render stage starts from
consistency  real pictures with noise at the teacher's 20 timesteps; wanted is what the avatar's running average says
             one step of the teacher later (Luo et al. 2023, without guidance)
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.prediction import SMALL, SmallPictures, read, sharpness
from pipeline.avatar.architecture import Architecture
from pipeline.avatar.batch import Part
from pipeline.avatar.checkpoint import read_avatar, trained_tensors, write_avatar
from pipeline.avatar.data import Pictures
from pipeline.avatar.drawing import draw
from pipeline.avatar.loop import Loop, Trainer
from pipeline.avatar.model import Avatar
from pipeline.avatar.recipe import Recipe
from pipeline.avatar.schedule import Predict, make_scheduler, shared_noise, trailing, v_of_picture, walk
from pipeline.metrics.image import flip_map, psnr

MANY = 20
PIXELS_PER_DEGREE = 67


class Way(Loop):
    """A few-step avatar in the making: weights start from the teacher's."""

    def __init__(self, avatar: Avatar, pictures: Pictures, recipe: Recipe, teacher: Avatar, few: int):
        self.teacher, self.few = teacher, few
        super().__init__(avatar, pictures, recipe)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """One of those that drawing visits."""
        return trailing(self.few)[torch.randint(self.few, (count,), generator=generator)]

    def teaches(self, part: Part) -> tuple[Predict, torch.Tensor, torch.Tensor]:
        """The teacher's v, and its base less the avatar's own, in latents."""
        teacher, buffers = self.teacher, part.buffers
        picture, tokens, colours = teacher.conditions(buffers)
        base = teacher.base(colours, buffers.mask)
        own = self.avatar.base(self.avatar.conditions(buffers)[2], buffers.mask)
        offset = (base - own) / teacher.latent_unit
        return lambda latents, timesteps: teacher(latents, timesteps, base, picture, tokens), offset


class PicturesWay(Way):
    exercise = Trainer.exercise


class OwnWalk(Way):
    def start(self, part: Part) -> torch.Tensor:
        return part.noise

    def walked(self, part: Part, predict_v: Predict) -> torch.Tensor:
        """The latents (B, C, h', w') that the avatar reaches at the part's timesteps."""
        states = torch.stack(list(walk(predict_v, self.start(part), self.few))[:-1])
        which = (part.timesteps[:, None] == trailing(self.few)).int().argmax(1)
        return states[which, torch.arange(len(which))]

    def exercise(self, part: Part, latents: torch.Tensor, predict_v: Predict) -> tuple[torch.Tensor, torch.Tensor]:
        noisy = self.walked(part, predict_v)
        return noisy, v_of_picture(noisy, self.wanted(part, latents), part.timesteps)

    def wanted(self, part: Part, latents: torch.Tensor) -> torch.Tensor:
        return latents


class TeacherWay(OwnWalk):
    @torch.no_grad()
    def wanted(self, part: Part, latents: torch.Tensor) -> torch.Tensor:
        predict_v, offset = self.teaches(part)
        *_, made = walk(predict_v, self.start(part), MANY)
        return made + offset


class FixedNoise(TeacherWay):
    def start(self, part: Part) -> torch.Tensor:
        return shared_noise(part.noise.shape[1:], 1, 0).expand_as(part.noise)


class Consistency(Way):
    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """One of the teacher's."""
        return trailing(MANY)[torch.randint(MANY, (count,), generator=generator)]

    @torch.no_grad()
    def exercise(self, part: Part, latents: torch.Tensor, predict_v: Predict) -> tuple[torch.Tensor, torch.Tensor]:
        scheduler = make_scheduler()
        shares = scheduler.alphas_cumprod
        now, later = part.timesteps, part.timesteps - scheduler.config.num_train_timesteps // MANY
        noisy = scheduler.add_noise(latents, part.noise, now)
        teacher_v, offset = self.teaches(part)
        share = shares[now][:, None, None, None]
        v = teacher_v(noisy, now)  # said of latents relative to the teacher's base; the two bases are close
        picture = share.sqrt() * noisy - (1 - share).sqrt() * v + offset
        noise = (1 - share).sqrt() * noisy + share.sqrt() * v
        after = shares[later.clamp_min(0)][:, None, None, None]
        moved = after.sqrt() * picture + (1 - after).sqrt() * noise
        own = {name: tensor.clone() for name, tensor in trained_tensors(self.avatar).items()}
        load(self.avatar, self.average)
        said = after.sqrt() * moved - (1 - after).sqrt() * predict_v(moved, later.clamp_min(0))
        load(self.avatar, own)
        wanted = torch.where((later < 0)[:, None, None, None], picture, said)
        return noisy, v_of_picture(noisy, wanted, now)


WAYS = {
    "pictures": PicturesWay,
    "own_walk": OwnWalk,
    "teacher": TeacherWay,
    "fixed_noise": FixedNoise,
    "consistency": Consistency,
}


@torch.no_grad()
def load(avatar: Avatar, tensors: dict[str, torch.Tensor]) -> Avatar:
    """The avatar with the given trained tensors."""
    for name, tensor in trained_tensors(avatar).items():
        tensor.copy_(tensors[name])
    return avatar


def small_recipe(pictures: Pictures, **more: object) -> Recipe:
    """Whole pictures, all timesteps alike, errors of v or of the picture as the snr_limit says."""
    height, width = pictures.sides(0)
    return Recipe(crop_height=height, crop_width=width, terminal_share=0.0, warmup_steps=20, **more)


def train_teacher(path: Path, pictures: Pictures, steps: int) -> None:
    """Train and write the teacher."""
    torch.manual_seed(0)
    codes, depth, x_can = pictures.statistics()
    avatar = Avatar(Architecture(predicts="v", **SMALL), codes.shape[1])
    avatar.describe_data(codes, depth, x_can)
    trainer = Trainer(avatar, pictures, small_recipe(pictures, texture_steps=60, steps=steps, batch=8, snr_limit=1e6))
    while trainer.step < trainer.total:
        trainer.train_step()
    write_avatar(path, avatar, trainer.average, trainer.step)


def distilled(way: str, path: Path, pictures: Pictures, few: int, steps: int, rate: float) -> Avatar:
    """The few-step avatar that a way makes of the teacher in the file."""
    recipe = small_recipe(pictures, texture_steps=0, steps=steps, batch=8, learning_rate=rate, plane_learning_rate=rate)
    teacher, avatar = read_avatar(path), read_avatar(path)
    loop = WAYS[way](avatar.requires_grad_(True), pictures, recipe, teacher, few)
    while loop.step < loop.total:
        loop.train_step()
    return load(avatar, loop.average).requires_grad_(False)


def figures(avatar: Avatar, test: Pictures, steps: int) -> dict[str, float]:
    """psnr_head, flip_head and sharpness of a film drawn in so many steps."""
    rows = []
    for index, drawn in enumerate(draw(avatar, test, steps, eta=0.0, seed=0)):
        target = test[index][1]
        made, truth, head = drawn.numpy(), target.rgb[0].numpy(), target.head[0].numpy()
        flip = flip_map(made, truth, PIXELS_PER_DEGREE)[head].mean()
        rows.append((psnr(made, truth, head), flip, sharpness(made, head) / sharpness(truth, head)))
    means = np.mean(rows, axis=0).tolist()
    return {name: round(x, 3) for name, x in zip(("psnr_head", "flip_head", "sharpness"), means, strict=True)}


def rows(given: argparse.Namespace, training: SmallPictures, test: SmallPictures) -> Iterator[dict[str, object]]:
    """The table, a row at a time."""
    if not given.teacher.is_file():
        train_teacher(given.teacher, training, given.teacher_steps)
    teacher = read_avatar(given.teacher)
    for steps in (*given.few, MANY):
        yield {"way": "none", "drawn_in": steps, **figures(teacher, test, steps)}
    for way in given.ways:
        for few in given.few:
            avatar = distilled(way, given.teacher, training, few, given.steps, given.rate)
            yield {"way": way, "drawn_in": few, **figures(avatar, test, few)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of a subject with buffers and targets")
    parser.add_argument("--teacher", type=Path, required=True, help="its avatar.safetensors, made when missing")
    parser.add_argument("--held-out-sequence", default="EXP-2-eyes")
    parser.add_argument("--held-out-camera", default="222200037")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--few", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5e-4)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    sequences = sorted(path.name for path in (given.results / "targets").iterdir())
    training = read(given.results, [s for s in sequences if s != given.held_out_sequence], given.held_out_camera, False)
    test = read(given.results, [given.held_out_sequence], given.held_out_camera, True)
    for row in rows(given, training, test):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
