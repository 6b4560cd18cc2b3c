"""An estimate of a GPU's memory in training the paper's model, by counting on PyTorch's meta device. Last line: JSON.

    python -m benchmarks.card_memory [--size sd21] [--batch 8]

No GPU is asked: weights, gradients, AdamW's two moments and the running average are counted, and what autograd keeps of
a forward pass through one part of a batch, for every number of parts (accumulation) and with and without checkpointing.
Attention counts as a fused kernel keeps it: query, key, value and result. With checkpointing the largest block that is
computed anew is added. Not counted: what kernels need while they run, the autoencoder's encoder at work, fragments and
the CUDA context; `SPARE` of a card is left for that. Estimates, until `make test-gpu` has measured them. encoder_share
is the share of a step's multiplications and additions that encode its pictures, which kept latents save.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_model import CODE_SIZE, SIDES, SIZES, RandomPictures, paper_settings, random_model
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.processes import Processes
from pipeline.avatar.train.loop import Trainer

META = torch.device("meta")
CARDS = (24, 48, 80)  # GB
SPARE = 0.2  # of a card


class Fused(torch.autograd.Function):
    """Attention as far as memory goes: a fused kernel keeps its inputs and its result, no matrix of weights."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(kept) for kept in ctx.saved_tensors[:3])


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> torch.Tensor:
    """In the place of F.scaled_dot_product_attention."""
    return Fused.apply(query, key, value)


def round_as_autocast(avatar: Avatar) -> int:
    """Let the networks compute as CUDA's autocast to bfloat16 would, which the meta device lacks: products in bfloat16,
    norms in float32. Returns the bytes that the frozen weights of products lose by being rounded once.
    """
    saved = 0
    for name, module in avatar.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name != "to_tokens":
            module.forward = partial(_in_bfloat16, module)
            saved += sum(2 * p.numel() for p in module.parameters() if not p.requires_grad)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.forward = partial(_in_float32, type(module).forward, module)
    return saved


def _in_bfloat16(module: nn.Conv2d | nn.Linear, values: torch.Tensor, *_: Any) -> torch.Tensor:
    weight, bias = module.weight.bfloat16(), None if module.bias is None else module.bias.bfloat16()
    if isinstance(module, nn.Linear):
        return F.linear(values.bfloat16(), weight, bias)
    return F.conv2d(values.bfloat16(), weight, bias, module.stride, module.padding, module.dilation, module.groups)


def _in_float32(forward: Callable[..., torch.Tensor], module: nn.Module, values: torch.Tensor) -> torch.Tensor:
    return forward(module, values.float())


@dataclass
class Kept:
    """Bytes of the tensors that autograd keeps, each counted once, but for those in `known`."""

    known: set[int]
    seen: dict[int, torch.UntypedStorage] = field(default_factory=dict)
    largest: int = 0  # of the blocks that checkpointing computes anew

    def watch(self, avatar: Avatar) -> None:
        """Note how much each block keeps."""
        before: dict[nn.Module, int] = {}

        def enter(block: nn.Module, *_: Any) -> None:
            before[block] = self.size

        def leave(block: nn.Module, *_: Any) -> None:
            self.largest = max(self.largest, self.size - before.pop(block))

        for block in avatar.modules():
            if isinstance(block, ResnetBlock2D | BasicTransformerBlock):
                block.register_forward_pre_hook(enter)
                block.register_forward_hook(leave)

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(storage.nbytes() for storage in self.seen.values())

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Autograd's hook for what it keeps."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.seen[storage._cdata] = storage  # held, so that no other storage takes its place
        return tensor


@contextmanager
def counting(avatar: Avatar) -> Iterator[Kept]:
    """Count what is kept for the backward pass, weights left out."""
    kept = Kept({tensor.untyped_storage()._cdata for tensor in [*avatar.parameters(), *avatar.buffers()]})
    with (
        mock.patch.object(F, "scaled_dot_product_attention", attention),
        torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor),
    ):
        yield kept


def training(size: str, batch: int, checkpointing: bool = False) -> Trainer:
    """A training on the meta device."""
    way = {"checkpointing": checkpointing, "crop_share": 0.7, "read_ahead": 0, "fetch_every": 9}
    settings = paper_settings(size, batch=batch, **way)
    pretrained, _ = random_model(size, "meta")
    with META:
        avatar = Avatar(settings.architecture, CODE_SIZE, pretrained)
    return Trainer(avatar, RandomPictures(batch, SIDES[size], SIDES[size]), settings, processes=Processes(META))


def encoder_share(size: str) -> float:
    """Of what a step of one picture computes, forward and backward, what the autoencoder does."""
    trainer = training(size, 1)
    (part,) = trainer.batches.parts(trainer.recipe.texture_steps)
    with FlopCounterMode(display=False) as whole:
        trainer._loss(part, part.counts()).backward()
    with FlopCounterMode(display=False) as encoding:
        trainer.avatar.encode(torch.zeros(1, 3, SIDES[size], SIDES[size], device=META), torch.zeros((), device=META))
    trainer.close()
    return encoding.get_total_flops() / whole.get_total_flops()


def activations(size: str, batch: int, precision: str, checkpointing: bool) -> tuple[int, dict[str, int]]:
    """Bytes that a forward pass of `batch` pictures keeps, and those of weights and of what AdamW adds."""
    trainer = training(size, batch, checkpointing)
    avatar, settings = trainer.avatar, trainer.recipe
    (part,) = trainer.batches.parts(settings.texture_steps)
    rounded = round_as_autocast(avatar) if precision == "bfloat16" else 0
    with counting(avatar) as kept:
        if not checkpointing:
            kept.watch(avatar)
        trainer._loss(part, part.counts())
    trained = sum(p.numel() for p in avatar.parameters() if p.requires_grad)
    weights = sum(p.numel() * p.element_size() for p in avatar.parameters()) - rounded
    averaged = 4 * trained if settings.average_decay else 0
    trainer.close()
    return kept.size, {
        "weights": weights,
        "block": kept.largest,
        "trained": trained,
        "optimiser": 12 * trained + averaged,
    }


def main() -> None:
    """Count, then say which settings fit which card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="sd21")
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    found: dict[str, float] = {}
    print("| precision | checkpointing | accumulation | weights and AdamW, GB | activations, GB | least card, GB |")
    print("|---|---|---|---|---|---|")
    for precision in ("float32", "bfloat16"):
        block = (0, 0)
        for checkpointing in (False, True):
            (one, fixed), (two, doubled) = (activations(given.size, n, precision, checkpointing) for n in (1, 2))
            base = fixed["weights"] + fixed["optimiser"]
            for parts in (1, 2, 4, 8):
                more = given.batch // parts - 1  # whatever does not grow with the pictures is kept once
                kept = one + (two - one) * more
                kept += (block[0] + (block[1] - block[0]) * more) if checkpointing else 0
                least = min((card for card in CARDS if base + kept <= card * 1e9 * (1 - SPARE)), default="none")
                way = "yes" if checkpointing else "no"
                print(f"| {precision} | {way} | {parts} | {base / 1e9:.1f} | {kept / 1e9:.1f} | {least} |")
                found[f"{precision}_{'checkpointing_' if checkpointing else ''}{parts}"] = round((base + kept) / 1e9, 3)
            block = fixed["block"], doubled["block"]
    share = round(encoder_share(given.size), 3)
    print(json.dumps({"batch": given.batch, "size": given.size, "gb": found, "encoder_share": share}))


if __name__ == "__main__":
    main()
