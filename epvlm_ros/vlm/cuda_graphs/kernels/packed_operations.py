"""The operations on a GPU where weights have 4 and 8 bits."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.kernels.fused import (
    device_properties, FusedOperations, launch_options, MAX_SKINNY_TOKENS)
from epvlm_ros.vlm.cuda_graphs.kernels.packed_products import PackedProducts
from epvlm_ros.vlm.cuda_graphs.operations import whole
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, Linear, Mlp, Norm
from epvlm_ros.vlm.packed_weights import PackedMatrix
from torch import Tensor


class PackedOperations(FusedOperations):
    """
    See ``Operations``; with plain weights as ``FusedOperations``.

    Products with 4 bits start early also where others do not, with ``four_bits_start_early``.
    """

    def __init__(
        self, *, programmatic_launch: bool = False, four_bits_start_early: bool = False,
    ) -> None:
        super().__init__(programmatic_launch=programmatic_launch)
        self._products = PackedProducts({
            4: launch_options(programmatic_launch or four_bits_start_early),
            8: self._launch}, _num_processors)

    def embed(self, weights: DecoderWeights, token_ids: Tensor) -> Tensor:
        """Return embeddings."""
        if isinstance(weights.embedding, PackedMatrix):
            return self._products.embed(weights.embedding, token_ids, weights.like)
        return super().embed(weights, token_ids)

    def multiply(self, values: Tensor, linear: Linear) -> Tensor:
        """Return a product."""
        if not isinstance(linear.weight, PackedMatrix):
            return super().multiply(values, linear)
        if len(values) <= MAX_SKINNY_TOKENS and self._products.can_run_few(values, linear.weight):
            return whole(self._products.run_few(values, linear), values.dtype)
        return self._products.run_many(values, linear)

    def split_k_linear(self, values: Tensor, linear: Linear) -> Tensor:
        """Return a product, of a few tokens split over its columns."""
        if not isinstance(linear.weight, PackedMatrix):
            return super().split_k_linear(values, linear)
        if len(values) <= MAX_SKINNY_TOKENS and self._products.can_run_few(values, linear.weight):
            return self._products.run_few(values, linear)
        return self._products.run_many(values, linear)

    def activated_linear(self, values: Tensor, mlp: Mlp) -> Tensor:
        """Return the activation after a product."""
        if not isinstance(mlp.up.weight, PackedMatrix):
            return super().activated_linear(values, mlp)
        return self.activate(self.multiply(values, mlp.up), mlp.activation)

    def linear(self, hidden: Tensor, norm: Norm | None, linear: Linear) -> Tensor:
        """Return a product after a norm."""
        if not isinstance(linear.weight, PackedMatrix):
            return super().linear(hidden, norm, linear)
        if not self._can_run_token(hidden, norm, linear):
            normed = hidden if norm is None else self.add_norm(hidden, None, norm)
            return self.multiply(normed, linear)
        result = hidden.new_empty(1, linear.weight.shape[0])
        self._products.run_token(hidden, norm, linear, result)
        return result

    def linear_add(self, values: Tensor, linear: Linear, hidden: Tensor) -> None:
        """Add a product to the residual stream."""
        if not isinstance(linear.weight, PackedMatrix):
            super().linear_add(values, linear, hidden)
        elif self._can_run_token(values, None, linear):
            self._products.run_token(values, None, linear, hidden, adds=True)
        else:
            hidden += self.multiply(values, linear)

    def gated_linear(self, hidden: Tensor, norm: Norm, mlp: Mlp) -> Tensor:
        """Return the activation after a norm and a product."""
        if not isinstance(mlp.up.weight, PackedMatrix):
            return super().gated_linear(hidden, norm, mlp)
        if (mlp.up.bias is not None or mlp.activation != 'gated_silu'
                or not self._can_run_token(hidden, norm, mlp.up)):
            return self.activate(self.linear(hidden, norm, mlp.up), mlp.activation)
        result = hidden.new_empty(1, mlp.up.weight.shape[0] // 2)
        self._products.run_token(hidden, norm, mlp.up, result, is_gated=True)
        return result

    def _can_run_token(self, values: Tensor, norm: Norm | None, linear: Linear) -> bool:
        matrix = linear.weight
        assert isinstance(matrix, PackedMatrix)
        return (norm is None or norm.bias is None and matrix.order is None) and (
            self._products.can_run_token(values, matrix))


def _num_processors(values: Tensor) -> int:
    return device_properties(values.device)['multiprocessor_count'] if values.is_cuda else 1
