"""What benchmarks of training share: small pictures of a subject's results, and an avatar after a short training."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import torch

from pipeline.avatar.data.chosen import camera_places
from pipeline.avatar.data.pictures import Pictures, Target, View, crop, sequence_views
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import trained_tensors
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.train.loop import Trainer
from pipeline.planning.presets import PRESETS, Values, laid_over
from pipeline.settings.train import TrainSettings
from pipeline.store.reel import open_reels

HALF = 2
DEMO = TrainSettings()
HALF_SIZE: Values = {
    "crop_height": DEMO.crop_height // HALF,
    "crop_width": DEMO.crop_width // HALF,
    "architecture": {"plane_size": DEMO.architecture.plane_size // HALF},
}
# The paper's preset but for what fits a short training at a small size: few pictures, higher rates that come to rest.
SHORT: Values = {
    "batch": 2,
    "learning_rate": 1e-3,
    "rate_decay": "cosine",
    "average_decay": 0.99,
    "crop_share": 1.0,
}
PLAIN = {"eye_weight": 1.0, "mouth_weight": 1.0, "rare_share": 0.0, "plane_smoothness": 0.0}  # all count alike


def views_of(stack: ExitStack, results: Path, sequences: list[str], camera: str, held_out: bool) -> list[View]:
    """The named camera's views of some sequences, or all other cameras'; their files stay open as long as the stack."""
    views = []
    for sequence in sequences:
        kinds = (f"buffers/{sequence}/capture", f"targets/{sequence}")
        paths = [sorted((results / kind).glob("*.zarr.zip")) for kind in kinds]
        buffers, targets = (stack.enter_context(open_reels(found))[sequence] for found in paths)
        places = [place for name, place in camera_places(buffers).items() if (name == camera) == held_out]
        views += sequence_views(buffers, targets, results / "tracks" / f"{sequence}.zarr.zip", places)
    return views


class Kept(Pictures):
    """Views in the place of whose pictures are others, all `kept` in memory."""

    def __init__(self, views: list[View], kept: list[tuple[Buffers, Target]]):
        super().__init__(views)
        self.fit_in_memory = True
        self._cache = dict(enumerate(kept))

    def sides(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self[index][0].mask.shape[1:]


class SmallPictures(Kept):
    """Views made smaller: the middle pixel of every square of `factor` of the buffers, the mean colour."""

    def __init__(self, views: list[View], factor: int):
        large = Pictures(views)
        super().__init__(views, [tuple(_smaller(part, factor) for part in large[i]) for i in range(len(views))])


class Windows(Kept):
    """Windows of one size cut out of views: round the middles of what `find` says of a view's pixels, some
    pictures (h, w) bool, each of which gives a window where it has pixels enough."""

    def __init__(
        self,
        views: list[View],
        height: int,
        width: int,
        find: Callable[[Buffers, Target], list[torch.Tensor]],
        enough: int = 20,
    ):
        seen, cut, whole = [], [], Pictures(views)
        for index, view in enumerate(views):
            buffers, target = whole[index]
            sides = buffers.mask.shape[1:]
            for pixels in find(buffers, target):
                if pixels.sum() < enough:
                    continue
                middle = pixels.nonzero().float().mean(0).round().int().tolist()
                top, left = (
                    min(max(place - size // 2, 0), side - size)
                    for place, size, side in zip(middle, (height, width), sides, strict=True)
                )
                seen.append(view)
                cut.append(tuple(crop(part, top, left, height, width) for part in (buffers, target)))
        super().__init__(seen, cut)


def parser(about: str) -> argparse.ArgumentParser:
    """Options that say whose pictures, and which of them training never sees."""
    result = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--results", type=Path, required=True, help="folder of a subject with buffers and targets")
    result.add_argument("--held-out-sequence", default="EXP-2-eyes")
    result.add_argument("--held-out-camera", default="222200037")
    return result


def small_pictures(given: argparse.Namespace, factor: int, new_sequence: bool, new_camera: bool) -> SmallPictures:
    """Of the held-out sequence or all others, from the held-out camera or all others; `given` by `parser`."""
    with ExitStack() as stack:
        return SmallPictures(_views(stack, given, new_sequence, new_camera), factor)


def windows(
    given: argparse.Namespace, height: int, width: int, find: Callable[[Buffers, Target], list[torch.Tensor]]
) -> tuple[Windows, Windows]:
    """Those to learn from, of all other sequences and cameras, and those of the held-out sequence and camera; `given`
    by `parser`."""
    with ExitStack() as stack:
        learnt, held_out = (Windows(_views(stack, given, new, new), height, width, find) for new in (False, True))
    return learnt, held_out


def _views(stack: ExitStack, given: argparse.Namespace, new_sequence: bool, new_camera: bool) -> list[View]:
    names = sorted(path.name for path in (given.results / "targets").iterdir())
    sequences = [name for name in names if (name == given.held_out_sequence) == new_sequence]
    return views_of(stack, given.results, sequences, given.held_out_camera, new_camera)


def _smaller(part: Buffers | Target, factor: int) -> Buffers | Target:
    middle = slice((factor - 1) // 2, None, factor)
    small = {name: t[:, middle, middle].clone() if t.ndim > 2 else t for name, t in vars(part).items()}
    if "rgb" in small:
        height, width = small["rgb"].shape[1:3]
        rgb = cv2.resize(part.rgb[0].numpy(), (width, height), interpolation=cv2.INTER_AREA)
        small["rgb"] = torch.from_numpy(rgb)[None]
    return type(part)(**small)


def paper(pretrained: str) -> Values:
    """The paper's preset on a model that halves the sides; the condition's widths are the ends of the paper's."""
    small = {"architecture": {"pretrained": pretrained, "condition_widths": (16, 64)}}
    return laid_over(laid_over(laid_over(PRESETS["paper"]["train"], SHORT), HALF_SIZE), small)


def trained_avatar(settings: TrainSettings, pictures: Pictures) -> Avatar:
    """An avatar after all steps of the settings, with its averaged weights, ready to render."""
    torch.manual_seed(settings.seed)
    avatar = Avatar(settings.architecture, len(pictures.views[0].z_exp))
    avatar.describe_data(*pictures.statistics())
    trainer = Trainer(avatar, pictures, settings)
    while trainer.step < trainer.total:
        trainer.train_step()
    with torch.no_grad():
        for name, tensor in trained_tensors(avatar).items():
            tensor.copy_(trainer.average[name])
    return avatar.eval()
