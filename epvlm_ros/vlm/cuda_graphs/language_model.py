"""The language model as functions of fixed shapes: some tokens of a prompt, and one token more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from epvlm_ros.vlm.cuda_graphs.attention import FastestAttention
from epvlm_ros.vlm.cuda_graphs.operations import Operations, whole
from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, Layer
import torch
from torch import Tensor


class Prompt:
    """The inputs of a prefill of ``capacity`` tokens in one tensor, so that one copy sets all."""

    NUM_SCALARS = 3

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.packed = torch.zeros(
            5 * capacity + self.NUM_SCALARS, dtype=torch.int64, device=device)
        ids, source, positions = self.packed[self.NUM_SCALARS:].split(
            [capacity, capacity, 3 * capacity])
        self.ids = ids  # (capacity,)
        self.source = source  # (capacity,), which visual feature stands here, -1 for text
        self.positions = positions.view(3, capacity)  # M-RoPE: time, height, width
        self.offset = self.packed[0:1]  # place of the first token in the cache
        self.length = self.packed[1:2]  # tokens that are not padding
        self.next_position = self.packed[2:3]  # of the token after them

    def fill(self, ids: Tensor, source: Tensor, positions: Tensor, offset: int,
             next_position: int) -> None:
        """Set everything; the rest becomes padding."""
        length = len(ids)
        self.packed.zero_()
        self.ids[:length], self.source[:length] = ids, source
        self.source[length:] = -1
        self.positions[:, :length] = positions
        self.packed[:self.NUM_SCALARS] = torch.tensor([offset, length, next_position])


class LanguageModel:
    """Prefill and decoding step over one static cache, which every call changes."""

    def __init__(
        self, weights: DecoderWeights, operations: Operations, cache: StaticCache,
    ) -> None:
        self._weights, self._operations, self._cache = weights, operations, cache
        self._attention = FastestAttention()
        device = weights.like.device
        self.logits = torch.zeros(weights.head.weight.shape[0], device=device)
        self.token = torch.zeros(1, dtype=torch.int64, device=device)
        # place in the cache and M-RoPE position of the next token, and its number in the answer
        self.cursor = torch.zeros(3, dtype=torch.int64, device=device)

    def prefill(
        self, prompt: Prompt, features: Sequence[Tensor], bound: int | None,
    ) -> None:
        """
        Run some tokens of a prompt; sets ``logits`` after the last one and ``cursor``.

        Parameters
        ----------
        prompt : Prompt
            The tokens.
        features : sequence of torch.Tensor
            Visual features, and those that are added after the first, second, ... layer, each of
            shape (any, dim); none if all tokens are text.
        bound : int or None
            None if the tokens are the first ones of the cache; else all tokens in the cache lie
            before it.

        """
        weights = self._weights
        is_visual = prompt.source[:, None] >= 0
        source = prompt.source.clamp(min=0)
        hidden = self._operations.embed(weights, prompt.ids)
        if features:
            hidden = torch.where(is_visual, features[0].index_select(0, source), hidden)
        places = prompt.offset + torch.arange(prompt.capacity, device=hidden.device)

        def attend(queries: Tensor, number: int) -> Tensor:
            return self._attend(queries, number, places, bound)

        hidden, queries = run_layers(
            weights, self._operations, hidden, rotation_of(weights, prompt.positions),
            self._cache, places, attend,
            [part.index_select(0, source) * is_visual for part in features[1:]])
        last = prompt.length - 1  # of the last layer one token is enough
        mixed = self._operations.attend_to_cache(
            queries.index_select(0, last), self._cache, len(weights.layers) - 1,
            prompt.offset + last, bound or prompt.capacity)
        hidden = hidden.index_select(0, last)
        self._finish_layer(hidden, mixed, weights.layers[-1])
        self._set_logits(hidden)
        self.cursor[0:1] = prompt.offset + prompt.length
        self.cursor[1:2] = prompt.next_position
        self.cursor[2:3] = 0

    def step(self, bound: int) -> None:
        """
        Append ``token`` and set ``logits`` after it; ``cursor`` moves on.

        All tokens in the cache, the new one included, lie before ``bound``.
        """
        weights, operations = self._weights, self._operations
        hidden = operations.embed(weights, self.token)
        for number, layer in enumerate(weights.layers):
            qkv = operations.linear(hidden, layer.norm_before_attention, layer.qkv)
            operations.normalize_heads(qkv, layer, weights.num_heads, weights.head_dim)
            mixed = operations.attend_and_store(
                qkv, weights.cos, weights.sin, self._cache, number, self.cursor, bound)
            self._finish_layer(hidden, mixed, layer)
        self._set_logits(hidden)
        self.cursor += 1

    def _attend(
        self, queries: Tensor, number: int, places: Tensor, bound: int | None,
    ) -> Tensor:
        if bound is not None:
            return self._operations.attend_to_cache(queries, self._cache, number, places, bound)
        tokens = len(queries)
        mixed = self._attention(
            queries.transpose(0, 1)[None], self._cache.keys[number, None, :, :tokens],
            self._cache.values[number, None, :, :tokens], is_causal=True,
            enable_gqa=self._weights.group_size > 1)
        return mixed[0].transpose(0, 1).flatten(1)

    def _finish_layer(self, hidden: Tensor, mixed: Tensor, layer: Layer) -> None:
        """Add attention and MLP to the residual stream of a single token."""
        self._operations.linear_add(mixed, layer.out, hidden)
        activated = self._operations.gated_linear(hidden, layer.norm_before_mlp, layer.mlp)
        self._operations.linear_add(activated, layer.mlp.down, hidden)

    def _set_logits(self, hidden: Tensor) -> None:
        logits = self._operations.linear(hidden, self._weights.norm, self._weights.head)
        self.logits.copy_(logits[0])


def rotation_of(weights: DecoderWeights, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (tokens, head_dim / 2) of M-RoPE positions (3, tokens)."""
    angles = positions.index_select(0, weights.axes).T  # each frequency by its axis
    return weights.cos.gather(0, angles), weights.sin.gather(0, angles)


def run_layers(
    weights: DecoderWeights, operations: Operations, hidden: Tensor,
    rotation: tuple[Tensor, Tensor], cache: StaticCache, places: Tensor,
    attend: Callable[[Tensor, int], Tensor], added: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """
    Run some tokens through the layers, up to the keys and values of the last one.

    Parameters
    ----------
    weights, operations
        Of the language model.
    hidden : torch.Tensor
        Shape (tokens, dim), changed.
    rotation : tuple of torch.Tensor
        Cosines and sines, (tokens, head_dim / 2).
    cache : StaticCache
        Takes keys and values.
    places : torch.Tensor
        int64 (tokens,), where.
    attend : callable
        From queries (tokens, heads, head_dim) and the number of a layer to (tokens, heads *
        head_dim).
    added : sequence of torch.Tensor
        What is added after the first, second, ... layer, of the shape of ``hidden``.

    Returns
    -------
    tuple of torch.Tensor
        The residual stream before the last layer, and the queries of that layer.

    """
    delta = None
    for number, layer in enumerate(weights.layers):
        normed = operations.add_norm(hidden, delta, layer.norm_before_attention)
        qkv = operations.multiply(normed, layer.qkv)
        operations.normalize_heads(qkv, layer, weights.num_heads, weights.head_dim)
        queries = operations.apply_rope_and_store(qkv, *rotation, cache, number, places)
        if number + 1 == len(weights.layers):
            break
        delta = operations.split_k_linear(attend(queries, number), layer.out)
        normed = operations.add_norm(hidden, delta, layer.norm_before_mlp)
        activated = operations.activated_linear(normed, layer.mlp)
        delta = operations.split_k_linear(activated, layer.mlp.down)
        if number < len(added):
            hidden, delta = hidden + whole(delta, hidden.dtype), added[number]
    return hidden, queries
