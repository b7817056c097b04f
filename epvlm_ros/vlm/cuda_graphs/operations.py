"""
What the fixed-shape functions are made of, beside matrix products: in plain torch.

``FusedOperations`` in ``kernels`` does the same with one kernel each on a GPU. Both round where
the library rounds: norms and rotary embeddings compute in float32, sums of the residual stream in
the number type of the model.
"""

from __future__ import annotations

from collections.abc import Mapping

from epvlm_ros.vlm.cuda_graphs.attention import PartAttention
from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, Layer, Linear, Mlp, Norm
from epvlm_ros.vlm.packed_weights import multiply, PackedMatrix
import torch
from torch import Tensor
from torch.nn import functional


class Operations:
    """
    In plain torch, on any device.

    ``hidden`` is the residual stream, shape (tokens, dim); ``add_norm`` and ``linear_add`` change
    it. ``cos`` and ``sin`` are of the rotary embedding of each token, (tokens, head_dim / 2).
    """

    # Least bound of attention over the cache; larger ones double, and each is worth functions of
    # its own.
    least_bound = 256

    def embed(self, weights: DecoderWeights, token_ids: Tensor) -> Tensor:
        """Return the embeddings (tokens, dim) of int64 token ids (tokens,)."""
        return weights.embed(token_ids)

    def multiply(self, values: Tensor, linear: Linear) -> Tensor:
        """Return the product of (tokens, inputs), (tokens, outputs)."""
        if isinstance(linear.weight, PackedMatrix):
            return multiply(values, linear.weight, linear.bias)
        return functional.linear(values, linear.weight, linear.bias)

    def add_norm(self, hidden: Tensor, delta: Tensor | None, norm: Norm) -> Tensor:
        """
        Add ``delta`` to the residual stream and return it normalized.

        ``delta`` may come in parts (parts, tokens, dim) that are to be summed up.
        """
        if delta is not None:
            hidden += whole(delta, hidden.dtype)
        return normalize(hidden, norm)

    def activate(self, values: Tensor, activation: str) -> Tensor:
        """Return the activation of an MLP; ``values`` may be used as memory."""
        if activation == 'quick_gelu':
            return values * torch.sigmoid(1.702 * values)
        if activation == 'gelu':
            return functional.gelu(values)
        if activation == 'gelu_pytorch_tanh':
            return functional.gelu(values, approximate='tanh')
        gate, up = values.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def split_k_linear(self, values: Tensor, linear: Linear) -> Tensor:
        """Return a product for ``add_norm``: whole, or in parts that are to be summed up."""
        return self.multiply(values, linear)

    def activated_linear(self, values: Tensor, mlp: Mlp) -> Tensor:
        """Return the activation of an MLP after its first product."""
        return self.activate(self.multiply(values, mlp.up), mlp.activation)

    def apply_rope(self, values: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Rotate queries or keys (tokens, heads, head_dim) in place, in float32."""
        low, high = values.float().chunk(2, dim=-1)
        cos, sin = cos[:, None].float(), sin[:, None].float()
        values.copy_(torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1))

    def normalize_heads(self, qkv: Tensor, layer: Layer, num_heads: int, head_dim: int) -> None:
        """Normalize each head of queries and keys in place, in a layer that does so."""
        if layer.query_norm is None or layer.key_norm is None:
            return
        heads = qkv.unflatten(1, (-1, head_dim))  # (tokens, heads of all three, dim)
        num_key_heads = (heads.shape[1] - num_heads) // 2
        queries, keys, _ = heads.split([num_heads, num_key_heads, num_key_heads], dim=1)
        queries.copy_(normalize(queries, layer.query_norm))
        keys.copy_(normalize(keys, layer.key_norm))

    def apply_rope_and_store(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, cache: StaticCache, layer: int,
        places: Tensor,
    ) -> Tensor:
        """
        Rotate queries and keys, and write keys and values to their places, int64 (tokens,).

        Returns the queries, shape (tokens, heads, head_dim).
        """
        num_kv_heads, head_dim = cache.num_heads, cache.head_dim
        values = qkv.unflatten(1, (-1, head_dim))  # (tokens, heads of all three, dim)
        num_heads = values.shape[1] - 2 * num_kv_heads
        self.apply_rope(values[:, :num_heads + num_kv_heads], cos, sin)
        _, keys, new_values = values.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
        cache.keys[layer].index_copy_(1, places, keys.transpose(0, 1))
        cache.values[layer].index_copy_(1, places, new_values.transpose(0, 1))
        return values[:, :num_heads]

    def attend_to_cache(
        self, queries: Tensor, cache: StaticCache, layer: int, places: Tensor, bound: int,
        visible: Tensor | None = None,
    ) -> Tensor:
        """
        Attend from tokens at their places, int64 (tokens,), to all tokens up to themselves.

        Takes rotated queries (tokens, heads, head_dim), returns (tokens, heads * head_dim). All
        keys lie before ``bound``; they are seen where ``visible``, bool (capacity,), says so.
        """
        tokens, heads, dim = queries.shape
        keys, values = cache.keys[layer, :, :bound], cache.values[layer, :, :bound]
        mask = torch.arange(bound, device=queries.device) <= places[:, None]
        if visible is not None:
            mask &= visible[:bound]
        # heads that share keys become further rows of queries of one head
        group = heads // cache.num_heads
        rows = queries.reshape(tokens, cache.num_heads, group, dim).permute(1, 0, 2, 3)
        mixed = functional.scaled_dot_product_attention(
            rows.reshape(1, cache.num_heads, tokens * group, dim), keys[None], values[None],
            attn_mask=mask.repeat_interleave(group, dim=0))
        mixed = mixed.reshape(cache.num_heads, tokens, group, dim)
        return mixed.permute(1, 0, 2, 3).reshape(tokens, heads * dim)

    def merge_parts(self, mixed: Tensor, sums: Tensor) -> Tensor:
        """
        Return what attention to all keys gives, (tokens, heads, head_dim), from parts of them.

        Takes the values mixed by each part alone, (parts, heads, tokens, head_dim), and the
        logarithms of its sums of exponentials, float32 (parts, heads, tokens).
        """
        merged = (mixed.float() * sums.softmax(dim=0)[..., None]).sum(dim=0)
        return merged.transpose(0, 1).to(mixed.dtype, memory_format=torch.contiguous_format)

    def find_part_kernels(
        self, query: Tensor, key: Tensor, value: Tensor,
    ) -> Mapping[str, PartAttention]:
        """
        Return kernels for attention to parts of the keys of such tensors, by names.

        Each (1, heads, tokens, head_dim), keys and values the beginning of a cache, behind which
        numbers stand.
        """
        return {}

    # What follows is for a single token.

    def linear(self, hidden: Tensor, norm: Norm | None, linear: Linear) -> Tensor:
        """Return a product after a norm."""
        if norm is not None:
            hidden = normalize(hidden, norm)
        return self.multiply(hidden, linear)

    def linear_add(self, values: Tensor, linear: Linear, hidden: Tensor) -> None:
        """Add a product to the residual stream."""
        hidden += self.multiply(values, linear)

    def gated_linear(self, hidden: Tensor, norm: Norm, mlp: Mlp) -> Tensor:
        """Return the activation of an MLP after a norm and its first product."""
        return self.activate(self.linear(hidden, norm, mlp.up), mlp.activation)

    def attend_and_store(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, cache: StaticCache, layer: int,
        cursor: Tensor, bound: int,
    ) -> Tensor:
        """
        Append one token to the cache and attend from it to all.

        Takes (1, all heads * head_dim), the tables of ``DecoderWeights``, and in ``cursor``,
        int64, the token's place in the cache and its M-RoPE position.
        """
        place, position = cursor[0:1], cursor[1:2]
        queries = self.apply_rope_and_store(qkv, cos[position], sin[position], cache, layer, place)
        return self.attend_to_cache(queries, cache, layer, place, bound)


def whole(delta: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum of the parts of a product, or what is whole already."""
    return delta.sum(dim=0).to(dtype) if delta.ndim == 3 else delta


def normalize(hidden: Tensor, norm: Norm) -> Tensor:
    """Return LayerNorm or RMSNorm as the library rounds it."""
    if norm.bias is not None:
        return functional.layer_norm(
            hidden, hidden.shape[-1:], norm.weight, norm.bias, norm.eps)
    exact = hidden.float()
    exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + norm.eps)
    return norm.weight * exact.to(hidden.dtype)
