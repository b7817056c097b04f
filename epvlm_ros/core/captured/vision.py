"""The encoder for any image: which function of fixed shapes, and its inputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from epvlm_ros.core.captured.attention import FastestAttention
from epvlm_ros.core.captured.encoder import attend_to_all, attend_within, encode
from epvlm_ros.core.captured.graphs import FixedFunction, GraphPool
from epvlm_ros.core.captured.operations import Operations
from epvlm_ros.core.captured.sizes import GrowingRows, padded_size
from epvlm_ros.core.captured.weights import EncoderWeights
from epvlm_ros.core.patch_grid import order_by_window
from epvlm_ros.core.selection import token_budget
from epvlm_ros.core.sparse_qwen_vl import VisionInput
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class EncoderInput:
    """
    What a function reads.

    Parameters
    ----------
    patches : torch.Tensor
        Shape (patches, values of a patch).
    places : torch.Tensor
        int64, shape (patches, 2), row and column of each in the full image.
    image_ends : torch.Tensor
        int32, (0, patches that are not padding, all patches).
    window_ends : torch.Tensor
        int32, shape (tokens + 1,), where each window begins and ends.

    """

    patches: Tensor
    places: Tensor
    image_ends: Tensor
    window_ends: Tensor


class CapturedEncoder:
    """
    Encodes kept tokens, padded to the next of a few sizes unless their number is a usual one.

    Parameters
    ----------
    weights : EncoderWeights
        The model.
    operations : Operations
        What the functions are made of.
    pool : GraphPool
        Where they are kept.
    usual_ratios : collection of float
        Keep ratios whose numbers of tokens get functions without padding.

    """

    def __init__(
        self, weights: EncoderWeights, operations: Operations, pool: GraphPool,
        usual_ratios: Collection[float],
    ) -> None:
        self._weights, self._operations, self._pool = weights, operations, pool
        self._usual_ratios = frozenset(usual_ratios) | {1.0}
        self._attention = FastestAttention()
        self._patches = GrowingRows(weights.patches.weight)
        self._staging = torch.empty(0)

    def size_for(self, vision: VisionInput) -> int:
        """Return how many tokens are computed on, padding included."""
        num_kept, num_tokens = len(vision.kept_indices), vision.rows * vision.cols
        usual = {token_budget(ratio, num_tokens) for ratio in self._usual_ratios}
        return num_kept if num_kept in usual else padded_size(num_kept, 8, 8)

    def encode(self, vision: VisionInput) -> Tensor:
        """Return the features of the kept tokens, shape (kept, dim of the language model)."""
        num_kept, size = len(vision.kept_indices), self.size_for(vision)
        order, window_sizes = self._order(vision)
        function = self._pool.find(
            ('encoder', size, size == num_kept),
            lambda: self._make_function(size, is_padded=size > num_kept))
        self._fill(function.inputs, vision, order, window_sizes)
        features = function()[:num_kept]
        if not self._weights.windowed:
            return features.clone()
        back = torch.from_numpy(np.argsort(order)).to(features.device)
        return features.index_select(0, back)

    def _order(self, vision: VisionInput) -> tuple[np.ndarray, np.ndarray]:
        if self._weights.windowed:
            return order_by_window(
                vision.kept_indices, vision.cols, self._weights.window_size)
        num_kept = len(vision.kept_indices)
        return np.arange(num_kept), np.array([num_kept])

    def _make_function(self, size: int, *, is_padded: bool) -> FixedFunction:
        weights, device = self._weights, self._pool.device
        num_patches = size * weights.patches_per_token
        inputs = EncoderInput(
            self._patches.first(num_patches),
            torch.zeros(num_patches, 2, dtype=torch.int64, device=device),
            torch.zeros(3, dtype=torch.int32, device=device),
            torch.zeros(size + 1, dtype=torch.int32, device=device))
        attention: Any = partial(attend_to_all, attend=self._attention)
        if is_padded:
            attention = partial(attend_within, ends=inputs.image_ends, longest=num_patches)
        longest = weights.window_size ** 2 * weights.patches_per_token
        window_attention = partial(attend_within, ends=inputs.window_ends, longest=longest)
        return FixedFunction(
            partial(encode, weights, self._operations, inputs.patches, inputs.places, attention,
                    window_attention), inputs)

    def _fill(
        self, inputs: EncoderInput, vision: VisionInput, order: np.ndarray,
        window_sizes: np.ndarray,
    ) -> None:
        per_token = self._weights.patches_per_token
        length, total = len(order) * per_token, len(inputs.patches)
        inputs.patches[:length] = self._kept_patches(vision, order)
        row, col = np.divmod(vision.kept_indices[order], vision.cols)
        side = round(per_token ** 0.5)
        inside = np.indices((side, side)).reshape(2, -1).T
        places = np.stack([row, col], axis=1)[:, None] * side + inside
        inputs.places[:length].copy_(
            torch.from_numpy(places.reshape(-1, 2)), non_blocking=True)
        inputs.image_ends.copy_(
            torch.tensor([0, length, total], dtype=torch.int32), non_blocking=True)
        if self._weights.windowed:
            longest = self._weights.window_size ** 2
            ends = np.full(len(inputs.window_ends), total, np.int32)
            ends[0] = 0
            ends[1:len(window_sizes) + 1] = np.cumsum(window_sizes) * per_token
            # padding makes windows of its own
            padding = np.arange(length, total, longest * per_token)
            ends[len(window_sizes):len(window_sizes) + len(padding)] = padding
            inputs.window_ends.copy_(torch.from_numpy(ends), non_blocking=True)

    def _kept_patches(self, vision: VisionInput, order: np.ndarray) -> Tensor:
        """Return the values of the kept patches in this order, on the device."""
        pixels, device = vision.pixel_values, self._pool.device
        tokens = pixels.unflatten(0, (vision.rows * vision.cols, -1))
        kept = torch.from_numpy(vision.kept_indices[order])
        if pixels.device.type != 'cpu' or device.type == 'cpu':
            return tokens.index_select(0, kept.to(pixels.device)).flatten(0, 1)
        shape = (len(kept), *tokens.shape[1:])
        needed = len(kept) * tokens[0].numel()
        if self._staging.numel() < needed or self._staging.dtype != pixels.dtype:
            self._staging = torch.empty(needed, dtype=pixels.dtype, pin_memory=True)
        else:
            torch.cuda.current_stream(device).synchronize()  # it may still be read from
        staged = self._staging[:needed].view(shape)
        torch.index_select(tokens, 0, kept, out=staged)
        return staged.to(device, non_blocking=True).flatten(0, 1)
