"""The net as it is served: the same scores as `net.Net`, from weights laid out once for what a forward pass needs.

Prefix and candidates stay apart: a candidate attends to the keys and values of its user's prefix and to itself, so the
last layer's prefix is never computed. The heads of a user stand side by side in one block-diagonal matrix of keys and
one of values, so that attention is two products in the tokens' own layout: nothing is transposed or copied by head.
What is spread over a head's width is spread by a small product too, for products are what processors do best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm, linear

from model_server.ranker.encoder import CANDIDATE, PAST, SCENE, WINDOW

if TYPE_CHECKING:
    from model_server.ranker.encoder import Encoder
    from model_server.ranker.lists import Lists
    from model_server.ranker.net import Net


LEAST, MOST = -80.0, 60.0
"""Bounds of attention scores: their exponentials, and sums of many, are numbers in float32 and in bfloat16."""


class Served:
    """Lists -> scores f32[B, C] of `net` (in evaluation, on its device), matrix products in numbers of `dtype`."""

    @torch.no_grad()
    def __init__(self, net: Net, dtype: torch.dtype) -> None:
        self.dtype = dtype
        base = net.base
        self._mean, self._scale, self._linear = base.mean, base.scale, base.linear.weight[0]
        self._low, self._width = base.encode.low.T.flatten(), base.encode.scale.T.flatten()
        self._bins = base.encode.bins
        first, second, last = (layer for layer in base.net if isinstance(layer, nn.Linear))
        self._first = _Affine(by_bin(first.weight, self._bins), first.bias, dtype)
        self._second, self._last = _Affine.of(second, dtype), _Affine.of(last, dtype)
        self._encoder = None if net.encoder is None else ServedEncoder(net.encoder, dtype)

    def __call__(self, lists: Lists) -> Tensor:
        """Scores of the candidates; padding scores the lowest finite number."""
        return self.scored(lists)[0]

    @torch.inference_mode()
    def scored(self, lists: Lists) -> tuple[Tensor, Tensor]:
        """The scores, and the counter net's last hidden layer [B, C, H] in `dtype`: what the heads look at."""
        counters = lists.counters
        standard = ((counters - self._mean).mul_(self._scale)).clamp_(-10.0, 10.0)
        score = standard @ self._linear
        encoded = self._encode(counters)
        hidden = gelu(self._second(gelu(self._first(encoded))))
        score += self._last(hidden).squeeze(-1)
        if self._encoder is not None:
            score += self._encoder(lists, encoded)
        return score.masked_fill_(~lists.real, torch.finfo(score.dtype).min), hidden

    def _encode(self, counters: Tensor) -> Tensor:
        fill = torch.cat((counters,) * self._bins, -1)
        return fill.sub_(self._low).mul_(self._width).clamp_(0.0, 1.0).to(self.dtype)


def by_bin(weight: Tensor, bins: int) -> Tensor:
    """Weights over encoded counters [N, F * bins] with the bins outside: whole rows of counters are encoded at once."""
    return weight.view(len(weight), -1, bins).transpose(1, 2).flatten(1)


class ServedEncoder:
    """The residual: lists and encoded counters -> f32[B, C]."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype) -> None:
        self.shape, self.dtype = encoder.shape, dtype
        bert: Any = encoder.bert
        tables = bert.embeddings
        kind, place = tables.token_type_embeddings.weight, tables.position_embeddings.weight
        own = kind[CANDIDATE] + place[encoder.shape.prefix + encoder.shape.history]
        self._counters = _Affine(
            by_bin(encoder.counters.weight, encoder.shape.bins), encoder.counters.bias + own, dtype
        )
        self._word, self._category = encoder.word.weight.to(dtype), encoder.category.weight.to(dtype)
        self._encoder = encoder
        self._places = self._places_of(kind, place)
        self._norm = _Norm(tables.LayerNorm, dtype)
        self._layers = [_Layer(layer, encoder.shape.heads, dtype) for layer in bert.encoder.layer]
        self._head = encoder.head.weight[0]
        self._same_item, self._same_category = encoder.same_item.to(dtype), encoder.same_category.to(dtype)

    def __call__(self, lists: Lists, encoded: Tensor) -> Tensor:
        scene = self._encoder.scene(lists.scene + self._encoder.offsets)
        prefix, candidates = self._prefix(lists, scene), self._candidates(lists, encoded)
        shut, bias = self._masks(lists, prefix.shape[1])
        for number, layer in enumerate(self._layers):
            last = number == len(self._layers) - 1
            prefix, candidates = layer(prefix, candidates, shut, bias, last=last)
        head = self._head
        if self.shape.scene_gate:
            head = head * (1.0 + self._encoder.gate(scene.mean(1)))
        return (candidates.float() @ head.reshape(-1, self.shape.hidden, 1)).squeeze(-1)

    def _places_of(self, kind: Tensor, place: Tensor) -> Tensor:
        """What kind and position add to every token that is no candidate."""
        shape = self.shape
        kinds = torch.full((shape.prefix + shape.history,), PAST)
        kinds[: shape.prefix] = WINDOW
        kinds[: shape.prefix - shape.windows] = SCENE
        return kind[kinds.to(kind.device)] + place[: len(kinds)]

    def _prefix(self, lists: Lists, scene: Tensor) -> Tensor:
        parts = self._encoder
        past = (
            parts.word(lists.past_word)
            + parts.category(lists.past_category)
            + parts.kind(lists.past_kind)
            + parts.age(lists.past_age)
            + parts.hour(lists.past_hour)
        )
        start = parts.start.expand(len(scene), 1, -1)
        tokens = torch.cat(
            (start, *((scene,) if self.shape.scene_prefix else ()), parts.window(lists.windows), past), 1
        )
        return self._norm(tokens.add_(self._places[: tokens.shape[1]]).to(self.dtype))

    def _candidates(self, lists: Lists, encoded: Tensor) -> Tensor:
        tokens = self._counters(encoded)
        tokens += embedding(lists.word, self._word)
        tokens += embedding(lists.category, self._category)
        return self._norm(tokens)

    def _masks(self, lists: Lists, width: int) -> tuple[Tensor, Tensor]:
        """What is added to the scores of P prefix tokens: [B, 1, h * P] for the prefix, [B, C, h * P] for candidates.

        Candidates are drawn to their own item and category.
        """
        lowest = torch.finfo(self.dtype).min
        shut = torch.zeros((len(lists.item), 1, width), dtype=self.dtype, device=lists.item.device)
        shut[:, :, width - lists.history :].masked_fill_(~lists.recalled.unsqueeze(1), lowest)
        item = lists.item.unsqueeze(2) == lists.past_item.unsqueeze(1)
        known = torch.where(lists.category > 0, lists.category, -1)
        category = known.unsqueeze(2) == lists.past_category.unsqueeze(1)
        drawn = (item * self._same_item).add_(category * self._same_category)
        bias = shut.repeat(1, lists.item.shape[1], 1)
        bias[:, :, width - lists.history :] += drawn
        heads = self.shape.heads
        return torch.cat((shut,) * heads, -1), torch.cat((bias,) * heads, -1)


class _Layer:
    """One layer of the encoder."""

    def __init__(self, layer: Any, heads: int, dtype: torch.dtype) -> None:
        attention = layer.attention
        own = attention.self
        asks, keys, values = own.query, own.key, own.value
        weight = torch.cat((asks.weight * own.scaling, keys.weight, values.weight))
        bias = torch.cat((asks.bias * own.scaling, keys.bias, values.bias))
        self._heads = heads
        self._gather = _by_head(torch.ones((1, 1, len(keys.weight))), heads)[0].T.to(weight.device, dtype)
        self._spread = self._gather.T.contiguous()
        self._project = _Affine(weight, bias, dtype)
        self._found, self._found_norm = (
            _Affine.of(attention.output.dense, dtype),
            _Norm(attention.output.LayerNorm, dtype),
        )
        self._wide, self._narrow = _Affine.of(layer.intermediate.dense, dtype), _Affine.of(layer.output.dense, dtype)
        self._norm = _Norm(layer.output.LayerNorm, dtype)

    def __call__(
        self, prefix: Tensor, candidates: Tensor, shut: Tensor, bias: Tensor, *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """The tokens after this layer; the last one's prefix nobody reads.

        Weights are exponentials of scores held between -80 and 60, divided by their sum at the end.
        """
        asked, key, value = self._project(prefix).chunk(3, -1)
        keys, values = _by_head(key, self._heads).transpose(1, 2), _by_head(value, self._heads)
        values = torch.cat((values, self._ones(values)), -1)
        after = prefix
        if not last:
            found, total = self._attend(asked, keys, values, shut)
            after = self._after(prefix, found * (total.reciprocal() @ self._spread))
        asked, key, value = self._project(candidates).chunk(3, -1)
        found, total = self._attend(asked, keys, values, bias)
        own = ((asked * key) @ self._gather).clamp_(LEAST, MOST).exp_()
        total = (total + own).reciprocal_()
        found = (found * (total @ self._spread)).addcmul_(own.mul_(total) @ self._spread, value)
        return after, self._after(candidates, found)

    def _attend(self, asked: Tensor, keys: Tensor, values: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        """Values [B, N, d] of the prefix summed by weight, and the sums of the weights [B, N, h]."""
        weight = (asked @ keys).add_(added).clamp_(LEAST, MOST).exp_()
        found = weight @ values
        return found[..., : -self._heads], found[..., -self._heads :]

    def _ones(self, values: Tensor) -> Tensor:
        """[B, h * P, h]: for each head the places of its own tokens."""
        each = torch.eye(self._heads, dtype=values.dtype, device=values.device)
        return each.repeat_interleave(values.shape[1] // self._heads, 0).expand(len(values), -1, -1)

    def _after(self, tokens: Tensor, found: Tensor) -> Tensor:
        tokens = self._found_norm(self._found(found).add_(tokens))
        return self._norm(self._narrow(gelu(self._wide(tokens))).add_(tokens))


def _by_head(part: Tensor, heads: int) -> Tensor:
    """[B, P, d] -> [B, h * P, d]: head after head, zero outside of the head's own share of d."""
    users, width, d = part.shape
    spread = part.new_zeros((users, heads, width, heads, d // heads))
    spread.diagonal(dim1=1, dim2=3).copy_(part.reshape(users, width, heads, -1).transpose(2, 3))
    return spread.view(users, -1, d)


class _Affine:
    """A linear layer in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._weight = weight.detach().to(dtype)
        self._bias = None if bias is None else bias.detach().to(dtype)

    @classmethod
    def of(cls, layer: nn.Linear, dtype: torch.dtype) -> _Affine:
        return cls(layer.weight, layer.bias, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self._weight, self._bias)


class _Norm:
    """A layer norm in `dtype`."""

    def __init__(self, norm: Any, dtype: torch.dtype) -> None:
        self._weight, self._bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)
