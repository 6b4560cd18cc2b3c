"""Ways to make a few-step avatar of a trained one, compared at a third of the demo's size; JSON lines.

    python -m benchmarks.distill --results results/901 --teacher teacher.safetensors [--ways own_walk] [--few 1 2 4]
    python -m benchmarks.distill --results results/901 --teacher teacher.safetensors --pretrained FOLDER --batch 2

The teacher predicts v and sees all timesteps alike, as the paper's model does; it is trained first where its file is
missing. With --pretrained it is the paper's preset on a latent diffusion model such as benchmarks.latent_model makes,
at half the demo's size. The first lines are the teacher's own, rendered in 1, 2, 4 and 20 steps. Then each way makes an
avatar for 1, 2 and 4 steps of it. Figures are means over the held-out camera's film of the held-out sequence: PSNR and
FLIP in the head's pixels against the real pictures, sharpness as in benchmarks.prediction.

pictures     real pictures with noise at the timesteps that rendering visits; the target is the real picture
own_walk     what the avatar itself makes of noise up to such a timestep; the target is the real picture
teacher      the same; the target is what the teacher makes of the same noise in 20 steps
fixed_noise  the same, but always from the one noise that the render stage starts from
consistency  real pictures with noise at the teacher's 20 timesteps; the target is what the avatar's running average
             predicts one step of the teacher later (Luo et al. 2023, without guidance)
critic       own_walk, and a critic of patches of latents, trained beside it, is to take what is rendered for real,
             with a weight of 0.05
"""

import argparse
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.prediction import SMALL, THIRD, sharpness
from benchmarks.short_training import HALF, PLAIN, paper, small_pictures, trained_avatar
from benchmarks.short_training import parser as options
from pipeline.avatar.data.batches import Part
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import load_avatar, read_avatar, trained_tensors, write_avatar
from pipeline.avatar.model.schedule import (
    TRAINING_TIMESTEPS,
    Predict,
    picture_of_v,
    shared_noise,
    signal_shares,
    trailing,
    v_of_picture,
    walk,
)
from pipeline.avatar.render import render_views
from pipeline.avatar.train.distillation import Distiller
from pipeline.avatar.train.loop import Trainer
from pipeline.evaluate.measures.image import flip_map, psnr
from pipeline.planning.presets import Values
from pipeline.settings.distill import DistillSettings
from pipeline.settings.train import TrainSettings

MANY = 20
CRITIC_WEIGHT = 0.05
PIXELS_PER_DEGREE = 67


class FromPictures(Distiller):
    """Real pictures with noise, as in training."""

    noisy_and_target = Trainer.noisy_and_target


class FromTeacher(Distiller):
    """The avatar's own walk, towards what the teacher renders."""

    teacher: Avatar

    @torch.no_grad()
    def other(self, avatar: Avatar, part: Part) -> tuple[Predict, torch.Tensor]:
        """Another avatar's v, and what to add to latents over its base to have them over the own avatar's."""
        picture, tokens, colours = avatar.conditions(part.buffers)
        base = avatar.base(colours, part.buffers.mask)
        own = self.avatar.base(self.avatar.conditions(part.buffers)[2], part.buffers.mask)
        return lambda latents, at: avatar(latents, at, base, picture, tokens), (base - own) / avatar.latent_unit

    def noisy_and_target(
        self, part: Part, latents: torch.Tensor, predict_v: Predict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        teacher_v, offset = self.other(self.teacher, part)
        *_, rendered = walk(teacher_v, part.noise, MANY)
        return super().noisy_and_target(part, rendered + offset, predict_v)


class FromFixedNoise(FromTeacher):
    """The same from the one noise that rendering starts from."""

    def noisy_and_target(
        self, part: Part, latents: torch.Tensor, predict_v: Predict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        noise = shared_noise(part.noise.shape[1:], 1, 0).to(part.noise.device).expand_as(part.noise)
        return super().noisy_and_target(replace(part, noise=noise), latents, predict_v)


class FromLaterSelf(FromTeacher):
    """Consistency: noisy real pictures, towards what the running average predicts one of the teacher's steps later."""

    def sample_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """One of the teacher's."""
        return trailing(MANY)[torch.randint(MANY, (count,), generator=generator)]

    @torch.no_grad()
    def noisy_and_target(
        self, part: Part, latents: torch.Tensor, predict_v: Predict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        teacher_v, offset = self.other(self.teacher, part)
        slow_v, slow_offset = self.other(load(copy.deepcopy(self.teacher), self.average), part)
        now, later = part.timesteps, (part.timesteps - TRAINING_TIMESTEPS // MANY).clamp_min(0)
        share, after = (signal_shares(now.device)[at][:, None, None, None] for at in (now, later))
        noisy = self.scheduler.add_noise(latents, part.noise, now)
        v = teacher_v(noisy, now)
        rendered, noise = picture_of_v(noisy, v, now), (1 - share).sqrt() * noisy + share.sqrt() * v
        moved = after.sqrt() * rendered + (1 - after).sqrt() * noise
        predicted = picture_of_v(moved, slow_v(moved, later), later)
        is_last = (now < TRAINING_TIMESTEPS // MANY)[:, None, None, None]
        return noisy, v_of_picture(noisy, torch.where(is_last, rendered + offset, predicted + slow_offset), now)


WAYS = {
    "own_walk": Distiller,
    "pictures": FromPictures,
    "teacher": FromTeacher,
    "fixed_noise": FromFixedNoise,
    "consistency": FromLaterSelf,
    "critic": Distiller,
}


@torch.no_grad()
def load(avatar: Avatar, tensors: dict[str, torch.Tensor]) -> Avatar:
    """The avatar with the given tensors."""
    own = dict(avatar.named_parameters()) | dict(avatar.named_buffers())
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
    return avatar


def whole(pictures: Pictures, batch: int) -> Values:
    """Settings for crops that are whole pictures, all alike."""
    height, width = pictures.sides(0)
    return PLAIN | {"crop_height": height, "crop_width": width, "batch": batch, "warmup_steps": 20}


def train_teacher(given: argparse.Namespace, pictures: Pictures) -> None:
    """Train and write the teacher."""
    small = {"texture_steps": 60, "terminal_share": 0.0, "snr_limit": 1e6}
    small |= {"architecture": {"predicts": "v", **SMALL}}
    recipe = paper(given.pretrained) if given.pretrained else small
    recipe |= whole(pictures, given.batch) | {"steps": given.teacher_steps}
    avatar = trained_avatar(TrainSettings.model_validate(recipe), pictures)
    write_avatar(given.teacher, avatar, trained_tensors(avatar), given.teacher_steps)


def distilled(way: str, few: int, given: argparse.Namespace, pictures: Pictures) -> Avatar:
    """The few-step avatar that a way makes of the teacher in the file."""
    budget = {"into": few, "steps": given.steps, "learning_rate": given.rate}
    budget |= {"critic_weight": CRITIC_WEIGHT} if way == "critic" else {}
    settings = DistillSettings(**whole(pictures, given.batch), **budget)
    loop = WAYS[way](load_avatar(given.teacher), pictures, settings)
    loop.teacher = read_avatar(given.teacher).to(loop.device)
    while loop.step < loop.total:
        loop.train_step()
    return load(loop.avatar, loop.average).eval().requires_grad_(False)


def figures(avatar: Avatar, test: Pictures, steps: int) -> dict[str, float]:
    """psnr_head, flip_head and sharpness of a film rendered in so many steps."""
    rows = []
    for index, rendered in enumerate(render_views(avatar, test, steps, eta=0.0, seed=0)):
        target = test[index][1]
        made, truth, head = rendered.numpy(), target.rgb[0].numpy(), target.head[0].numpy()
        flip = flip_map(made, truth, PIXELS_PER_DEGREE)[head].mean()
        rows.append((psnr(made, truth, head), flip, sharpness(made, head) / sharpness(truth, head)))
    means = np.mean(rows, axis=0).tolist()
    return {name: round(x, 3) for name, x in zip(("psnr_head", "flip_head", "sharpness"), means, strict=True)}


def rows(given: argparse.Namespace, training: Pictures, test: Pictures) -> Iterator[dict[str, object]]:
    """The table, a row at a time."""
    if not given.teacher.is_file():
        train_teacher(given, training)
    teacher = read_avatar(given.teacher)
    for steps in (*given.few, MANY):
        yield {"way": "none", "drawn_in": steps, **figures(teacher, test, steps)}
    for way in given.ways:
        for few in given.few:
            avatar = distilled(way, few, given, training)
            yield {"way": way, "drawn_in": few, **figures(avatar, test, few)}


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="its avatar.safetensors, made when missing")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--few", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--teacher-steps", type=int, default=500)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--pretrained", help="folder of a latent diffusion model that halves the sides")
    parser.add_argument("--batch", type=int, default=8, help="pictures per step")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    factor = HALF if given.pretrained else THIRD
    training, test = (small_pictures(given, factor, new, new) for new in (False, True))
    for row in rows(given, training, test):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
