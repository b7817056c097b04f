"""The encoder for any image: which function of fixed shapes, and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
import logging
from typing import Any

from epvlm_ros.vlm.cuda_graphs.attention import FastestAttention, VarlenAttention
from epvlm_ros.vlm.cuda_graphs.encoder import attend_to_all, encode, EncoderInput
from epvlm_ros.vlm.cuda_graphs.graphs import FixedShapeFunction, GraphPool
from epvlm_ros.vlm.cuda_graphs.kept_patches import KeptPatches
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.sizes import GrowingRows, padded_size
from epvlm_ros.vlm.cuda_graphs.weights import EncoderWeights, Unsupported
from epvlm_ros.vlm.patch_grid import order_by_window
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl, VisionInput, VisualFeatures
from epvlm_ros.vlm.token_selection import token_budget
import numpy as np
import torch
from torch import Tensor

_log = logging.getLogger(__name__)


class CudaGraphEncoder:
    """
    Encodes kept tokens, padded to the next of a few sizes unless their number is a usual one.

    ``usual_ratios`` are keep ratios whose numbers of tokens get functions without padding.
    ``mix_positions`` returns entries and shares of the learned positions of the kept patches, see
    ``EncoderInput``; it is only called where there are any.
    """

    def __init__(
        self, weights: EncoderWeights, operations: Operations, pool: GraphPool,
        usual_ratios: Collection[float],
        mix_positions: Callable[[VisionInput], tuple[Tensor, Tensor]],
    ) -> None:
        self.mix_positions = mix_positions
        self.weights, self._operations, self._pool = weights, operations, pool
        self._usual_ratios = frozenset(usual_ratios) | {1.0}
        self._attention = FastestAttention()
        self._attention_within = VarlenAttention()
        self._patches = GrowingRows(weights.like, weights.patches.weight.shape[1])
        mergers = [weights.merger, *weights.deepstack.values()]
        self._features = [
            GrowingRows(weights.like, merger.mlp.down.weight.shape[0]) for merger in mergers]
        self._kept_patches = KeptPatches(pool.device)

    def size_for(self, vision: VisionInput) -> int:
        """Return how many tokens are computed on, padding included."""
        num_kept = len(vision.kept_indices)
        usual = {token_budget(ratio, vision.num_tokens) for ratio in self._usual_ratios}
        return num_kept if num_kept in usual else padded_size(num_kept, 8, 8)

    def encode(self, vision: VisionInput) -> VisualFeatures:
        """Return the features of the kept tokens."""
        num_kept, size = len(vision.kept_indices), self.size_for(vision)
        of_images = vision.split_by_moment()
        # one image without padding needs no bounds
        num_images = 0 if size == num_kept and len(of_images) == 1 else len(of_images)
        function = self._pool.find(
            ('encoder', size, num_images), lambda: self._make_function(size, num_images))
        inputs, features = function.buffers
        order, window_sizes = self._order(of_images, vision.cols)
        self._fill(inputs, vision, order)
        per_token, num_patches = self.weights.patches_per_token, len(inputs.patches)
        if num_images:
            sizes = [len(kept) for kept in of_images]
            _set_cu_seqlens(inputs.image_cu_seqlens, sizes, per_token, num_patches)
        if self.weights.windowed:
            _set_cu_seqlens(inputs.window_cu_seqlens, window_sizes, per_token, num_patches)
        function()
        if self.weights.windowed:
            back = torch.from_numpy(np.argsort(order)).to(self._pool.device)
            tokens, *deepstack = (values.index_select(0, back) for values in features)
        else:
            tokens, *deepstack = (values[:num_kept].clone() for values in features)
        return VisualFeatures(tokens, tuple(deepstack))

    def _order(
        self, of_images: list[np.ndarray], cols: int,
    ) -> tuple[np.ndarray, list[int]]:
        """Return the kept tokens in the order of the encoder, and those of each window."""
        num_kept = sum(len(kept) for kept in of_images)
        if not self.weights.windowed:
            return np.arange(num_kept), []
        order, sizes = order_by_window(of_images, cols, self.weights.window_size)
        return order, sizes.tolist()

    def _make_function(self, size: int, num_images: int) -> FixedShapeFunction:
        weights, device = self.weights, self._pool.device
        num_patches = size * weights.patches_per_token
        inputs = EncoderInput(
            self._patches.first(num_patches),
            torch.zeros(num_patches, 2, dtype=torch.int64, device=device),
            torch.zeros(num_images + 2, dtype=torch.int32, device=device),
            torch.zeros(size + 2, dtype=torch.int32, device=device),
            torch.zeros(num_patches, 4, dtype=torch.int64, device=device),
            torch.zeros(num_patches, 4, device=device))
        attention: Any = partial(attend_to_all, attend=self._attention)
        if num_images:
            attention = partial(
                self._attention_within, cu_seqlens=inputs.image_cu_seqlens, max_seqlen=num_patches)
        # padding is shorter than an eighth of the tokens, but may be longer than a window
        window = weights.window_size ** 2 * weights.patches_per_token
        window_attention = partial(
            self._attention_within, cu_seqlens=inputs.window_cu_seqlens,
            max_seqlen=max(window, num_patches // 8))
        features = [rows.first(size) for rows in self._features]

        def run() -> None:
            encoded = encode(weights, self._operations, inputs, attention, window_attention)
            for rows, values in zip(features, encoded):
                rows.copy_(values)

        return FixedShapeFunction(run, (inputs, features))

    def _fill(self, inputs: EncoderInput, vision: VisionInput, order: np.ndarray) -> None:
        per_token = self.weights.patches_per_token
        length = len(order) * per_token
        inputs.patches[:length] = self._kept_patches(vision, vision.kept_indices[order])
        places = vision.patch_positions(round(per_token ** 0.5))
        places = places.unflatten(0, (-1, per_token))[torch.from_numpy(order)].flatten(0, 1)
        inputs.places[:length].copy_(places, non_blocking=True)
        if self.weights.learned_positions is not None:
            assert not self.weights.windowed  # else they would have to follow the order
            entries, shares = self.mix_positions(vision)
            inputs.entries[:length].copy_(entries, non_blocking=True)
            inputs.shares[:length].copy_(shares, non_blocking=True)


def make_encoder(
    eager: SparseQwenVl, operations: Operations, pool: GraphPool, usual_ratios: Collection[float],
) -> CudaGraphEncoder | None:
    """Return the encoder of a model in this form, or with a warning None if there is none."""
    encoder: Any = eager.library_model.model.visual
    try:
        weights = EncoderWeights.of(encoder)
    except Unsupported as reason:
        _log.warning('the encoder runs as in the library: %s', reason)
        return None

    def mix_positions(vision: VisionInput) -> tuple[Tensor, Tensor]:
        inputs = eager.family.encoder_inputs(encoder, vision)
        return inputs['interp_indices'], inputs['interp_weights']

    return CudaGraphEncoder(weights, operations, pool, usual_ratios, mix_positions)


def _set_cu_seqlens(cu_seqlens: Tensor, lengths: list[int], per_token: int, total: int) -> None:
    """Set where sequences of so many tokens begin and end, and then the padding up to the end."""
    values = np.full(len(cu_seqlens), total, np.int32)
    values[0] = 0
    values[1:len(lengths) + 1] = np.cumsum(lengths) * per_token
    cu_seqlens.copy_(torch.from_numpy(values), non_blocking=True)
