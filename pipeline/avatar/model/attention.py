"""Expression tokens read by an added cross-attention, put into a diffusers U-Net through attention processors."""

import copy
from typing import Literal, cast

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn


class ExpressionAttention(nn.Module):
    """Text cross-attention plus attention to expression tokens with the same query (DiffusionAvatars, Eq. 11).

    The added part has its own key, value and output projections; the output starts at zero, so that a freshly
    equipped network computes what it did before. diffusers hands `ip_hidden_states` to every processor whose
    `__call__` asks for it (hence no `forward`) and to no other, without a warning.
    """

    def __init__(self, attention: Attention, token_width: int):
        super().__init__()
        inner = attention.inner_dim
        self.to_k = nn.Linear(token_width, inner, bias=False)
        self.to_v = nn.Linear(token_width, inner, bias=False)
        self.to_out = nn.Linear(inner, attention.out_dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def __call__(
        self,
        attention: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        ip_hidden_states: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states (B, N, D), text (B, L, W), expression tokens `ip_hidden_states` (B, 4, W) -> (B, N, D).

        The text's part is diffusers' AttnProcessor2_0 for the attentions of a transformer block, which have no mask, no
        normalisation and no residual of their own; it is written out so that the query is computed once.
        """
        to_q, to_k, to_v, (to_out, dropout) = _projections(attention)
        query, keys, values = to_q(hidden_states), to_k(encoder_hidden_states), to_v(encoder_hidden_states)
        read = dropout(to_out(self._attend(attention, query, keys, values)))
        own = self._query(query, hidden_states)
        keys, values = self.to_k(ip_hidden_states), self.to_v(ip_hidden_states)
        return read + self.to_out(self._attend(attention, own, keys, values))

    def _query(self, query: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The expression's query (B, N, D), given the text's."""
        return query

    def _attend(
        self, attention: Attention, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What the query (B, N, D) reads of keys and values (B, L, D)."""
        query, keys, values = (self._heads(attention, x) for x in (query, keys, values))
        return F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)

    @staticmethod
    def _heads(attention: Attention, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)


class SeparateExpressionAttention(ExpressionAttention):
    """A full attention to expression tokens beside the text's: query, key and value start as copies of the text's.

    As in the paper's released code, but for its place: there it follows the text cross-attention and reads the hidden
    states before they are normalised; a processor reads them beside the text, normalised.
    """

    def __init__(self, attention: Attention, token_width: int):
        super().__init__(attention, token_width)
        self.to_q, self.to_k, self.to_v = (
            copy.deepcopy(projection).requires_grad_(True) for projection in _projections(attention)[:3]
        )

    def _query(self, query: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.to_q(hidden_states)


def _projections(attention: Attention) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.ModuleList]:
    """To query, keys, values and output. diffusers' types allow None, for attentions to nothing but themselves."""
    return cast(
        tuple[nn.Linear, nn.Linear, nn.Linear, nn.ModuleList],
        (attention.to_q, attention.to_k, attention.to_v, attention.to_out),
    )


PROCESSORS = {"shared": ExpressionAttention, "separate": SeparateExpressionAttention}


def add_expression_attention(unet: UNet2DConditionModel, kind: Literal["shared", "separate"] = "shared") -> int:
    """Give every cross-attention of the down and up blocks an expression attention. Returns how many there are."""
    layers = [
        module
        for name, module in unet.named_modules()
        if name.endswith("attn2") and name.startswith(("down_blocks", "up_blocks"))
    ]
    for layer in layers:
        layer.set_processor(PROCESSORS[kind](layer, unet.config["cross_attention_dim"]))
    return len(layers)
