"""The language model for any prompt: which function of fixed shapes, and its inputs."""

from __future__ import annotations

from functools import partial
import math

from epvlm_ros.vlm.cuda_graphs.device_sampler import DeviceSampler, PendingToken, SamplerKind
from epvlm_ros.vlm.cuda_graphs.graphs import FixedShapeFunction, GraphPool
from epvlm_ros.vlm.cuda_graphs.language_model import LanguageModel, Prompt
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.sizes import GrowingRows, padded_size
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, MAX_POSITIONS
from epvlm_ros.vlm.sparse_qwen import Sampling, VisualFeatures
from epvlm_ros.vlm.sparse_qwen.sampling import log_probability_of, margin_of
import torch
from torch import Tensor


class LanguageModelGraphs:
    """
    Runs prompts and steps over one static cache, a prompt padded to the next of a few sizes.

    ``cache_tokens`` is the most of a prompt and its answer, ``num_deepstack`` the number of
    layers that visual features are added after.
    """

    def __init__(
        self, weights: DecoderWeights, operations: Operations, pool: GraphPool, cache_tokens: int,
        num_deepstack: int,
    ) -> None:
        self.cache = weights.make_cache(cache_tokens)
        self._least_bound, self._pool = operations.least_bound, pool
        self._visual = [GrowingRows(weights.like, weights.embedding.shape[1])
                        for _ in range(1 + num_deepstack)]
        self._model = LanguageModel(weights, operations, self.cache)
        # id, log-probability and margin of the last token
        self._sampled = self._model.logits.new_zeros(3, dtype=torch.float64)
        self._sampler = DeviceSampler(len(self._model.logits), cache_tokens + 1, pool.device)

    @property
    def logits(self) -> Tensor:
        """After the last token, float32, shape (vocabulary,); the next run overwrites them."""
        return self._model.logits

    def fits(self, num_tokens: int, last_position: int, offset: int = 0) -> bool:
        """Tell whether the cache and the table of positions have room for more tokens."""
        return (offset + _prompt_size(num_tokens) <= self.cache.capacity
                and last_position + self.cache.capacity <= MAX_POSITIONS)

    def run_prompt(
        self, ids: Tensor, source: Tensor, positions: Tensor, offset: int, next_position: int,
        features: VisualFeatures | None,
    ) -> None:
        """
        Run some tokens of a prompt, from ``offset`` in the cache on.

        All as in ``Prompt``, on the CPU; without ``features`` all tokens are text.
        """
        size = _prompt_size(len(ids))
        bound = None if features is not None else self._bound(offset + size)
        function = self._pool.find(
            ('prompt', size, bound), lambda: self._make_prompt(size, bound))
        host, prompt, visual = function.buffers
        host.fill(ids, source, positions, offset, next_position)
        prompt.packed.copy_(host.packed, non_blocking=True)
        if features is not None:
            for rows, values in zip(visual, (features.tokens, *features.deepstack)):
                rows[:len(values)] = values
        function()

    def step(self, num_tokens: int, token_id: int) -> None:
        """Append a token to a cache of so many."""
        self._model.token.fill_(token_id)
        self._run_step(num_tokens, None)

    def start_sampling(self, sampling: Sampling, prompt_ids: Tensor, max_new_tokens: int) -> None:
        """Get ready for the answer to the prompt that was run last."""
        self._sampler.start(sampling, prompt_ids, max_new_tokens)

    def sample_first(self, kind: SamplerKind) -> PendingToken:
        """Launch what samples the first token of an answer; -1 if the logits are not finite."""
        def run() -> None:
            model, sampled = self._model, self._sampled
            self._sample(kind)
            sampled[2:].copy_(margin_of(model.logits, model.token))
            bad = model.logits.isfinite().all().logical_not()
            sampled[:1].masked_fill_(bad, -1.0)

        self._pool.find(kind, lambda: FixedShapeFunction(run))()
        return PendingToken(self._sampled)

    def sample_next(self, num_tokens: int, kind: SamplerKind) -> PendingToken:
        """Launch what appends the token before to a cache of so many and samples the next one."""
        self._run_step(num_tokens, kind)
        return PendingToken(self._sampled)

    def _sample(self, kind: SamplerKind) -> None:
        model, sampled = self._model, self._sampled
        model.token.copy_(self._sampler.next_token(model.logits, model.cursor[2:3], kind))
        sampled[:1].copy_(model.token)
        sampled[1:2].copy_(log_probability_of(model.logits, model.token))
        sampled[2:].fill_(math.nan)  # that of the first token is enough

    def _run_step(self, num_tokens: int, kind: SamplerKind | None) -> None:
        """Append the token, and sample the next one unless ``kind`` is None."""
        bound = self._bound(num_tokens + 1)

        def run() -> None:
            self._model.step(bound)
            if kind is not None:
                self._sample(kind)

        self._pool.find(('step', bound, kind), lambda: FixedShapeFunction(run))()

    def _make_prompt(self, size: int, bound: int | None) -> FixedShapeFunction:
        host, prompt = Prompt(size, torch.device('cpu')), Prompt(size, self._pool.device)
        visual = [rows.first(size) for rows in self._visual] if bound is None else []
        return FixedShapeFunction(
            partial(self._model.prefill, prompt, visual, bound), (host, prompt, visual))

    def _bound(self, num_tokens: int) -> int:
        """Return up to where attention looks in the cache, at least ``num_tokens``."""
        bound = max(self._least_bound, 1 << (num_tokens - 1).bit_length())
        return min(self.cache.capacity, bound)


def _prompt_size(num_tokens: int) -> int:
    """Return how many tokens a prompt takes in the cache, padding included."""
    return padded_size(num_tokens, 16, 16)
