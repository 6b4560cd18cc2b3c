"""LPIPS (Zhang et al. 2018) on AlexNet's features, in plain layers that read their weights from a file.

    python -m pipeline.evaluate.measures.lpips alexnet-owt-7be5be79.pth alex.pth --output lpips_alex.safetensors

joins torchvision's AlexNet and the linear layers of LPIPS 0.1 (weights/v0.1/alex.pth of its package), which are not
shipped here, into the one file that the setting `evaluate.lpips` names.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline import cli
from pipeline.errors import DataError
from pipeline.store.chunk import publish

CONVOLUTIONS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # place in torchvision's AlexNet: stride, rim
POOLED = (3, 6)  # places that a maximum over 3x3, every second pixel, comes before
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1]
TINY = 1e-10
LEAST = 63  # pixels; a smaller side leaves nothing after the second maximum


class Lpips(nn.Module):
    """Distance of pictures in the features of five layers; 0 for equal ones.

    `weights` are named as torchvision and LPIPS name them: features.{0,3,6,8,10}.{weight,bias} and
    lin{0..4}.model.1.weight. Widths are the file's own. Raises KeyError or ValueError where they do not fit.
    """

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        layers, linear, channels = [], [], 3
        for number, (place, (stride, padding)) in enumerate(CONVOLUTIONS.items()):
            kernel, bias = weights[f"features.{place}.weight"], weights[f"features.{place}.bias"]
            weigh = weights[f"lin{number}.model.1.weight"]
            width, fan_in, high, wide = kernel.shape
            if fan_in != channels or bias.shape != (width,) or weigh.shape != (1, width, 1, 1):
                raise ValueError(f"layer {place} has {list(kernel.shape)}, its linear one {list(weigh.shape)}")
            layer = nn.Conv2d(channels, width, (high, wide), stride, padding)
            layer.load_state_dict({"weight": kernel, "bias": bias})
            layers.append(layer)
            linear.append(weigh.float())
            channels = width
        self.layers = nn.ModuleList(layers)
        self.linear = linear
        self.requires_grad_(False).eval()

    def maps(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Distances (B, 1, h', w') of the layers for pictures (B, 3, h, w) in [-1, 1]."""
        both = torch.cat([a, b])
        x = (both - both.new_tensor(SHIFT)[:, None, None]) / both.new_tensor(SCALE)[:, None, None]
        found = []
        for place, layer, weigh in zip(CONVOLUTIONS, self.layers, self.linear, strict=True):
            if place in POOLED:
                x = F.max_pool2d(x, 3, 2)
            x = layer(x).relu()
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + TINY)
            one, other = unit.chunk(2)
            found.append(F.conv2d((one - other).square(), weigh))
        return found

    @torch.inference_mode()
    def figures(self, prediction: np.ndarray, truth: np.ndarray, head: np.ndarray) -> dict[str, float]:
        """`lpips` of the frame, as its authors have it, and `lpips_head`: the maps enlarged to the picture, their mean
        over the head (h, w) bool. Pictures (h, w, 3) uint8 sRGB over white; of less than 63 pixels neither."""
        if min(head.shape) < LEAST:
            return {}
        a, b = (torch.from_numpy(picture)[None].permute(0, 3, 1, 2) / 127.5 - 1 for picture in (prediction, truth))
        maps = self.maps(a, b)
        each = [F.interpolate(one, head.shape, mode="bilinear", align_corners=False) for one in maps]
        whole = torch.stack(each).sum(0)
        return {
            "lpips": float(sum(one.mean() for one in maps)),
            "lpips_head": float(whole[0, 0][torch.from_numpy(head)].mean()),
        }


def load_lpips(path: Path) -> Lpips:
    """The network of a file. Raises DataError naming it when it is missing or holds another network's weights."""
    try:
        return Lpips(load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: no weights of LPIPS on AlexNet ({error}); pipeline.evaluate.measures.lpips joins them"
        ) from None


def main() -> None:
    """Join both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alexnet", type=Path, help="torchvision's state of AlexNet")
    parser.add_argument("linear", type=Path, help="LPIPS 0.1's linear layers for it")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    weights: dict[str, Tensor] = {}
    for path in (given.alexnet, given.linear):
        weights |= torch.load(path, map_location="cpu", weights_only=True)
    used = {name: tensor.contiguous() for name, tensor in weights.items() if name.startswith(("features.", "lin"))}
    try:
        Lpips(used)
    except (KeyError, ValueError) as error:
        raise DataError(f"{given.alexnet} and {given.linear}: not AlexNet and its linear layers ({error})") from None
    with publish(given.output) as partial:
        save_file(used, partial)


if __name__ == "__main__":
    cli.run(main)
